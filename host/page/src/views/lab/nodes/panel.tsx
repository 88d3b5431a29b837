// The nodes of a lab as a list: the same as the drawing, for those who rather read.
import type { JSX } from "preact";
import { StateChip } from "../../../components/state";
import { Empty, Loading } from "../../../components/empty";
import { nodesOf, type ShownNode } from "../members";
import { NodeActions, NodeTrouble } from "../node-actions";
import { useScope } from "../scope";

const Row = ({ node }: { node: ShownNode }): JSX.Element => {
  const { lab, selected } = useScope();
  const chosen = selected.value === node.name;
  return (
    <li class={`node-row${chosen ? " node-row-chosen" : ""}`} data-node={node.name} data-state={node.state}>
      <button
        type="button"
        class="node-row-name"
        aria-pressed={chosen}
        onClick={() => (selected.value = chosen ? null : node.name)}
      >
        <strong>{node.name}</strong>
        <span class="hint">{[node.kind, node.image].filter(Boolean).join(" · ")}</span>
      </button>
      <StateChip state={node.state} />
      <span class="node-row-address mono">{node.ipv4 || node.ipv6}</span>
      {lab.instance && <NodeActions node={node} />}
      <NodeTrouble node={node.name} />
    </li>
  );
};

export const NodesPanel = (): JSX.Element => {
  const scope = useScope();
  const nodes = nodesOf(scope);
  if (nodes.length === 0 && scope.drawing === undefined) return <Loading what="Reading the topology…" />;
  if (nodes.length === 0) return <Empty title="No nodes" />;
  return (
    <ul class="node-list">
      {nodes.map((node) => (
        <Row key={node.name} node={node} />
      ))}
    </ul>
  );
};
