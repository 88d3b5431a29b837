// What runs while somebody is logged in: the connection, and what its events mean for the rest of the state.
import { effect, untracked } from "@preact/signals";
import * as commands from "../socket/commands";
import * as connection from "../socket/connection";
import { listen } from "../socket/globals";
import * as actions from "./actions";
import * as labs from "./labs";
import * as notices from "./notices";
import * as session from "./session";
import * as shells from "./shells";

let stop: (() => void) | null = null;

const start = (): void => {
  commands.open();
  stop = listen({
    status: notices.received,
    labChanged: labs.changed,
    updatesJoined: () => labs.changed(null),
    shellEnded: shells.ended,
  });
  // Not only once the sockets are there: the list is what people wait for.
  void labs.load();
};

const end = (): void => {
  stop?.();
  stop = null;
  commands.close();
  connection.close();
  for (const each of [labs, notices, actions, shells]) each.forget();
};

/** Called once. */
export const run = (): void => {
  effect(() => {
    const isIn = session.phase.value === "in";
    // What they read is no reason to do it again.
    untracked(() => {
      if (isIn && !stop) start();
      if (!isIn && stop) end();
    });
  });
};
