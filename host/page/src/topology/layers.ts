// Fabrics and trees, which people draw in rows: those whose links all lead from one row to the next. What isn't one of them
// has no layers, and is laid out by `layout.ts` otherwise.
import type { Point, Size } from "./layout";

/** A row of more nodes than this would be a thin line on any screen. */
const WIDEST = 14;
/** Rows of more than this are drawn as a zigzag, which takes half of the width. */
const STRAIGHT = 6;
const BETWEEN_ROWS = 175;
const BETWEEN_COMPACT_ROWS = 120;
const ZIGZAG = 84;
const GAP = 56;
const COMPACT_GAP = 26;

/** By row, the nodes in it; null: the graph has no such shape. */
export const rowsOf = (count: number, edges: readonly (readonly [number, number])[]): number[][] | null => {
  const next: Set<number>[] = Array.from({ length: count }, () => new Set());
  for (const [a, b] of edges) {
    next[a]?.add(b);
    next[b]?.add(a);
  }
  const most = Math.max(...next.map((each) => each.size));
  if (most < 2) return null;
  const row = new Array<number>(count).fill(-1);
  let current = next.flatMap((each, node) => (each.size === most ? [node] : []));
  const rows: number[][] = [];
  while (current.length > 0) {
    for (const node of current) row[node] = rows.length;
    rows.push(current);
    current = [...new Set(current.flatMap((node) => [...(next[node] ?? [])]))].filter((node) => row[node] === -1);
  }
  const fits =
    row.every((each) => each >= 0) &&
    edges.every(([a, b]) => Math.abs((row[a] ?? 0) - (row[b] ?? 0)) === 1) &&
    rows.every((each) => each.length <= WIDEST) &&
    // One node with others around it, and lines, look better otherwise.
    (rows.length > 2 || (rows[0]?.length ?? 0) > 1) &&
    rows.some((each) => each.length > 2);
  return fits ? rows : null;
};

/** Orders rows so that fewer links cross: each node goes to the middle of those it is linked with. */
const untangle = (rows: number[][], edges: readonly (readonly [number, number])[], count: number): void => {
  const place = new Array<number>(count).fill(0);
  const note = (row: readonly number[]): void => {
    row.forEach((node, index) => (place[node] = (index + 0.5) / row.length));
  };
  rows.forEach(note);
  for (let round = 0; round < 8; round++) {
    const down = round % 2 === 0;
    for (let at = down ? 1 : rows.length - 2; at >= 0 && at < rows.length; at += down ? 1 : -1) {
      const beside = new Set(rows[down ? at - 1 : at + 1]);
      const row = rows[at] as number[];
      const pull = new Map(
        row.map((node): [number, number] => {
          const others = edges.flatMap(([a, b]) => (a === node ? [b] : b === node ? [a] : [])).filter((n) => beside.has(n));
          const sum = others.reduce((total, other) => total + (place[other] ?? 0), 0);
          return [node, others.length ? sum / others.length : (place[node] ?? 0)];
        }),
      );
      // Sorting is stable: what is pulled alike stays in the order of the file.
      row.sort((a, b) => (pull.get(a) ?? 0) - (pull.get(b) ?? 0));
      note(row);
    }
  }
};

/** Moves the nodes of a row, in their order and with their space, towards those that they are linked with. */
const straighten = (row: readonly number[], step: number, edges: readonly (readonly [number, number])[], points: Point[]): void => {
  const wanted = row.map((node) => {
    const others = edges.flatMap(([a, b]) => (a === node ? [b] : b === node ? [a] : []));
    const sum = others.reduce((total, other) => total + (points[other]?.x ?? 0), 0);
    return others.length > 0 ? sum / others.length : (points[node]?.x ?? 0);
  });
  // As far right as those on the left push, and as far left as those on the right: the middle of both keeps the space.
  const pushed: number[] = [];
  for (const [index, x] of wanted.entries()) pushed.push(Math.max(x, (pushed[index - 1] ?? -Infinity) + step));
  const pulled: number[] = [];
  for (const x of [...wanted].reverse()) pulled.unshift(Math.min(x, (pulled[0] ?? Infinity) - step));
  row.forEach((node, index) => {
    const point = points[node] as Point;
    point.x = ((pushed[index] as number) + (pulled[index] as number)) / 2;
  });
};

/** The middles of the nodes' cards. */
export const place = (
  rows: number[][],
  edges: readonly (readonly [number, number])[],
  sizes: readonly Size[],
  compact: boolean,
): Point[] => {
  untangle(rows, edges, sizes.length);
  const points: Point[] = sizes.map(() => ({ x: 0, y: 0 }));
  const steps = rows.map((row) => {
    const widest = Math.max(...row.map((node) => sizes[node]?.width ?? 0));
    return (widest + (compact ? COMPACT_GAP : GAP)) * (row.length > STRAIGHT ? 0.56 : 1);
  });
  let y = 0;
  rows.forEach((row, at) => {
    const zigzag = row.length > STRAIGHT;
    row.forEach((node, index) => {
      const x = (index - (row.length - 1) / 2) * (steps[at] as number);
      points[node] = { x, y: y + (zigzag && index % 2 ? ZIGZAG : 0) };
    });
    y += (compact ? BETWEEN_COMPACT_ROWS : BETWEEN_ROWS) + (zigzag ? ZIGZAG : 0);
  });
  for (let round = 0; round < 12; round++) {
    rows.forEach((row, at) => straighten(row, steps[at] as number, edges, points));
  }
  return points;
};
