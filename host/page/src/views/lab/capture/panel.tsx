// Packets at the interfaces of nodes: as a file that the browser keeps, or by a command for Wireshark.
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import * as requests from "../../../api/requests";
import { Button } from "../../../components/button";
import { copy } from "../../../components/clipboard";
import { Empty } from "../../../components/empty";
import { Field } from "../../../components/field";
import { Icon } from "../../../components/icon";
import type { Graph } from "../../../topology/drawing";
import { nodesOf, type ShownNode } from "../members";
import { useScope } from "../scope";

const ENDS: readonly (readonly [string, requests.CaptureEnd])[] = [
  ["after 30 seconds", { seconds: 30 }],
  ["after 5 minutes", { seconds: 300 }],
  // Each of them holds one of the few connections that a browser makes to a server, so none may wait for ever.
  ["after 100 packets", { packets: 100, seconds: 300 }],
  ["after 10,000 packets", { packets: 10_000, seconds: 300 }],
];

/** Where the other end of an interface is; empty: nowhere that the topology knows of. */
const other = (graph: Graph | undefined, node: string, name: string): string => {
  for (const { a, b, outside } of graph?.links ?? []) {
    if (a.node === node && a.interface === name) return b ? `${b.node} ${b.interface}` : outside;
    if (b?.node === node && b.interface === name) return `${a.node} ${a.interface}`;
  }
  return "";
};

const Interface = ({ node, name, end }: { node: ShownNode; name: string; end: requests.CaptureEnd }): JSX.Element => {
  const { lab, drawing } = useScope();
  const copied = useSignal(false);
  const command = node.captures[name] ?? "";
  const to = other(drawing?.graph, node.name, name);
  return (
    <li class="capture-row" data-node={node.name} data-interface={name}>
      <div class="capture-name">
        <strong class="mono">{name}</strong>
        {to && <span class="hint">to {to}</span>}
      </div>
      <a
        class="button button-primary button-small"
        href={requests.captureAddress(lab.id, node.name, name, end)}
        download={`${lab.name}-${node.name}-${name}.pcap`}
        aria-label={`Capture at ${name} of ${node.name}`}
      >
        <Icon name="download" />
        <span>Capture</span>
      </a>
      {command && (
        <Button
          small
          icon={copied.value ? "check" : "copy"}
          label={`Copy the command for ${name} of ${node.name}`}
          onClick={() => void copy(command).then((done) => (copied.value = done))}
        />
      )}
      {command && <code class="capture-command">{command}</code>}
    </li>
  );
};

export const CapturePanel = (): JSX.Element => {
  const scope = useScope();
  const chosen = useSignal(0);
  const nodes = nodesOf(scope).filter(({ state }) => state === "running");
  const [, end] = ENDS[chosen.value] ?? ENDS[0]!;
  if (scope.state !== "running" || nodes.every(({ captures }) => Object.keys(captures).length === 0))
    return (
      <Empty title="Nothing to capture">
        <p>Packets at the interfaces of nodes can be captured while the lab runs.</p>
      </Empty>
    );
  return (
    <div class="captures">
      <Field label="A capture ends" hint="The browser shows it among its downloads, and Wireshark opens it once it has ended.">
        {(id, described) => (
          <select
            id={id}
            aria-describedby={described}
            value={String(chosen.value)}
            onChange={(event) => (chosen.value = Number(event.currentTarget.value))}
          >
            {ENDS.map(([text], index) => (
              <option key={text} value={String(index)}>
                {text}
              </option>
            ))}
          </select>
        )}
      </Field>
      {nodes.map((node) => (
        <section key={node.name} aria-label={`Interfaces of ${node.name}`}>
          <h2>{node.name}</h2>
          <ul>
            {Object.keys(node.captures).map((name) => (
              <Interface key={name} node={node} name={name} end={end} />
            ))}
          </ul>
        </section>
      ))}
    </div>
  );
};
