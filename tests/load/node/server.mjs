// The server of the Node contestant: socket.io as its documentation shows it, on a free port of this machine.
//
// It says "listening on URL" when it is up, and takes orders on standard input, one a line:
//   emit NAMESPACE FIRST COUNT RATE WINDOW  emits lines FIRST to FIRST+COUNT-1, RATE of them a second; 0: as fast as
//                                           clients take them, at most WINDOW ahead of the slowest
//   taken LINE                              the slowest client has lines up to LINE
//   gc                                      collects garbage, and says "collected"
// It ends when standard input does.
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { Server } from "socket.io";

const http = createServer();
const io = new Server(http, { transports: ["websocket"], serveClient: false });

io.of("/lab-commands").on("connection", (socket) => {
  socket.on("data", (command, ack) => ack({ payload: [] }));
});
for (const path of ["/lab-updates", "/status-messages", "/shell-commands"]) {
  io.of(path).on("connection", () => {});
}
io.of(/^\/logs\/.+$/).on("connection", () => {});

let taken = 0;
let wake = () => {};

function line(number) {
  return `n | ${String(number).padStart(124, "0")}`;
}

async function emit(path, first, count, rate, window) {
  const namespace = io.of(path);
  const began = performance.now();
  let sent = 0;
  while (sent < count) {
    const due = rate > 0 ? Math.floor(((performance.now() - began) * rate) / 1000) + 1 : taken + window - first + 1;
    for (const until = Math.min(due, count); sent < until; sent++) {
      namespace.emit("data", line(first + sent));
    }
    if (sent < count) {
      await new Promise((resolve) => {
        wake = resolve;
        if (rate > 0) setTimeout(resolve, 1);
      });
    }
  }
}

const orders = createInterface({ input: process.stdin });
orders.on("line", (order) => {
  const [word, ...values] = order.split(" ");
  if (word === "emit") emit(values[0], ...values.slice(1).map(Number));
  if (word === "taken") {
    taken = Number(values[0]);
    wake();
  }
  if (word === "gc") {
    globalThis.gc();
    console.log("collected");
  }
});
orders.on("close", () => process.exit(0));

http.listen(0, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${http.address().port}`));
