// The terminals that are open in this page, by lab: which shells they show, and what became of these. A page that is
// loaded anew takes up those that it had, as far as the server still has them.
import { signal } from "@preact/signals";
import { asProblem, type Problem } from "../api/problem";
import * as commands from "../socket/commands";
import type { ShellEnd } from "../socket/globals";
import { sayProblem } from "./notices";
import { keepTabs, keptTabs } from "./preferences";

export interface Tab {
  id: string;
  node: string;
  /** Why it has ended; empty: it hasn't. */
  ended: string;
}

export interface Terminals {
  tabs: readonly Tab[];
  active: string | null;
  /** Shells of this user in the lab that this page doesn't show. */
  others: readonly commands.OpenShell[];
  /** Nodes that a shell is being opened in. */
  opening: readonly string[];
  problem: Problem | null;
  restored: boolean;
}

const none: Terminals = { tabs: [], active: null, others: [], opening: [], problem: null, restored: false };
const all = signal<ReadonlyMap<string, Terminals>>(new Map());

export const terminals = (lab: string): Terminals => all.value.get(lab) ?? none;

const change = (lab: string, how: (before: Terminals) => Partial<Terminals>): void => {
  const before = all.peek().get(lab) ?? none;
  const after = { ...before, ...how(before) };
  all.value = new Map(all.peek()).set(lab, after);
  if (after.tabs !== before.tabs) keepTabs(lab, after.tabs.filter((tab) => tab.ended === ""));
};

/** Takes up the terminals of before, once for each lab. */
export const restore = async (lab: string): Promise<void> => {
  if (terminals(lab).restored) return;
  const kept = keptTabs(lab);
  change(lab, () => ({ restored: true }));
  try {
    const open = await commands.listShells(lab);
    const ids = new Set(open.map(({ id }) => id));
    change(lab, (before) => {
      const mine = new Set([...before.tabs.map(({ id }) => id), ...kept.map(({ id }) => id)]);
      const again = kept
        .filter(({ id }) => ids.has(id) && !before.tabs.some((tab) => tab.id === id))
        .map(({ id, node }) => ({ id, node, ended: "" }));
      const tabs = [...again, ...before.tabs];
      return { tabs, active: before.active ?? tabs[0]?.id ?? null, others: open.filter(({ id }) => !mine.has(id)) };
    });
  } catch {
    // Nothing to take up; whoever opens a terminal is told what is wrong.
    change(lab, () => ({ restored: false }));
  }
};

export const open = async (lab: string, node: string): Promise<void> => {
  change(lab, ({ opening }) => ({ opening: [...opening, node], problem: null }));
  const less = (opening: readonly string[]): string[] => {
    const at = opening.indexOf(node);
    return opening.filter((_, index) => index !== at);
  };
  try {
    const id = await commands.openShell(lab, node);
    change(lab, ({ tabs, opening }) => ({
      tabs: [...tabs, { id, node, ended: "" }],
      active: id,
      opening: less(opening),
    }));
  } catch (error) {
    change(lab, ({ opening }) => ({ opening: less(opening), problem: asProblem(error) }));
  }
};

/** Shows a shell that was opened elsewhere. */
export const attach = (lab: string, { id, node }: commands.OpenShell): void =>
  change(lab, ({ tabs, others }) => ({
    tabs: [...tabs, { id, node, ended: "" }],
    others: others.filter((other) => other.id !== id),
    active: id,
  }));

export const select = (lab: string, id: string): void => change(lab, () => ({ active: id }));

export const dismissProblem = (lab: string): void => change(lab, () => ({ problem: null }));

const remove = (lab: string, id: string): void =>
  change(lab, ({ tabs, active }) => {
    const at = tabs.findIndex((tab) => tab.id === id);
    const left = tabs.filter((tab) => tab.id !== id);
    return { tabs: left, active: active === id ? (left[Math.min(at, left.length - 1)]?.id ?? null) : active };
  });

/** Closes the shell with its terminal. */
export const close = async (lab: string, tab: Tab): Promise<void> => {
  remove(lab, tab.id);
  if (tab.ended !== "") return;
  try {
    await commands.closeShell(lab, tab.id);
  } catch (error) {
    const problem = asProblem(error);
    // It was closed by something else meanwhile.
    if (problem.code !== 5007) sayProblem(`The shell in ${tab.node} was not closed`, problem);
  }
};

export const ended = ({ labId, shellId, message }: ShellEnd): void => {
  if (!all.peek().has(labId)) return;
  change(labId, ({ tabs, others }) => ({
    tabs: tabs.map((tab) => (tab.id === shellId ? { ...tab, ended: message } : tab)),
    others: others.filter(({ id }) => id !== shellId),
  }));
};

export const forget = (): void => {
  all.value = new Map();
};
