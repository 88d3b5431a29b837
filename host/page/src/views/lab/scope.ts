// What the parts of a lab's view share.
import { signal, type Signal } from "@preact/signals";
import { createContext } from "preact";
import { useContext } from "preact/hooks";
import type { Lab, LabState } from "../../api/model";
import type { Drawing } from "../../topology/drawing";

export interface Scope {
  lab: Lab;
  state: LabState;
  /** Undefined: not there yet; null: there is none. */
  drawing: Drawing | null | undefined;
  /** The node that is looked at. */
  selected: Signal<string | null>;
  /** Whose log is shown; null: that of the lab. */
  logOf: Signal<string | null>;
  /** Shows a panel by its id. */
  show: (panel: string) => void;
}

export const ScopeContext = createContext<Scope | null>(null);

export const useScope = (): Scope => {
  const scope = useContext(ScopeContext);
  if (!scope) throw new Error("this is shown outside of a lab's view");
  return scope;
};

/** The signals of a new view. */
export const freshSelection = (): Pick<Scope, "selected" | "logOf"> => ({
  selected: signal<string | null>(null),
  logOf: signal<string | null>(null),
});
