// A log, read by the official client over a network that loses its connection: the client comes back by itself, and has
// every line exactly once again.
//
//   node reconnect.mjs URL TOKEN LAB LAST_LINE MODE
//
// TOKEN belongs to somebody who may see LAB, whose deploy has begun and prints `line 1` to `line LAST_LINE`. MODE is as for spine.mjs. Prints
// `cut me` whenever the connection is to be cut, twice in all.
import assert from "node:assert/strict";
import { io } from "socket.io-client";
import { record, transports, within } from "./lib.mjs";

const [url, token, labId, last, mode] = process.argv.slice(2);
const cuts = 2;

const path = `/logs/${labId}`;
const socket = io(url + path, { transports: transports[mode], auth: { token }, reconnectionDelay: 20, autoConnect: false });

// What came in each life of the connection.
const lives = [];
const heard = record(socket);
socket.on("connect", () => {
  assert.ok(!socket.recovered, "nothing is kept of the life before");
  lives.push([]);
});
socket.onAny((name, argument) => lives.at(-1).push({ name, argument }));
// The network may be away for more than one attempt; refused for good it must not be.
socket.on("connect_error", (error) => assert.ok(socket.active, error.message));
socket.connect();

const lines = (life) =>
  (lives[life] ?? []).flatMap(({ argument }) => argument).flatMap((line) => line.match(/line \d+$/) ?? []);
for (let life = 0; life < cuts; life++) {
  await heard.until("a few lines", () => lines(life).length >= 10);
  const lost = within("the loss of the connection", new Promise((resolve) => socket.once("disconnect", resolve)));
  console.log("cut me");
  assert.match(await lost, /^transport (close|error)$/);
  assert.ok(socket.active, "it comes back by itself");
}
await heard.until("the last line", () => lines(cuts).at(-1) === `line ${last}`);
assert.equal(lives.length, cuts + 1);
const printed = Array.from({ length: Number(last) }, (_, index) => `line ${index + 1}`);
for (const [life, events] of lives.entries()) {
  assert.deepEqual(events.map(({ name }) => name), ["backlog", ...Array(events.length - 1).fill("data")], `life ${life}`);
  // Each begins with the first line; only the last one was let to see the end.
  assert.deepEqual(lines(life), printed.slice(0, lines(life).length), `life ${life}`);
}
assert.deepEqual(lines(cuts), printed);
socket.close();
