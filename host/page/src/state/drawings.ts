// The drawings of the topologies that are on the screen, made once for each definition.
import { signal, type ReadonlySignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { Drawing } from "../topology/drawing";

/** Definitions whose drawings are kept. */
const KEPT = 400;

/** Undefined: not yet; null: it can't be drawn. */
type Slot = Drawing | null | undefined;

const slots = new Map<string, ReturnType<typeof signal<Slot>>>();

const slot = (definition: string): ReturnType<typeof signal<Slot>> => {
  let found = slots.get(definition);
  if (!found) {
    found = signal<Slot>(undefined);
    slots.set(definition, found);
    const oldest = slots.keys().next().value;
    if (slots.size > KEPT && oldest !== undefined) slots.delete(oldest);
  }
  return found;
};

/** The drawing of a topology, by and by: laying out many must not keep the page from answering. */
export const useDrawing = (definition: string): ReadonlySignal<Slot> => {
  const mine = slot(definition);
  useEffect(() => {
    if (mine.peek() !== undefined) return;
    let wanted = true;
    const make = async (): Promise<void> => {
      try {
        const { drawing } = await import("../topology/drawing");
        await new Promise((resolve) => setTimeout(resolve));
        if (wanted && mine.peek() === undefined) mine.value = drawing(definition);
      } catch {
        mine.value = null;
      }
    };
    void make();
    return () => {
      wanted = false;
    };
  }, [definition]);
  return mine;
};
