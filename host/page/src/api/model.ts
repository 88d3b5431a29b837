// Labs and what belongs to them, as the page thinks of them, and the one place that maps the wire to that.
import type { WireInstance, WireLab, WireNode, WireTopology } from "./wire";

export type LabState = "scheduled" | "inactive" | "deploying" | "running" | "stopping" | "failed";
/** As the wire has them, and those that follow from the state of the lab. */
export type NodeState = "inactive" | "starting" | "running" | "exited" | "stopping" | "failed";

export interface User {
  id: string;
  name: string;
}

export interface Node {
  name: string;
  kind: string;
  /** Without the length of the prefix; empty: none. */
  ipv4: string;
  ipv6: string;
  state: NodeState;
  containerId: string;
  containerName: string;
  /** By interface, the command that captures on it. */
  captures: Readonly<Record<string, string>>;
  canRestart: boolean;
}

export interface Instance {
  name: string;
  deployed: Date;
  since: Date;
  recovered: boolean;
}

export interface Lab {
  id: string;
  name: string;
  start: Date;
  end: Date | null;
  topologyId: string;
  collectionId: string;
  creator: User;
  definition: string;
  instance: Instance | null;
  nodes: readonly Node[];
  /** What the wire says of the instance; whether a lab without one is scheduled depends on the time. */
  instanceState: LabState | null;
}

export interface Topology {
  id: string;
  collectionId: string;
  name: string;
  definition: string;
  creator: User;
  lastDeployFailed: boolean;
}

const instanceStates: readonly LabState[] = ["deploying", "running", "stopping", "failed"];

/** The state of a lab at a time. */
export const stateOf = (lab: Lab, now: number): LabState =>
  lab.instanceState ?? (lab.start.getTime() > now ? "scheduled" : "inactive");

const nodeState = (node: WireNode, lab: LabState): NodeState => {
  if (lab === "stopping") return "stopping";
  switch (node.state) {
    case "running":
    case "exited":
      return node.state;
    default:
      // It was on its way up when the deploy failed.
      return lab === "failed" ? "failed" : "starting";
  }
};

const node = (wire: WireNode, lab: LabState): Node => ({
  name: wire.name,
  kind: wire.kind,
  ipv4: wire.ipv4,
  ipv6: wire.ipv6,
  state: nodeState(wire, lab),
  containerId: wire.containerId,
  containerName: wire.containerName,
  captures: wire.interfaceCaptures ?? {},
  canRestart: wire.canRestart,
});

const instanceState = (wire: WireInstance): LabState => instanceStates[wire.state] ?? "failed";

export const lab = (wire: WireLab): Lab => {
  const instance = wire.instance ?? null;
  const state = instance && instanceState(instance);
  return {
    id: wire.id,
    name: wire.name,
    start: new Date(wire.startTime),
    end: wire.endTime === null ? null : new Date(wire.endTime),
    topologyId: wire.topologyId,
    collectionId: wire.collectionId,
    creator: wire.creator,
    definition: wire.topologyDefinition,
    instance: instance && {
      name: instance.name,
      deployed: new Date(instance.deployed),
      since: new Date(instance.latestStateChange),
      recovered: instance.recovered,
    },
    nodes: instance && state ? instance.nodes.map((each) => node(each, state)) : [],
    instanceState: state,
  };
};

/** The name that a definition gives itself, without reading all of it: `name:` at the beginning of a line. */
export const nameIn = (definition: string): string => {
  const found = /^name:[ \t]*(?:"([^"\n]*)"|'([^'\n]*)'|([^#\n]*))/m.exec(definition);
  return (found?.[1] ?? found?.[2] ?? found?.[3] ?? "").trim();
};

export const topology = (wire: WireTopology): Topology => ({
  id: wire.id,
  collectionId: wire.collectionId,
  name: nameIn(wire.definition) || wire.id,
  definition: wire.definition,
  creator: wire.creator,
  lastDeployFailed: wire.lastDeployFailed,
});
