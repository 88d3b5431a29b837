// Status messages of the server and words of the page's own: shown for a moment as toasts, and kept as a list.
import { computed, signal } from "@preact/signals";
import { spoken, type Problem } from "../api/problem";
import type { StatusMessage } from "../socket/globals";

export type Severity = "success" | "info" | "warning" | "error";

export interface Notice {
  id: string;
  at: Date;
  source: string;
  text: string;
  /** More for those who look closer; empty: nothing more. */
  detail: string;
  severity: Severity;
}

const KEPT = 300;
/** Of those that say that something is wrong. The others give way to whatever comes next. */
const TOASTS = 2;
/** How long a toast stays, in milliseconds; what went wrong stays longer. */
const STAY: Record<Severity, number> = { success: 4500, info: 3500, warning: 9000, error: 12_000 };

const severities: readonly Severity[] = ["success", "info", "warning", "error", "error"];

/** Newest first. */
export const notices = signal<readonly Notice[]>([]);
export const toasts = signal<readonly Notice[]>([]);
const seen = signal(0);
const total = signal(0);
export const unread = computed(() => total.value - seen.value);

export const markRead = (): void => {
  seen.value = total.value;
};

export const dismiss = (id: string): void => {
  toasts.value = toasts.value.filter((toast) => toast.id !== id);
};

const add = (notice: Notice): void => {
  // After a reconnection the server may tell again what it has told.
  if (notices.value.some(({ id }) => id === notice.id)) return;
  notices.value = [notice, ...notices.value].slice(0, KEPT);
  total.value += 1;
  const loud = toasts.value.filter(({ severity }) => severity === "warning" || severity === "error");
  toasts.value = [...loud.slice(-TOASTS), notice];
  hold(notice.id, STAY[notice.severity]);
};

const timers = new Map<string, ReturnType<typeof setTimeout>>();

const hold = (id: string, stay: number): void => {
  clearTimeout(timers.get(id));
  timers.set(
    id,
    setTimeout(() => {
      timers.delete(id);
      dismiss(id);
    }, stay),
  );
};

/** While somebody points at a toast it stays. */
export const keep = (id: string): void => {
  clearTimeout(timers.get(id));
};
export const release = (id: string): void => hold(id, 2500);

/** The wording for logs mostly begins with that for people. */
const detailOf = ({ content, logContent }: StatusMessage): string =>
  (logContent.startsWith(content) ? logContent.slice(content.length) : logContent).replace(/^[\s,.;:]+/, "");

export const received = (message: StatusMessage): void => {
  add({
    id: message.id,
    at: new Date(message.timestamp),
    source: message.source,
    text: message.content,
    detail: detailOf(message),
    severity: severities[message.severity] ?? "info",
  });
};

let own = 0;

/** Says something of the page's own. */
export const say = (text: string, severity: Severity = "info", detail = ""): void => {
  own += 1;
  add({ id: `page-${own}`, at: new Date(), source: "page", text, detail, severity });
};

export const sayProblem = (what: string, problem: Problem): void => {
  say(`${what}: ${spoken(problem)}`, "error", problem.code === null ? "" : `Code ${problem.code}`);
};

export const forget = (): void => {
  notices.value = [];
  toasts.value = [];
  total.value = 0;
  seen.value = 0;
};
