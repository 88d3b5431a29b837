// What somebody has asked for and is not done yet, and what came of it: shown in place, beside what was pressed.
import { signal } from "@preact/signals";
import { asProblem, type Problem } from "../api/problem";
import * as requests from "../api/requests";
import * as commands from "../socket/commands";
import * as labs from "./labs";

export interface Action {
  /** What is being done, such as `Deploying`. */
  doing: string;
  problem: Problem | null;
  busy: boolean;
}

/** By what they are about: see `about`. */
const actions = signal<ReadonlyMap<string, Action>>(new Map());

export const about = {
  lab: (id: string): string => `lab ${id}`,
  node: (id: string, node: string): string => `node ${id} ${node}`,
  end: (id: string): string => `end ${id}`,
  checkpoints: (id: string): string => `checkpoints ${id}`,
};

export const action = (key: string): Action | undefined => actions.value.get(key);

const set = (key: string, action: Action | null): void => {
  const next = new Map(actions.value);
  if (action) next.set(key, action);
  else next.delete(key);
  actions.value = next;
};

export const dismiss = (key: string): void => set(key, null);

/** Runs something; its problem stays until it is dismissed or something else is asked for. Answers whether it was done. */
export const run = async (key: string, doing: string, what: () => Promise<unknown>): Promise<boolean> => {
  const mine: Action = { doing, problem: null, busy: true };
  set(key, mine);
  try {
    await what();
    // A later one may have taken its place, such as a destroy that cancels a deploy.
    if (action(key) === mine) set(key, null);
    return true;
  } catch (error) {
    if (action(key) === mine) set(key, { doing, problem: asProblem(error), busy: false });
    return false;
  }
};

export const deploy = (id: string): Promise<boolean> =>
  run(about.lab(id), "Deploying", () => commands.deploy(id));
export const destroy = (id: string): Promise<boolean> =>
  run(about.lab(id), "Destroying", () => commands.destroy(id));
/** A deploy with what a checkpoint has kept. */
export const restore = (id: string, checkpoint: string): Promise<boolean> =>
  run(about.lab(id), "Restoring", () => requests.restoreCheckpoint(id, checkpoint));
export const remove = (id: string): Promise<boolean> =>
  run(about.lab(id), "Deleting", async () => {
    await requests.deleteLab(id);
    labs.gone(id);
  });

const onNode = (doing: string, command: (lab: string, node: string) => Promise<unknown>) =>
  (lab: string, node: string): Promise<boolean> => run(about.node(lab, node), doing, () => command(lab, node));

export const stopNode = onNode("Stopping", commands.stopNode);
export const startNode = onNode("Starting", commands.startNode);
export const restartNode = onNode("Restarting", commands.restartNode);

export const setEnd = (id: string, end: Date | null): Promise<boolean> =>
  run(about.end(id), "Changing the end", async () => {
    await requests.setEnd(id, end);
    await labs.reload(id);
  });

export const forget = (): void => {
  actions.value = new Map();
};
