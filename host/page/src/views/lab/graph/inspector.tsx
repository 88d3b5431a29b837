// The details of the node that is looked at, over the drawing.
import type { JSX } from "preact";
import { Button } from "../../../components/button";
import { StateChip } from "../../../components/state";
import type { Graph } from "../../../topology/drawing";
import type { ShownNode } from "../members";
import { NodeActions, NodeTrouble } from "../node-actions";
import { useScope } from "../scope";

interface Wire {
  mine: string;
  addresses: readonly string[];
  other: string;
}

/** The links of a node, as seen from it. */
const wires = ({ links }: Graph, name: string): Wire[] =>
  links.flatMap(({ a, b, outside }) => {
    const found: Wire[] = [];
    if (a.node === name)
      found.push({ mine: a.interface, addresses: a.addresses, other: b ? `${b.node} ${b.interface}` : outside });
    if (b?.node === name) found.push({ mine: b.interface, addresses: b.addresses, other: `${a.node} ${a.interface}` });
    return found;
  });

interface Props {
  graph: Graph;
  node: ShownNode | undefined;
  /** At the upper edge, since the node is further below. */
  above: boolean;
}

export const Inspector = ({ graph, node, above }: Props): JSX.Element | null => {
  const { lab, selected } = useScope();
  if (!node) return null;
  const facts = [
    ["Kind", node.kind],
    ["Image", node.image],
    ["IPv4", node.ipv4],
    ["IPv6", node.ipv6],
    ["Container", node.containerName],
  ].filter(([, value]) => value);
  return (
    <aside class={above ? "inspector inspector-above" : "inspector"} aria-label={`Node ${node.name}`}>
      <header>
        <h2>{node.name}</h2>
        <StateChip state={node.state} />
        <Button kind="quiet" small icon="close" label="Close" onClick={() => (selected.value = null)} />
      </header>
      <dl class="facts">
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd class="mono">{value}</dd>
          </div>
        ))}
      </dl>
      <ul class="wires" aria-label="Links" tabIndex={0}>
        {wires(graph, node.name).map(({ mine, addresses, other }, index) => (
          <li key={index}>
            <span class="mono">{mine}</span>
            <span class="mono wire-address">{addresses.join(" ")}</span>
            <span class="wire-other">to {other}</span>
          </li>
        ))}
      </ul>
      {lab.instance && <NodeActions node={node} prominent />}
      <NodeTrouble node={node.name} />
    </aside>
  );
};
