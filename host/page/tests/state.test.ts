import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { coalesced } from "../src/state/coalesce";
import { span } from "../src/state/time";
import { latency, share } from "../src/views/plugins/figures";
import { level, plain } from "../src/views/lab/log/text";
import { pieces } from "../src/views/lab/terminals/paste";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const recorder = () => {
  const fetched: string[] = [];
  let release: (() => void) | null = null;
  const held = (what: string): Promise<void> => {
    fetched.push(what);
    return new Promise((resolve) => (release = resolve));
  };
  return { fetched, fetches: { one: held, all: () => held("all") }, release: () => release?.() };
};

test("a burst of changes is one fetch for each thing", async () => {
  const { fetched, fetches } = recorder();
  const changed = coalesced(fetches, 80);
  for (let i = 0; i < 50; i++) changed("a");
  changed("b");
  expect(fetched).toEqual([]);
  await vi.advanceTimersByTimeAsync(80);
  expect(fetched).toEqual(["a", "b"]);
});

test("many changed things, and everything, are one fetch", async () => {
  const { fetched, fetches } = recorder();
  const changed = coalesced(fetches, 80);
  for (const id of "abcdefgh") changed(id);
  changed(null);
  await vi.advanceTimersByTimeAsync(80);
  expect(fetched).toEqual(["all"]);
});

test("what changes during a fetch is fetched after it, and once", async () => {
  const { fetched, fetches, release } = recorder();
  const changed = coalesced(fetches, 80);
  changed("a");
  await vi.advanceTimersByTimeAsync(80);
  changed("a");
  changed("a");
  await vi.advanceTimersByTimeAsync(1000);
  expect(fetched).toEqual(["a"]);
  release();
  await vi.advanceTimersByTimeAsync(80);
  expect(fetched).toEqual(["a", "a"]);
});

test("a fetch that fails doesn't end the others", async () => {
  const fetched: string[] = [];
  const one = (id: string): Promise<void> => {
    fetched.push(id);
    return Promise.reject(new Error("no"));
  };
  const changed = coalesced({ one, all: () => Promise.resolve() }, 10);
  changed("a");
  await vi.advanceTimersByTimeAsync(10);
  changed("b");
  await vi.advanceTimersByTimeAsync(10);
  expect(fetched).toEqual(["a", "b"]);
});

test("spans are told in the units that matter", () => {
  const [second, minute, hour] = [1000, 60_000, 3_600_000];
  expect(span(-5)).toBe("0 s");
  expect(span(59 * second)).toBe("59 s");
  expect(span(25 * minute + 3)).toBe("25 min");
  expect(span(hour)).toBe("1 h");
  expect(span(hour + 5 * minute)).toBe("1 h 5 min");
  expect(span(11 * hour + 5 * minute)).toBe("11 h");
  expect(span(49 * hour)).toBe("2 d 1 h");
  expect(span(80 * hour)).toBe("3 d");
});

test("figures of plugins have their units", () => {
  expect([null, 7.64, 300, 1700, 250_000].map(latency)).toEqual(["—", "7.6 µs", "300 µs", "1.7 ms", "0.25 s"]);
  expect([share(1, 1), share(1, 3), share(1, 1000), share(0, 0)]).toEqual(["", "33 %", "<1 %", ""]);
});

test("lines of logs lose the codes of terminals and nothing else", () => {
  expect(plain("\x1b[31mERRO\x1b[0m it's <b>\x07")).toBe("ERRO it's <b>");
  expect(plain("10%\r50%\r100%\r")).toBe("100%");
  expect(plain("\x1b]0;title\x07tab\tkept é 🙂")).toBe("tab\tkept é 🙂");
  expect(plain("x".repeat(5000))).toMatch(/^x{4000} … \(1000 more\)$/);
});

test("lines that warn or tell of errors are told from others", () => {
  expect(level("12:00:01 WARN  low memory")).toBe("warning");
  expect(level('time="x" level=error msg="y"')).toBe("error");
  expect(level("no errors so far, warned nobody")).toBeNull();
});

test("what is pasted is cut between characters", () => {
  expect(pieces("")).toEqual([]);
  expect(pieces("abcdef", 4)).toEqual(["abcd", "ef"]);
  const faces = "🙂".repeat(5);
  for (const size of [1, 2, 3, 5]) {
    const cut = pieces(faces, size);
    expect(cut.join("")).toBe(faces);
    for (const piece of cut) expect(() => encodeURIComponent(piece)).not.toThrow();
  }
});
