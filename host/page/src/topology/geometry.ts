// Lines between cards: where they leave a card, how several between the same two bend, and where the names of the
// interfaces stand.
import type { Point, Size } from "./layout";
import type { GraphLink } from "./parse";

export interface Drawn {
  /** For the `d` of a path. */
  path: string;
  /** Where the name of the interface at either end stands; the second is where what is outside is named. */
  labels: readonly [Point, Point];
  middle: Point;
}

/** Space between lines that join the same two cards. */
const BEND = 46;
/** Least space between a card and the name of an interface. */
const AWAY = 10;
/** Half of the size of a name: of each of its letters, and of its height. */
const [HALF_LETTER, HALF_HEIGHT] = [3.6, 8];
/** How far a name that would cover another is moved along its line, and how often. */
const [FURTHER, TRIES] = [13, 7];
/** How long a line is that leads out of the topology. */
const STUB = 74;

const along = (from: Point, control: Point, to: Point, t: number): Point => ({
  x: (1 - t) ** 2 * from.x + 2 * (1 - t) * t * control.x + t ** 2 * to.x,
  y: (1 - t) ** 2 * from.y + 2 * (1 - t) * t * control.y + t ** 2 * to.y,
});

const within = (point: Point, middle: Point, size: Size): boolean =>
  Math.abs(point.x - middle.x) <= size.width / 2 && Math.abs(point.y - middle.y) <= size.height / 2;

/** The share of a line that lies under the card it begins at. */
const leaving = (at: (t: number) => Point, middle: Point, size: Size): number => {
  let [inside, outside] = [0, 0.5];
  for (let round = 0; round < 14; round++) {
    const half = (inside + outside) / 2;
    if (within(at(half), middle, size)) inside = half;
    else outside = half;
  }
  return outside;
};

interface Label {
  text: string;
  /** Where it may stand, the best first. */
  spots: readonly Point[];
}

/** A link before its names have found their places. */
interface Draft {
  path: string;
  labels: readonly [Label, Label];
  middle: Point;
}

const line = (from: Point, to: Point, sizes: readonly [Size, Size], texts: readonly [string, string], bend: number): Draft => {
  const length = Math.hypot(to.x - from.x, to.y - from.y) || 1;
  const normal = { x: -(to.y - from.y) / length, y: (to.x - from.x) / length };
  // A quadratic curve goes half as far out as its control point.
  const control = { x: (from.x + to.x) / 2 + normal.x * bend * 2, y: (from.y + to.y) / 2 + normal.y * bend * 2 };
  const at = (t: number): Point => along(from, control, to, t);
  // A name beside a card needs more room than one below it.
  const [flat, steep] = [Math.abs(to.x - from.x) / length, Math.abs(to.y - from.y) / length];
  const spots = (text: string, edge: number, place: (t: number) => Point): Label => {
    const half = flat * text.length * HALF_LETTER + steep * HALF_HEIGHT;
    const near = edge + (AWAY + half) / length;
    const all = Array.from({ length: TRIES }, (_, index) => near + (index * FURTHER) / length);
    const fitting = all.filter((t) => t <= 0.47);
    return { text, spots: (fitting.length > 0 ? fitting : [Math.min(near, 0.4)]).map(place) };
  };
  const back = (t: number): Point => at(1 - t);
  const labels = [
    spots(texts[0], leaving(at, from, sizes[0]), at),
    spots(texts[1], leaving(back, to, sizes[1]), back),
  ] as const;
  const bow = bend === 0 ? `L${to.x} ${to.y}` : `Q${control.x.toFixed(1)} ${control.y.toFixed(1)} ${to.x} ${to.y}`;
  return { path: `M${from.x} ${from.y}${bow}`, labels, middle: at(0.5) };
};

/** From a node back to itself: a loop above its card. */
const loop = (at: Point, size: Size, texts: readonly [string, string], order: number): Draft => {
  const top = at.y - size.height / 2;
  const high = top - 58 - order * 20;
  const [left, right] = [at.x - 34, at.x + 34];
  const path = `M${left} ${top}C${left - 10} ${high} ${right + 10} ${high} ${right} ${top}`;
  const label = (text: string, x: number): Label => ({ text, spots: [{ x, y: top - 18 }] });
  return { path, labels: [label(texts[0], left - 4), label(texts[1], right + 4)], middle: { x: at.x, y: high } };
};

const stub = (at: Point, size: Size, texts: readonly [string, string], order: number): Draft => {
  const x = at.x + (order % 2 === 0 ? 1 : -1) * Math.ceil(order / 2) * 90;
  const edge = at.y + size.height / 2;
  const end = { x, y: edge + STUB };
  const near: Label = { text: texts[0], spots: [{ x: (at.x + x) / 2, y: edge + 22 }] };
  const far: Label = { text: texts[1], spots: [end] };
  return { path: `M${at.x} ${at.y}L${end.x} ${end.y}`, labels: [near, far], middle: end };
};

interface Box extends Point {
  halfWidth: number;
  halfHeight: number;
}

const overlap = (a: Box, b: Box): boolean =>
  Math.abs(a.x - b.x) < a.halfWidth + b.halfWidth && Math.abs(a.y - b.y) < a.halfHeight + b.halfHeight;

/** Gives each name the first of its spots where it covers neither a card nor another name, or else the first. */
const settle = (drafts: readonly (Draft | null)[], cards: readonly Box[]): (Drawn | null)[] => {
  const taken: Box[] = [];
  const put = ({ text, spots }: Label): Point => {
    const box = (at: Point): Box => ({ ...at, halfWidth: text.length * HALF_LETTER + 2, halfHeight: HALF_HEIGHT });
    const free = spots.find((spot) => ![...cards, ...taken].some((other) => overlap(box(spot), other)));
    const spot = free ?? (spots[0] as Point);
    if (text !== "") taken.push(box(spot));
    return spot;
  };
  return drafts.map((draft) => draft && { ...draft, labels: [put(draft.labels[0]), put(draft.labels[1])] });
};

/** All links of a graph, in their order. */
export const draw = (
  links: readonly GraphLink[],
  at: ReadonlyMap<string, Point>,
  sizes: ReadonlyMap<string, Size>,
): (Drawn | null)[] => {
  const key = (a: string, b: string): string => (a < b ? `${a}\n${b}` : `${b}\n${a}`);
  const totals = new Map<string, number>();
  const keys = links.map(({ a, b }) => (b ? key(a.node, b.node) : a.node));
  for (const each of keys) totals.set(each, (totals.get(each) ?? 0) + 1);
  const drawn = new Map<string, number>();
  const drafts = links.map(({ a, b, outside }, index) => {
    const each = keys[index] as string;
    const order = drawn.get(each) ?? 0;
    drawn.set(each, order + 1);
    const [from, size] = [at.get(a.node), sizes.get(a.node)];
    if (!from || !size) return null;
    const texts = [a.interface, b ? b.interface : outside] as const;
    if (!b) return stub(from, size, texts, order);
    if (a.node === b.node) return loop(from, size, texts, order);
    const [to, other] = [at.get(b.node), sizes.get(b.node)];
    if (!to || !other) return null;
    const total = totals.get(each) ?? 1;
    // The same side for both directions, or two lines that were written the other way round would lie on each other.
    const side = a.node < b.node ? 1 : -1;
    return line(from, to, [size, other], texts, side * (order - (total - 1) / 2) * BEND);
  });
  const cards = [...at].map(([name, point]) => {
    const { width, height } = sizes.get(name) ?? { width: 0, height: 0 };
    return { ...point, halfWidth: width / 2, halfHeight: height / 2 };
  });
  return settle(drafts, cards);
};

/** What holds everything, with a margin; for the `viewBox`. */
export const bounds = (
  at: ReadonlyMap<string, Point>,
  sizes: ReadonlyMap<string, Size>,
  drawn: readonly (Drawn | null)[],
): { x: number; y: number; width: number; height: number } => {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  const hold = (x: number, y: number): void => {
    left = Math.min(left, x);
    right = Math.max(right, x);
    top = Math.min(top, y);
    bottom = Math.max(bottom, y);
  };
  for (const [name, { x, y }] of at) {
    const size = sizes.get(name) ?? { width: 0, height: 0 };
    hold(x - size.width / 2, y - size.height / 2);
    hold(x + size.width / 2, y + size.height / 2);
  }
  for (const each of drawn) if (each) for (const { x, y } of [...each.labels, each.middle]) hold(x, y);
  if (left > right) return { x: 0, y: 0, width: 1, height: 1 };
  const margin = 44;
  return { x: left - margin, y: top - margin, width: right - left + 2 * margin, height: bottom - top + 2 * margin };
};
