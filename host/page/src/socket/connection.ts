// The one connection that all namespaces share, and how a namespace is joined and stays joined.
//
//   wanted ──join──▶ joined ──network or token gone──▶ (the manager comes back) ──▶ joined
//      ▲  └─refused: Invalid Token ─ another token ─┐
//      └──── Invalid namespace: in two seconds ◀────┘        No Access: told, and given up
import { signal } from "@preact/signals";
import { Manager, type Socket } from "socket.io-client";
import { accessToken, refresh, user } from "../state/session";

export type { Socket };

/** `lost`: it was up, or should be by now. */
export type Link = "idle" | "connecting" | "up" | "lost";

/** A namespace that isn't there (yet) is asked for again after so long, in milliseconds. */
const ABSENT_RETRY = 2000;
/** Shorter interruptions, such as the exchange of a token, are not worth a word. */
const GRACE = 1500;

export const link = signal<Link>("idle");

let manager: Manager | null = null;
let grace: ReturnType<typeof setTimeout> | undefined;

const lost = (): void => {
  clearTimeout(grace);
  grace = setTimeout(() => (link.value = "lost"), GRACE);
};

const connected = (): Manager => {
  if (manager) return manager;
  const page = new URL(document.baseURI);
  manager = new Manager(page.origin, {
    path: `${page.pathname.replace(/[^/]*$/, "")}socket.io/`,
    // Long polling only where something in between knows no web sockets.
    transports: ["websocket", "polling"],
    tryAllTransports: true,
    reconnectionDelay: 300,
    reconnectionDelayMax: 5000,
    autoConnect: false,
  });
  manager.on("open", () => {
    clearTimeout(grace);
    link.value = "up";
  });
  manager.on("close", lost);
  manager.on("error", lost);
  link.value = "connecting";
  return manager;
};

/** A token that will do for the next join: after sleep, the one at hand may have expired long ago. */
const freshToken = async (): Promise<string> => {
  if ((user.value?.expires ?? 0) < Date.now() + 2000) await refresh();
  return accessToken();
};

export interface Handlers {
  /** After every join, the first and later ones; what is sent at once after it comes later. */
  joined?: () => void;
  /** The connection is away; it is joined again when that is back. */
  left?: () => void;
  /** It isn't there; it is asked for again by and by. */
  absent?: () => void;
  /** For good. */
  denied?: (why: string) => void;
  events: Record<string, (payload: never) => void>;
}

export interface Membership {
  socket: Socket;
  leave: () => void;
  /** Asks at once instead of by and by, where the namespace may have come into being. */
  retry: () => void;
}

/** Joins a namespace, and again whenever that is needed, until it is left. One at a time for each namespace. */
export const join = (path: string, { joined, left, absent, denied, events }: Handlers): Membership => {
  const socket = connected().socket(path, {
    auth: (give: (auth: { token: string }) => void) => void freshToken().then((token) => give({ token })),
  });
  let timer: ReturnType<typeof setTimeout> | undefined;
  let wanted = true;
  /** Tokens that were refused since it was joined last. */
  let refused = 0;
  // Of whoever has left it before it was joined.
  socket.removeAllListeners();
  const connect = (): void => {
    clearTimeout(timer);
    timer = undefined;
    // One that is active is being joined already, also by whoever has left it a moment ago.
    if (wanted && !socket.connected && !socket.active) socket.connect();
  };
  const later = (): void => {
    clearTimeout(timer);
    timer = setTimeout(connect, ABSENT_RETRY);
  };
  socket.on("connect", () => {
    refused = 0;
    joined?.();
  });
  socket.on("disconnect", (reason) => {
    if (reason !== "io server disconnect") return left?.();
    // The server has closed this namespace, and the manager won't come back to it by itself.
    absent?.();
    later();
  });
  socket.on("connect_error", (error) => {
    if (socket.active) return;
    switch (error.message) {
      case "Invalid Token":
      case "Unauthorized":
        // Another token is asked for once at once; a server that refuses that one, too, is not to be stormed.
        refused += 1;
        void refresh().then((done) => (done && refused === 1 ? connect() : later()));
        break;
      case "No Access":
        denied?.(error.message);
        break;
      case "Invalid namespace":
        absent?.();
        later();
        break;
      default:
        later();
    }
  });
  for (const [name, handler] of Object.entries(events)) socket.on(name, handler as (payload: unknown) => void);
  connect();
  return {
    socket,
    leave: () => {
      wanted = false;
      clearTimeout(timer);
      socket.removeAllListeners();
      // Before it is joined nothing would be sent, and the server would keep what the page has left.
      if (socket.active && !socket.connected) socket.once("connect", () => socket.disconnect());
      else socket.disconnect();
    },
    retry: () => {
      if (timer) connect();
    },
  };
};

/** Ends the connection, with all that is joined over it. */
export const close = (): void => {
  clearTimeout(grace);
  manager?.removeAllListeners();
  manager?._close();
  manager = null;
  link.value = "idle";
};
