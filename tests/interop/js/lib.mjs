// What the scripts share: people with connections, and waiting for what has to come.
import assert from "node:assert/strict";
import { Manager } from "socket.io-client";

const limit = 60_000;

// What a client may be told to use, by name.
export const transports = {
  websocket: ["websocket"],
  polling: ["polling"],
  upgrade: ["polling", "websocket"],
};

// One connection per person, many namespaces on it, as Antimony's own clients have it. Retries are off so that nothing
// is hidden by them.
export const person = (url, token, mode) => {
  const manager = new Manager(url, { transports: transports[mode], reconnection: false });
  manager.on("error", (error) => assert.fail(`connection: ${error}`));
  // Listened for at once: the change may be over before anybody asks.
  const upgraded = new Promise((resolve) => manager.engine.once("upgrade", ({ name }) => resolve(name)));
  const join = (path, auth = { token }) => manager.socket(path, { auth });
  return { manager, join, upgraded };
};

export const within = (what, promise) => {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited in vain for ${what}`)), limit);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
};

// Everything that came in a namespace, from before it was joined, and a way to wait for more.
export const record = (socket) => {
  const events = [];
  let wake = () => {};
  socket.onAny((name, ...args) => {
    events.push({ name, args });
    wake();
  });
  const until = (what, found) =>
    within(
      what,
      (async () => {
        while (!found(events)) await new Promise((resolve) => (wake = resolve));
      })(),
    );
  return { socket, events, until };
};

export const joined = (socket) =>
  within(
    `joining ${socket.nsp}`,
    new Promise((resolve, reject) => {
      socket.on("connect", () => resolve(socket));
      socket.on("connect_error", (error) => reject(new Error(`${socket.nsp}: ${error.message}`)));
    }),
  );

export const refusal = (socket) =>
  within(
    `a refusal of ${socket.nsp}`,
    new Promise((resolve, reject) => {
      socket.on("connect", () => reject(new Error(`${socket.nsp} was joined`)));
      socket.on("connect_error", (error) => resolve(error.message));
    }),
  );
