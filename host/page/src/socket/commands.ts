// The commands of `/lab-commands`, each with its acknowledgement as a promise. There is no limit of time: that of a deploy
// comes when the lab is up.
import { Problem } from "../api/problem";
import { join, type Membership } from "./connection";

const Command = {
  Deploy: 0,
  Destroy: 1,
  StopNode: 2,
  StartNode: 3,
  RestartNode: 4,
  ListShells: 5,
  OpenShell: 6,
  CloseShell: 7,
} as const;

let membership: Membership | null = null;

export const open = (): void => {
  membership ??= join("/lab-commands", { events: {} });
};

export const close = (): void => {
  membership?.leave();
  membership = null;
};

interface Answer {
  payload?: unknown;
  code?: number;
  message?: string;
}

/** How long a command waits for the first connection, in milliseconds. */
const PATIENCE = 5000;

/** Whether there is a connection, or is within a moment. What was sent without one would be carried out at any time later. */
const isThere = ({ socket }: Membership): Promise<boolean> =>
  socket.connected
    ? Promise.resolve(true)
    : new Promise((resolve) => {
        const there = (): void => {
          clearTimeout(timer);
          resolve(true);
        };
        const timer = setTimeout(() => {
          socket.off("connect", there);
          resolve(false);
        }, PATIENCE);
        socket.once("connect", there);
      });

const issue = async (command: number, labId: string, more: { node?: string; shellId?: string } = {}) => {
  if (!membership) throw new Problem("you are not logged in", null);
  if (!(await isThere(membership)) || !membership)
    throw new Problem("there is no connection to the server at the moment, and nothing was done", null);
  let answer: Answer;
  try {
    answer = (await membership.socket.emitWithAck("data", { labId, command, ...more })) as Answer;
  } catch {
    throw new Problem("the connection was lost before an answer came; the lab's state shows what became of it", null);
  }
  if (typeof answer.code === "number") throw new Problem(answer.message ?? "it failed", answer.code);
  return answer.payload;
};

export interface OpenShell {
  id: string;
  node: string;
}

export const deploy = (lab: string): Promise<unknown> => issue(Command.Deploy, lab);
export const destroy = (lab: string): Promise<unknown> => issue(Command.Destroy, lab);
export const stopNode = (lab: string, node: string): Promise<unknown> => issue(Command.StopNode, lab, { node });
export const startNode = (lab: string, node: string): Promise<unknown> => issue(Command.StartNode, lab, { node });
export const restartNode = (lab: string, node: string): Promise<unknown> => issue(Command.RestartNode, lab, { node });
export const listShells = async (lab: string): Promise<OpenShell[]> =>
  (await issue(Command.ListShells, lab)) as OpenShell[];
export const openShell = async (lab: string, node: string): Promise<string> =>
  (await issue(Command.OpenShell, lab, { node })) as string;
export const closeShell = (lab: string, shellId: string): Promise<unknown> => issue(Command.CloseShell, lab, { shellId });
