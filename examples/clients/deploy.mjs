// Deploys a lab and shows its log while it comes up: what most tools around labs need, in one screen of code.
//
//   npm install socket.io-client
//   node deploy.mjs http://127.0.0.1:3000 USER PASSWORD LAB-NAME
import { io } from "socket.io-client";

const [url, username, password, name] = process.argv.slice(2);

const answered = async (response) => {
  const body = await response.json();
  if (!response.ok) throw new Error(`${response.status}, code ${body.code}: ${body.message}`);
  return body.payload;
};

const login = await fetch(`${url}/users/login/native`, {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify({ username, password }),
});
await answered(login.clone());
const cookie = login.headers.getSetCookie().find((cookie) => cookie.startsWith("accessToken="));
const token = cookie.split(/[=;]/)[1];

const labs = await answered(await fetch(`${url}/labs`, { headers: { Authorization: `Bearer ${token}` } }));
const lab = labs.find((lab) => lab.name === name);
if (!lab) throw new Error(`there is no lab ${name} among ${labs.map((lab) => lab.name).join(", ") || "none"}`);

// All namespaces share one connection.
const join = (path) => io(`${url}${path}`, { auth: { token }, transports: ["websocket"] });

// The log exists from the first deploy on, which an update announces.
const updates = join("/lab-updates");
let log;
updates.on("data", ({ payload: { labId } }) => {
  if (labId !== lab.id || log) return;
  log = join(`/logs/${lab.id}`);
  log.on("backlog", (lines) => lines.forEach((line) => console.log(line)));
  log.on("data", (line) => console.log(line));
});

const commands = join("/lab-commands");
updates.on("connect", async () => {
  // Answered when the lab is up, or has failed, however long that takes.
  const { code, message } = await commands.emitWithAck("data", { labId: lab.id, command: 0 });
  console.log(code ? `failed with error ${code}: ${message}` : `${name} is up`);
  process.exitCode = code ? 1 : 0;
  // The last lines of the log may still be on their way.
  setTimeout(() => [updates, commands, log].forEach((socket) => socket?.disconnect()), 500);
});
for (const socket of [updates, commands]) {
  socket.on("connect_error", (error) => {
    console.error(`${socket.nsp}: ${error.message}`);
    process.exit(1);
  });
}
