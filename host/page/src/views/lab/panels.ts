// The panels of a lab's view, in the order of their tabs. A new one is added here: a component that takes no properties and
// finds the lab with `useScope()`.
import type { ComponentType } from "preact";
import type { IconName } from "../../components/icon";
import { terminals } from "../../state/shells";
import { CapturePanel } from "./capture/panel";
import { CheckpointsPanel } from "./checkpoints/panel";
import { LogPanel } from "./log/panel";
import { NodesPanel } from "./nodes/panel";
import type { Scope } from "./scope";
import { TerminalsPanel } from "./terminals/panel";
import { TopologyPanel } from "./topology/panel";
import { UsagePanel } from "./usage/panel";

export interface Panel {
  /** In addresses, and for `show`. */
  id: string;
  title: string;
  icon: IconName;
  Body: ComponentType;
  /** Shown behind the title. */
  badge?: (scope: Pick<Scope, "lab" | "drawing">) => string | number | null;
  /** Stays as it is behind the others once it has been shown, for what is costly to set up again. */
  keep?: boolean;
}

export const panels: readonly Panel[] = [
  {
    id: "nodes",
    title: "Nodes",
    icon: "nodes",
    Body: NodesPanel,
    badge: ({ lab, drawing }) => lab.nodes.length || drawing?.graph.nodes.length || null,
  },
  { id: "log", title: "Log", icon: "log", Body: LogPanel },
  {
    id: "terminals",
    title: "Terminals",
    icon: "terminal",
    Body: TerminalsPanel,
    badge: ({ lab }) => terminals(lab.id).tabs.length || null,
    keep: true,
  },
  { id: "usage", title: "Usage", icon: "chart", Body: UsagePanel, keep: true },
  { id: "capture", title: "Capture", icon: "capture", Body: CapturePanel },
  { id: "checkpoints", title: "Checkpoints", icon: "save", Body: CheckpointsPanel },
  { id: "topology", title: "Topology", icon: "file", Body: TopologyPanel },
];
