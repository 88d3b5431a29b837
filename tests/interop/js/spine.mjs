// The life of a lab, driven by the official client: deploy, log, updates, shell with traffic, close, destroy.
//
//   node spine.mjs URL TOKEN LAB MEMBER_TOKEN MODE
//
// TOKEN belongs to whoever created LAB, MEMBER_TOKEN to somebody who may see it and did not create it. MODE is what
// carries the packets: `websocket`, `polling`, or `upgrade` from the one to the other. Ends with status 0 when everything
// was as documented; otherwise with a stack trace that says what was not.
import assert from "node:assert/strict";
import { joined, person, record, refusal, transports, within } from "./lib.mjs";

const [url, token, labId, memberToken, mode] = process.argv.slice(2);
assert.ok(mode in transports, `a mode: ${Object.keys(transports)}`);

const creator = person(url, token, mode);
const command = (socket, command, more = {}) =>
  within(`the answer to command ${command}`, socket.emitWithAck("data", { labId, command, ...more }));

// Refusals first: they must not disturb what comes after them on the same connection.
assert.equal(await refusal(creator.join("/lab-updates", {})), "Unauthorized");
assert.equal(await refusal(creator.join("/status-messages", { token: "nonsense" })), "Invalid Token");
assert.equal(await refusal(creator.join(`/logs/${labId}`)), "Invalid namespace");

// The refused sockets above are spent; a person's second connection joins the same namespaces.
const fresh = person(url, token, mode);
const updates = record(fresh.join("/lab-updates"));
const statuses = record(fresh.join("/status-messages"));
const shellCommands = record(fresh.join("/shell-commands"));
const commands = fresh.join("/lab-commands");
await Promise.all([updates.socket, statuses.socket, shellCommands.socket, commands].map(joined));
// The namespaces were joined while the transport changed; what follows goes over the one that it has changed to.
if (mode === "upgrade") assert.equal(await within("the change of transport", fresh.upgraded), "websocket");

// The deployed web client sends its commands as a string of JSON.
const deployed = within("the deploy", commands.emitWithAck("data", JSON.stringify({ labId, command: 0 })));
// Whoever hears of the instance can join its log: at one of the updates at the latest, without trying in between.
let log;
for (let heard = 1; !log; heard++) {
  await updates.until("an update about the lab", (events) =>
    events.filter(({ name, args }) => name === "data" && args[0].payload.labId === labId).length >= heard,
  );
  const attempt = record(fresh.join(`/logs/${labId}`));
  try {
    await joined(attempt.socket);
    log = attempt;
  } catch (error) {
    // It was an update about the lab's creation.
    assert.match(error.message, /: Invalid namespace$/);
    // The manager hands out one socket per namespace; the refused one is asked to try again.
    attempt.socket.removeAllListeners();
    attempt.socket.offAny();
  }
}
assert.deepEqual(await deployed, { payload: null });
const lines = () => log.events.flatMap(({ args }) => args[0]);
await log.until("the lines of the topology's exec", () =>
  ["r1", "r2"].every((node) => lines().some((line) => line.includes(`its host name is ${node}`))),
);
assert.equal(log.events[0].name, "backlog");
assert.ok(log.events.slice(1).every(({ name }) => name === "data"), "one backlog, then data");
await statuses.until("a status message", (events) =>
  events.some(({ args: [{ payload }] }) => payload.severity === 0 && typeof payload.content === "string"),
);
for (const { name, args } of statuses.events) {
  assert.equal(name, "data");
  const { id, timestamp, source, content, logContent, severity } = args[0].payload;
  for (const text of [id, timestamp, source, content, logContent]) assert.equal(typeof text, "string");
  assert.ok(!Number.isNaN(Date.parse(timestamp)), timestamp);
  assert.ok(Number.isInteger(severity) && severity >= 0 && severity <= 4);
}

// A shell, and traffic over the link.
const { payload: shellId } = await command(commands, 6, { node: "r1" });
assert.equal(typeof shellId, "string");
const terminal = record(fresh.join(`/shells/${shellId}`));
await joined(terminal.socket);
const screen = () => terminal.events.flatMap(({ args }) => args[0]).join("");
// A terminal echoes what is typed, so each answer is framed by something that was not typed like this.
terminal.socket.emit("data", 'echo "name=$(hostname)"; ping -c 2 -i 0.2 10.0.0.2; echo "status=$?"\r');
await terminal.until("the answer of r2", () => /status=\d/.test(screen()));
assert.match(screen(), /status=0/, screen());
assert.match(screen(), /name=r1\r\n/, screen());
assert.match(screen(), /2 received/, screen());
assert.deepEqual(await command(commands, 5), { payload: [{ id: shellId, node: "r1" }] });
assert.deepEqual(await command(commands, 7, { shellId }), { payload: null });
await shellCommands.until("the announcement of the closed shell", (events) => events.length > 0);
const closed = shellCommands.events[0].args[0].payload;
assert.deepEqual([closed.labId, closed.node, closed.shellId, closed.command], [labId, "r1", shellId, 1]);

// Somebody who may see the lab may not destroy it, and nothing happens.
const member = person(url, memberToken, mode);
const theirs = await joined(member.join("/lab-commands"));
const refused = await command(theirs, 1);
assert.equal(refused.code, 5403, JSON.stringify(refused));
assert.deepEqual(Object.keys(refused).sort(), ["code", "message"]);

// What is malformed is answered so, with and without somebody who waits for it.
for (const args of [["not JSON"], [{ command: 0 }], [{ labId, command: 99 }], []]) {
  commands.emit("data", ...args);
  const answer = await within("an answer", commands.emitWithAck("data", ...args));
  assert.equal(answer.code, 5422, JSON.stringify([args, answer]));
}

assert.deepEqual(await command(commands, 1), { payload: null });
// It has been what it was meant to be, to the end.
assert.equal(fresh.manager.engine.transport.name, mode === "polling" ? "polling" : "websocket");
creator.manager._close();
fresh.manager._close();
member.manager._close();
