// The nodes of a lab as they are shown: those of its instance, or those that its topology will bring up.
import type { LabState, Node } from "../../api/model";
import type { Scope } from "./scope";

export interface ShownNode extends Node {
  image: string;
}

const unborn = (name: string, kind: string, image: string, state: LabState): ShownNode => ({
  name,
  kind,
  image,
  ipv4: "",
  ipv6: "",
  state: state === "deploying" ? "starting" : "inactive",
  containerId: "",
  containerName: "",
  captures: {},
  canRestart: false,
});

/** In the order of the topology; what only the instance has comes last. */
export const nodesOf = ({ lab, state, drawing }: Pick<Scope, "lab" | "state" | "drawing">): ShownNode[] => {
  const live = new Map(lab.nodes.map((node) => [node.name, node]));
  const shown = (drawing?.graph.nodes ?? []).map(({ name, kind, image }) => {
    const node = live.get(name);
    live.delete(name);
    return node ? { ...node, kind: node.kind || kind, image } : unborn(name, kind, image, state);
  });
  return [...shown, ...[...live.values()].map((node) => ({ ...node, image: "" }))];
};
