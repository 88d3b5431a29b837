// What a line of a log looks like on a page: without the codes that colour it on a terminal, and how serious it is.

const CODES = /\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]/g;

/** Longer lines are cut: nobody reads them, and browsers lay them out slowly. */
const LONGEST = 4000;

export const plain = (line: string): string => {
  // What was overwritten by a carriage return isn't seen on a terminal either.
  const last = line.replace(/\r+$/, "");
  const text = last.slice(last.lastIndexOf("\r") + 1).replace(CODES, "");
  return text.length > LONGEST ? `${text.slice(0, LONGEST)} … (${text.length - LONGEST} more)` : text;
};

export type Level = "error" | "warning" | null;

/** By the words that tools put at the beginning of a line, or behind a time. */
export const level = (line: string): Level => {
  const head = line.slice(0, 80);
  if (/\b(?:ERRO|ERROR|FATA|FATAL|PANIC|CRIT)\b|\blevel=(?:error|fatal|panic)\b/.test(head)) return "error";
  if (/\b(?:WARN|WARNING)\b|\blevel=warn/.test(head)) return "warning";
  return null;
};
