// States in colour, shape and word, the same everywhere: of labs and of nodes.
import type { JSX } from "preact";
import type { LabState, NodeState } from "../api/model";

export type AnyState = LabState | NodeState;

const words: Record<AnyState, string> = {
  scheduled: "Scheduled",
  inactive: "Inactive",
  deploying: "Deploying",
  running: "Running",
  stopping: "Stopping",
  failed: "Failed",
  starting: "Starting",
  exited: "Stopped",
};

export const wordFor = (state: AnyState): string => words[state];

/** The shape of a state, around the origin, in a square of 12. */
export const Glyph = ({ state }: { state: AnyState }): JSX.Element => {
  switch (state) {
    case "running":
      return <circle class="glyph-full" r="5" />;
    case "deploying":
    case "starting":
      return (
        <g class="glyph-turning">
          <circle class="glyph-rest" r="4.500" />
          <path class="glyph-line" d="M0 -4.500A4.500 4.500 0 0 1 4.500 0" />
        </g>
      );
    case "stopping":
      return <path class="glyph-full glyph-beating" d="M-4 -4.500h8v9h-8z" />;
    case "failed":
      return <path class="glyph-line glyph-thick" d="M-4 -4 4 4M4 -4-4 4" />;
    case "scheduled":
      return (
        <g>
          <circle class="glyph-line" r="4.800" />
          <path class="glyph-line" d="M0 -2.600V0.300L2 1.600" />
        </g>
      );
    case "exited":
      return <path class="glyph-line" d="M-4 -4h8v8h-8z" />;
    case "inactive":
      return <circle class="glyph-line" r="4.500" />;
  }
};

/** The shape alone, for where the word stands beside it or is said otherwise. */
export const StateIcon = ({ state }: { state: AnyState }): JSX.Element => (
  <svg class={`glyph state-${state}`} width="14" height="14" viewBox="-7 -7 14 14" aria-hidden="true" focusable="false">
    <Glyph state={state} />
  </svg>
);

export const StateChip = ({ state, large }: { state: AnyState; large?: boolean }): JSX.Element => (
  <span class={`chip state-${state}${large ? " chip-large" : ""}`} data-state={state}>
    <StateIcon state={state} />
    {words[state]}
  </span>
);
