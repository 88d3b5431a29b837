// What the deployed web client does from the moment its page is opened, in the order and the form in which it does it:
// requests below /api with cookies, one socket per namespace over web sockets only, commands as strings of JSON with the
// numbers of its own dialect, labs fetched again whenever an update says so, tokens got anew when they are refused.
//
//   node web-client.mjs URL USER PASSWORD TOPOLOGY_FILE
//
// The server has `dialect: antimony-ui`. TOPOLOGY_FILE has the nodes r1 and r2, linked by 10.0.0.0/30. Ends with status 0
// when the client would have worked; otherwise with a stack trace that says where it would not.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { validate } from "jsonschema";
import { io } from "socket.io-client";
import { parseDocument } from "yaml";
import { within } from "./lib.mjs";

const [url, username, password, topologyFile] = process.argv.slice(2);
const definition = await readFile(topologyFile, "utf8");

const commands = { deploy: 0, destroy: 1, start: 2, stop: 3, restart: 4, shells: 5, open: 6, close: 7 };
const states = { scheduled: -2, inactive: -1, deploying: 0, running: 1, stopping: 2, failed: 3 };

// What a browser keeps for a site from one page load to the next.
class Cookies {
  #kept = new Map();

  header() {
    return [...this.#kept].map(([name, { value }]) => `${name}=${value}`).join("; ");
  }

  take(response) {
    for (const line of response.headers.getSetCookie()) {
      const [pair, ...attributes] = line.split(";").map((part) => part.trim());
      const name = pair.slice(0, pair.indexOf("="));
      const said = new Map(attributes.map((attribute) => attribute.toLowerCase().split("=")));
      assert.equal(said.get("path"), "/", line);
      assert.equal(said.get("samesite"), "lax", line);
      if (said.get("max-age") === "0") this.#kept.delete(name);
      else this.#kept.set(name, { value: pair.slice(name.length + 1), scripts: !said.has("httponly") });
    }
  }

  // As scripts see it.
  get(name) {
    const cookie = this.#kept.get(name);
    return cookie?.scripts ? cookie.value : undefined;
  }

  has(name) {
    return this.#kept.has(name);
  }

  spoil(name) {
    this.#kept.get(name).value = "no.longer.good";
  }
}

// One load of the page.
class Page {
  token = "";
  sockets = new Map();
  refreshes = 0;
  #refreshing = null;

  constructor(cookies) {
    this.cookies = cookies;
  }

  async #request(path, method, body, headers = {}) {
    const cookie = this.cookies.header();
    // Over plain HTTP, a browser says where a page is from by its origin alone.
    const browser = { Origin: url, ...(cookie && { Cookie: cookie }) };
    const fetched = fetch(`${url}/api${path}`, { method, headers: { ...headers, ...browser }, body: JSON.stringify(body) });
    const response = await within(`${method} ${path}`, fetched);
    this.cookies.take(response);
    return response;
  }

  // An answer with a payload, or with a code and a message.
  async ask(method, path, body) {
    const response = await this.#request(path, method, body, {
      Accept: "application/json",
      "Content-Type": "application/json",
    });
    assert.ok(response.status < 500, `${method} ${path}: ${response.status}`);
    if (response.status === 498) {
      assert.ok(await this.refresh(), "the token is got anew");
      return this.ask(method, path, body);
    }
    assert.notEqual(response.status, 401, `${method} ${path}`);
    return { status: response.status, headers: response.headers, ...(await response.json()) };
  }

  async payload(method, path, body) {
    const answer = await this.ask(method, path, body);
    assert.ok("payload" in answer, `${method} ${path}: ${JSON.stringify(answer)}`);
    return answer.payload;
  }

  // However many ask for it at once, it is done once.
  refresh() {
    this.#refreshing ??= this.#request("/users/login/refresh", "GET")
      .then((response) => {
        if (response.status !== 200) return false;
        this.refreshes += 1;
        this.token = this.cookies.get("accessToken");
        const { id, isAdmin } = JSON.parse(atob(this.token.split(".")[1]));
        this.user = { id, isAdmin };
        return true;
      })
      .finally(() => (this.#refreshing = null));
    return this.#refreshing;
  }

  // Opens the page; answers whether somebody is logged in.
  async open() {
    const { openId, native } = await this.payload("GET", "/users/login/config");
    assert.deepEqual([openId.enabled, native.enabled, native.allowEmpty], [false, true, false]);
    return this.cookies.get("accessToken") === undefined ? false : this.refresh();
  }

  // A namespace; the callback gets what was there before and what comes, one by one, whichever it is.
  subscribe(namespace, onData = () => {}) {
    const subscription = { onData, connected: 0 };
    this.sockets.set(namespace, subscription);
    const connect = () => {
      const socket = io(`${url}/${namespace}`, { transports: ["websocket"], auth: { token: this.token } });
      subscription.socket = socket;
      socket.on("connect", () => {
        subscription.connected += 1;
        subscription.wake?.();
      });
      socket.on("connect_error", async ({ message }) => {
        if (message === "Invalid Token") {
          assert.ok(await this.refresh(), `a token for ${namespace}`);
          connect();
        } else {
          assert.equal(message, "Invalid namespace", namespace);
          socket.disconnect();
          setTimeout(() => socket.connect(), 2000);
        }
      });
      socket.on("backlog", (all) => all.forEach((one) => subscription.onData(one)));
      socket.on("data", (one) => subscription.onData(one));
    };
    connect();
    return subscription;
  }

  async connected(namespace) {
    const subscription = this.sockets.get(namespace);
    await within(
      `/${namespace}`,
      new Promise((resolve) => {
        subscription.wake = () => subscription.connected > 0 && resolve();
        subscription.wake();
      }),
    );
  }

  leave(namespace) {
    this.sockets.get(namespace).socket.close();
    this.sockets.delete(namespace);
  }

  command(command, more) {
    const { socket } = this.sockets.get("lab-commands");
    return within(`the answer to command ${command}`, socket.emitWithAck("data", JSON.stringify({ command, ...more })));
  }

  close() {
    for (const { socket } of this.sockets.values()) socket.close();
  }
}

// Collects what a namespace brings, and waits for what has to come.
const collect = () => {
  const all = [];
  let wake = () => {};
  const onData = (one) => {
    all.push(one);
    wake();
  };
  const until = (what, found) =>
    within(
      what,
      (async () => {
        while (!found(all)) await new Promise((resolve) => (wake = resolve));
      })(),
    );
  return { all, onData, until };
};

const cookies = new Cookies();
let page = new Page(cookies);

// --- A wrong password, then the right one. What the page then shows its sockets is an empty token.
assert.equal(await page.open(), false);
const wrong = await page.ask("POST", "/users/login/native", { username, password: `${password}!` });
assert.deepEqual([wrong.status, wrong.code, typeof wrong.message], [400, 1001, "string"]);
await page.payload("POST", "/users/login/native", { username, password });
assert.ok(cookies.has("authToken") && cookies.get("authToken") === undefined, "a cookie that no script sees");

const updates = collect();
const statuses = collect();
const shellControl = collect();
const everywhere = (page) => {
  page.subscribe("status-messages", statuses.onData);
  page.subscribe("lab-updates", updates.onData);
  page.subscribe("lab-commands");
  page.subscribe("shell-commands", shellControl.onData);
  return Promise.all([...page.sockets.keys()].map((namespace) => page.connected(namespace)));
};
await everywhere(page);
assert.equal(page.user.isAdmin, true);
assert.equal(typeof page.user.id, "string");

// --- What the page fetches of its stores. A topology that doesn't fit the schema isn't shown at all.
const query = () => {
  const filters = [-2, 0, 1, 3, -1, 2].map((state) => `stateFilter[]=${state}&`).join("");
  return `/labs?limit=1000&offset=0&searchQuery=&${filters}`;
};
const schema = await page.payload("GET", "/clab-schema");
const shown = (text) => {
  const document = parseDocument(text, { keepSourceTokens: true });
  assert.deepEqual(document.errors, []);
  const { errors } = validate(document.toJS(), schema);
  assert.deepEqual(errors.map(String), [], `it fits the schema: ${text}`);
  return document;
};
const devices = await page.payload("GET", "/devices");
const linux = devices.find(({ kind }) => kind === "linux");
assert.deepEqual([linux.interfacePattern, linux.interfaceStart, typeof linux.name], ["eth$", 1, "string"]);
assert.deepEqual(await page.payload("GET", "/collections"), []);
assert.deepEqual(await page.payload("GET", "/topologies"), []);
const none = await page.ask("GET", query());
assert.deepEqual([none.payload, none.headers.get("x-total-count")], [[], "0"]);

// --- The editor: a collection, a topology in it, a file beside that.
await page.payload("POST", "/collections", { name: "course", publicWrite: true, publicDeploy: true });
assert.equal((await page.ask("POST", "/collections", { name: "course", publicWrite: false, publicDeploy: false })).code, 2001);
const [collection] = await page.payload("GET", "/collections");
assert.deepEqual([collection.name, collection.publicWrite, collection.publicDeploy], ["course", true, true]);
const topologyIn = { collectionId: collection.id, definition, syncUrl: "" };
await page.payload("POST", "/topologies", topologyIn);
assert.equal((await page.ask("POST", "/topologies", topologyIn)).code, 3001);
const topologies = async () => {
  const all = await page.payload("GET", "/topologies");
  for (const topology of all) {
    assert.equal(shown(topology.definition).get("name"), "two-routers");
    assert.equal(topology.collectionId, collection.id);
    assert.equal(typeof topology.creator.name, "string");
    assert.equal(topology.lastDeployFailed, false);
  }
  return all;
};
const [topology] = await topologies();
assert.deepEqual(topology.bindFiles, []);
const files = `/topologies/${topology.id}/files`;
await page.payload("POST", files, { filePath: "config/motd", content: "hello\n" });
assert.equal((await page.ask("POST", files, { filePath: "config/motd", content: "" })).code, 4001);
const [file] = (await topologies())[0].bindFiles;
assert.deepEqual([file.filePath, file.content, file.topologyId], ["config/motd", "hello\n", topology.id]);
await page.payload("PATCH", `${files}/${file.id}`, { content: "hello again\n" });
await page.payload("PUT", `${files}/${file.id}`, { filePath: "config/motd", content: "hello for good\n" });
assert.equal((await topologies())[0].bindFiles[0].content, "hello for good\n");
const bound = definition.replace("    r1:\n", "    r1:\n      binds: [config/motd:/etc/motd]\n");
await page.payload("PATCH", `/topologies/${topology.id}`, { definition: bound });
assert.equal((await topologies())[0].definition, bound);

// --- A lab, and its life. Each update is a reason to fetch it again, as nothing else is.
const startTime = new Date(Date.now() - 60_000).toISOString();
const labId = await page.payload("POST", "/labs", { name: "first", startTime, topologyId: topology.id });
assert.equal(typeof labId, "string");
const listed = await page.ask("GET", query());
assert.deepEqual([listed.payload.map(({ id }) => id), listed.headers.get("x-total-count")], [[labId], "1"]);
const lab = async () => {
  const lab = await page.payload("GET", `/labs/${labId}`);
  shown(lab.topologyDefinition);
  assert.ok(!Number.isNaN(Date.parse(lab.startTime)), lab.startTime);
  assert.deepEqual([lab.endTime, lab.collectionId, lab.topologyId], [null, collection.id, topology.id]);
  assert.ok(!lab.instance || Array.isArray(lab.instance.nodes));
  return lab;
};
assert.equal((await lab()).instance, undefined);
let heard = updates.all.length;
const untilLab = async (what, found) => {
  for (;;) {
    const now = await lab();
    if (found(now)) return now;
    await updates.until(what, (all) => all.length > heard);
    heard = updates.all.length;
    assert.ok(updates.all.every(({ payload }) => "labId" in payload));
  }
};

// The log is asked for at once, and is not there yet: the page tries again every other second.
const log = collect();
page.subscribe(`logs/${labId}`, log.onData);
const deploy = page.command(commands.deploy, { labId });
await untilLab("that it is being deployed", ({ instance }) => instance && instance.state >= states.deploying);
assert.deepEqual(await deploy, { payload: null });
const running = await untilLab("that it runs", ({ instance }) => instance?.state === states.running);
assert.equal(typeof running.instanceName, "string");
assert.equal(running.instance.recovered, false);
assert.ok(!Number.isNaN(Date.parse(running.instance.deployed)) && !Number.isNaN(Date.parse(running.instance.latestStateChange)));
const node = (lab, name) => lab.instance.nodes.find((node) => node.name === name);
for (const name of ["r1", "r2"]) {
  const { containerId, containerName, containnerName, state, canRestart, interfaceCaptures, ...rest } = node(running, name);
  assert.match(containerId, /^[0-9a-f]{12}$/);
  assert.ok(containerName && containerName === containnerName);
  assert.deepEqual([state, typeof canRestart, typeof interfaceCaptures], ["running", "boolean", "object"]);
  for (const key of ["ipv4", "ipv6", "kind"]) assert.equal(typeof rest[key], "string", key);
}
await log.until("what the nodes printed", (lines) => lines.some((line) => line.includes("its host name is r2")));
assert.ok(log.all.every((line) => typeof line === "string"));
await statuses.until("a message of success", (all) => all.some(({ payload }) => payload.severity === 0));
// A running lab is neither changed nor deleted.
for (const [method, body] of [["PATCH", { name: "second" }], ["DELETE"]]) {
  const refused = await page.ask(method, `/labs/${labId}`, body);
  assert.ok(refused.status >= 400 && typeof refused.message === "string", `${method}: ${JSON.stringify(refused)}`);
}

// --- The log of a node is asked for by its container's id, once the page's token has gone bad.
page.leave(`logs/${labId}`);
cookies.spoil("accessToken");
page.token = cookies.get("accessToken");
const before = page.refreshes;
await lab();
assert.equal(page.refreshes, before + 1, "the token was got anew, once");
page.token = "no.longer.good";
const nodeLog = `logs/${labId}/${node(running, "r1").containerId}`;
page.subscribe(nodeLog);
await page.connected(nodeLog);
assert.equal(page.refreshes, before + 2);
page.leave(nodeLog);

// --- A terminal, another one, and back to the first: what was there is written again.
assert.deepEqual(await page.command(commands.shells, { labId }), { payload: [] });
const open = async (name) => (await page.command(commands.open, { labId, node: name })).payload;
const terminal = (id) => {
  const screen = collect();
  const { socket } = page.subscribe(`shells/${id}`, screen.onData);
  const type = (text) => [...text].forEach((key) => socket.emit("data", key));
  const until = (what, words) => screen.until(what, (all) => words.test(all.join("")));
  return { type, until };
};
const first = await open("r1");
let screen = terminal(first);
await page.connected(`shells/${first}`);
screen.type("cat /etc/motd; ping -c 1 10.0.0.2; echo status=$?\r");
await screen.until("the file beside the topology", /hello for good\r\n/);
await screen.until("an answer of r2", /status=0/);
page.leave(`shells/${first}`);
const second = await open("r2");
screen = terminal(second);
await page.connected(`shells/${second}`);
page.leave(`shells/${second}`);
screen = terminal(first);
await screen.until("what was there before", /status=0/);
const { payload: shells } = await page.command(commands.shells, { labId });
assert.deepEqual(new Map(shells.map(({ id, node }) => [id, node])), new Map([[first, "r1"], [second, "r2"]]));
assert.deepEqual(await page.command(commands.close, { labId, shellId: second }), { payload: null });
await shellControl.until("that it is closed", (all) => all.some(({ payload }) => payload.shellId === second && payload.command === 1));

// --- Nodes are stopped and started by this client's numbers, which are not those of the specification.
assert.deepEqual(await page.command(commands.stop, { labId, node: "r2" }), { payload: null });
await untilLab("that r2 has stopped", (lab) => node(lab, "r2").state === "exited");
assert.equal((await page.command(commands.open, { labId, node: "r2" })).code, 5004);
assert.deepEqual(await page.command(commands.start, { labId, node: "r2" }), { payload: null });
await untilLab("that r2 runs", (lab) => node(lab, "r2").state === "running");
assert.deepEqual(await page.command(commands.restart, { labId, node: "r2" }), { payload: null });
await untilLab("that r2 runs again", (lab) => node(lab, "r2").state === "running");
screen.type("ping -c 1 10.0.0.2; echo later=$?\r");
await screen.until("an answer of r2 over the same link", /later=0/);

// --- The page is loaded again: nobody logs in, and the terminal is where it was.
page.close();
page = new Page(cookies);
assert.equal(await page.open(), true);
await everywhere(page);
assert.deepEqual(await page.command(commands.shells, { labId }), { payload: [{ id: first, node: "r1" }] });
screen = terminal(first);
await screen.until("the whole of it", /status=0[^]*later=0/);

// --- The end of all.
assert.deepEqual(await page.command(commands.destroy, { labId }), { payload: null });
await untilLab("that it is gone", ({ instance }) => !instance);
await shellControl.until("that the terminal is gone", (all) => all.some(({ payload }) => payload.shellId === first));
assert.equal((await page.command(commands.destroy, { labId })).code, 5003);
const endTime = new Date(Date.now() + 3_600_000).toISOString();
await page.payload("PATCH", `/labs/${labId}`, { name: "second", endTime });
await page.payload("PATCH", `/labs/${labId}`, { indefinite: true });
assert.equal((await lab()).name, "second");
await page.payload("DELETE", `/labs/${labId}`);
assert.equal((await page.ask("GET", `/labs/${labId}`)).status, 404);
await page.payload("DELETE", `${files}/${file.id}`);
await page.payload("DELETE", `/topologies/${topology.id}`);
await page.payload("DELETE", `/collections/${collection.id}`);
await page.payload("POST", "/users/logout");
assert.ok(!cookies.has("authToken") && !cookies.has("accessToken"));
page.close();
