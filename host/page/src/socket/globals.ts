// The three namespaces that the page listens to for as long as somebody is logged in, and what their events look like.
import { join, type Membership } from "./connection";

export interface StatusMessage {
  id: string;
  timestamp: string;
  source: string;
  content: string;
  logContent: string;
  severity: number;
}

export interface ShellEnd {
  labId: string;
  node: string;
  shellId: string;
  command: number;
  message: string;
}

export interface Listener {
  status: (message: StatusMessage) => void;
  /** Null: everything may have changed. */
  labChanged: (id: string | null) => void;
  /** The updates since the last time are lost: everything may have changed. */
  updatesJoined: () => void;
  shellEnded: (end: ShellEnd) => void;
}

export const listen = (listener: Listener): (() => void) => {
  const memberships: Membership[] = [
    join("/status-messages", {
      events: { data: ({ payload }: { payload: StatusMessage }) => listener.status(payload) },
    }),
    join("/lab-updates", {
      joined: listener.updatesJoined,
      events: { data: ({ payload }: { payload: { labId: string | null } }) => listener.labChanged(payload.labId) },
    }),
    join("/shell-commands", {
      events: { data: ({ payload }: { payload: ShellEnd }) => listener.shellEnded(payload) },
    }),
  ];
  return () => memberships.forEach((membership) => membership.leave());
};
