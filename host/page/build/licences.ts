// Writes `licences.txt` beside the page: the name, version and licence text of every package that has gone into it, as
// their licences ask for. Only what is in the bundle is named, not what built it.
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { Plugin } from "vite";

const root = (id: string): string | undefined => id.match(/^.*\/node_modules\/(?:@[^/]+\/)?[^/]+/)?.[0];

const notice = (folder: string): string => {
  const { name, version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as {
    name: string;
    version: string;
    license?: string;
  };
  const file = readdirSync(folder)
    .sort()
    .find((entry) => /^(licen[cs]e|copying)(\.\w+)?$/i.test(entry));
  if (!license && !file) throw new Error(`${name} ${version} has no licence that could be named`);
  const text = file ? readFileSync(join(folder, file), "utf8").replaceAll("\r\n", "\n").trim() : `Licence: ${license}`;
  return `${name} ${version} (${license ?? "see below"})\n\n${text}\n`;
};

export const licences = (): Plugin => ({
  name: "licences",
  apply: "build",
  generateBundle(_, bundle) {
    const folders = new Set<string>();
    for (const part of Object.values(bundle)) {
      const ids = part.type === "chunk" ? Object.keys(part.modules) : part.originalFileNames;
      for (const id of ids) {
        const folder = root(id.replace(/^\0/, ""));
        if (folder) folders.add(folder);
      }
    }
    // Styles leave no trace of their own in a chunk; their packages are there for their scripts, too.
    const notices = [...folders].map(notice).sort();
    const rule = `\n${"-".repeat(100)}\n\n`;
    const source = `What this page is made of besides its own sources.\n${rule}${notices.join(rule)}`;
    this.emitFile({ type: "asset", fileName: "licences.txt", source });
  },
});
