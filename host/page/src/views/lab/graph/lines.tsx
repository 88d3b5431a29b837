// The links of a drawing, with the names of their interfaces.
import type { JSX } from "preact";
import type { Drawn, GraphLink } from "../../../topology/drawing";
import type { ShownNode } from "../members";

interface Props {
  links: readonly GraphLink[];
  lines: readonly (Drawn | null)[];
  nodes: ReadonlyMap<string, ShownNode>;
  selected: string | null;
  /** Names are shown only of the links of the selected node. */
  compact: boolean;
}

const described = ({ a, b, outside }: GraphLink): string => {
  const end = (node: string, name: string, addresses: readonly string[]): string =>
    [`${node}:${name}`, ...addresses].join(" ");
  return `${end(a.node, a.interface, a.addresses)} — ${b ? end(b.node, b.interface, b.addresses) : outside}`;
};

/** A link is as far as the less far of its nodes. */
const linkState = ({ a, b }: GraphLink, nodes: Props["nodes"]): string => {
  const states = [a, b].flatMap((end) => (end ? [nodes.get(end.node)?.state ?? "inactive"] : []));
  if (states.every((state) => state === "running")) return "up";
  return states.includes("starting") ? "coming" : "down";
};

export const Lines = ({ links, lines, nodes, selected, compact }: Props): JSX.Element => (
  <g class="links">
    {links.map((link, index) => {
      const line = lines[index];
      if (!line) return null;
      const near = selected !== null && (link.a.node === selected || link.b?.node === selected);
      const [from, to] = line.labels;
      return (
        <g key={index} class={`link link-${linkState(link, nodes)}${near ? " link-near" : ""}`}>
          <title>{described(link)}</title>
          <path class="link-touch" d={line.path} />
          <path class="link-line" d={line.path} />
          {(!compact || near) && (
            <text x={from.x} y={from.y}>
              {link.a.interface}
            </text>
          )}
          {link.b ? (
            (!compact || near) && (
              <text x={to.x} y={to.y}>
                {link.b.interface}
              </text>
            )
          ) : (
            <>
              <circle class="link-end" cx={to.x} cy={to.y} r="4" />
              <text x={to.x} y={to.y + 16}>
                {link.outside}
              </text>
            </>
          )}
        </g>
      );
    })}
  </g>
);
