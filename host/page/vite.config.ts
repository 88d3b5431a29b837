// How the page is built: for browsers of the last years, into files whose names hold a hash of what is in them, so that the
// server may tell browsers to keep them for ever. The same sources give the same bytes, which CI relies on.
import { defineConfig } from "vite";
import { licences } from "./build/licences.ts";

const server = process.env["ANTIMONY_SERVER"] ?? "http://127.0.0.1:3000";

export default defineConfig({
  // The page may stand below a path of a proxy; its routes are in the fragment.
  base: "./",
  plugins: [licences()],
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    target: "es2022",
    // Written as files and never as `data:` addresses, which policies of operators may not let through.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 700,
    license: false,
  },
  server: {
    proxy: {
      "/api": server,
      "/socket.io": { target: server, ws: true },
    },
  },
  test: { include: ["tests/**/*.test.ts"], environment: "node" },
});
