// Where nodes are drawn: where their author wants them, or in rows if the graph has some, or else with distances on the plane
// as close as can be to those in the graph (stress majorisation), turned so that the longer side lies flat. Then they are
// moved apart until no card covers another. The same graph always looks the same.
import { place as inRows, rowsOf } from "./layers";
import type { Graph } from "./parse";

export interface Point {
  x: number;
  y: number;
}

export interface Size {
  width: number;
  height: number;
}

/** Length that a link wants to have: room for the names of two interfaces, where there is. */
const LINK = 270;
const SHORT_LINK = 150;
/** Least space between two cards. */
const GAP = 34;

/** Links between each two nodes, at least; nodes that nothing joins are a little further away than the farthest. */
const hops = (count: number, edges: readonly (readonly [number, number])[]): Float64Array => {
  const next: number[][] = Array.from({ length: count }, () => []);
  for (const [a, b] of edges) {
    next[a]?.push(b);
    next[b]?.push(a);
  }
  const all = new Float64Array(count * count).fill(-1);
  let farthest = 1;
  for (let from = 0; from < count; from++) {
    all[from * count + from] = 0;
    const queue = [from];
    for (const at of queue) {
      const steps = (all[from * count + at] ?? 0) + 1;
      for (const to of next[at] ?? []) {
        if ((all[from * count + to] ?? 0) >= 0) continue;
        all[from * count + to] = steps;
        farthest = Math.max(farthest, steps);
        queue.push(to);
      }
    }
  }
  // Parts that nothing joins stand beside one another, without a gap as wide as the largest of them.
  const apart = Math.min(farthest + 1, 2 + Math.sqrt(count) / 2);
  return all.map((steps) => (steps < 0 ? apart : steps));
};

/** Orders of the nodes that follow the links: going on from the last one as long as that leads on, and around each first. */
const orders = (count: number, distance: Float64Array): number[][] => {
  const beside = (node: number): number[] =>
    Array.from({ length: count }, (_, other) => other).filter((other) => distance[node * count + other] === 1);
  const [deep, wide]: [Set<number>, Set<number>] = [new Set(), new Set()];
  for (let from = 0; from < count; from++) {
    const stack = [from];
    for (let at = stack.pop(); at !== undefined; at = stack.pop()) {
      if (deep.has(at)) continue;
      deep.add(at);
      stack.push(...beside(at).reverse());
    }
    wide.add(from);
    for (const each of wide) for (const other of beside(each)) wide.add(other);
  }
  return [[...deep], [...wide]];
};

const circle = (order: readonly number[], link: number): Point[] => {
  const points: Point[] = order.map(() => ({ x: 0, y: 0 }));
  const radius = (link * order.length) / (2 * Math.PI);
  order.forEach((node, index) => {
    const turn = (2 * Math.PI * index) / order.length;
    // Slightly out of round: a perfect circle is a saddle that some graphs never leave.
    points[node] = { x: Math.cos(turn) * radius * 1.13, y: Math.sin(turn) * radius * (1 + 0.07 * ((index * 7) % 3)) };
  });
  return points;
};

/** How far the distances on the plane are from those in the graph. */
const stress = (points: readonly Point[], distance: Float64Array, link: number): number => {
  let sum = 0;
  points.forEach((a, i) => {
    points.slice(i + 1).forEach((b, k) => {
      const wanted = (distance[i * points.length + i + 1 + k] as number) * link;
      sum += ((Math.hypot(a.x - b.x, a.y - b.y) - wanted) / wanted) ** 2;
    });
  });
  return sum;
};

const majorise = (points: Point[], distance: Float64Array, link: number): void => {
  const count = points.length;
  const rounds = count > 200 ? 40 : 180;
  for (let round = 0; round < rounds; round++) {
    let moved = 0;
    for (let i = 0; i < count; i++) {
      const me = points[i] as Point;
      let x = 0;
      let y = 0;
      let weights = 0;
      for (let j = 0; j < count; j++) {
        if (i === j) continue;
        const other = points[j] as Point;
        const wanted = (distance[i * count + j] as number) * link;
        const weight = 1 / (wanted * wanted);
        const dx = me.x - other.x;
        const dy = me.y - other.y;
        const length = Math.hypot(dx, dy) || 1e-6;
        x += weight * (other.x + (wanted * dx) / length);
        y += weight * (other.y + (wanted * dy) / length);
        weights += weight;
      }
      if (weights === 0) continue;
      const to = { x: x / weights, y: y / weights };
      moved = Math.max(moved, Math.abs(to.x - me.x), Math.abs(to.y - me.y));
      points[i] = to;
    }
    if (moved < 0.1) break;
  }
};

/** Turns everything so that it is wider than high, with the first node on the left and above. */
const turn = (points: Point[]): void => {
  const count = points.length;
  const mid = centre(points);
  let xx = 0;
  let yy = 0;
  let xy = 0;
  for (const { x, y } of points) {
    xx += (x - mid.x) ** 2;
    yy += (y - mid.y) ** 2;
    xy += (x - mid.x) * (y - mid.y);
  }
  const angle = -0.5 * Math.atan2(2 * xy, xx - yy);
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  for (let i = 0; i < count; i++) {
    const { x, y } = points[i] as Point;
    points[i] = { x: (x - mid.x) * cos - (y - mid.y) * sin, y: (x - mid.x) * sin + (y - mid.y) * cos };
  }
  const first = points[0] as Point;
  const flipX = first.x > 1 ? -1 : 1;
  const flipY = first.y > 1 ? -1 : 1;
  for (let i = 0; i < count; i++) {
    const { x, y } = points[i] as Point;
    points[i] = { x: x * flipX, y: y * flipY };
  }
};

const centre = (points: readonly Point[]): Point => {
  const sum = points.reduce((a, b) => ({ x: a.x + b.x, y: a.y + b.y }), { x: 0, y: 0 });
  return { x: sum.x / points.length, y: sum.y / points.length };
};

const separate = (points: Point[], sizes: readonly Size[]): void => {
  for (let round = 0; round < 120; round++) {
    let clear = true;
    for (let i = 0; i < points.length; i++) {
      for (let j = i + 1; j < points.length; j++) {
        const [a, b] = [points[i] as Point, points[j] as Point];
        const [s, t] = [sizes[i] as Size, sizes[j] as Size];
        const x = (s.width + t.width) / 2 + GAP - Math.abs(a.x - b.x);
        const y = (s.height + t.height) / 2 + GAP - Math.abs(a.y - b.y);
        if (x <= 0.5 || y <= 0.5) continue;
        clear = false;
        // The shorter way out, half each.
        if (x < y) {
          const half = (x / 2) * (a.x <= b.x ? -1 : 1);
          a.x += half;
          b.x -= half;
        } else {
          const half = (y / 2) * (a.y <= b.y ? -1 : 1);
          a.y += half;
          b.y -= half;
        }
      }
    }
    if (clear) break;
  }
};

/** The middles of the nodes' cards, in the order of the nodes, around the origin. Compact: without names of interfaces. */
export const layout = (graph: Graph, sizes: readonly Size[], compact = false): Point[] => {
  const count = graph.nodes.length;
  if (count === 0) return [];
  const placed = graph.nodes.map((node) => node.place);
  let points: Point[];
  if (placed.every((place) => place !== null)) {
    points = placed.map(({ x, y }) => ({ x, y }));
  } else {
    const index = new Map(graph.nodes.map((node, at) => [node.name, at]));
    const edges = graph.links.flatMap(({ a, b }): [number, number][] => {
      const from = index.get(a.node);
      const to = b ? index.get(b.node) : undefined;
      return from === undefined || to === undefined || from === to ? [] : [[from, to]];
    });
    const rows = rowsOf(count, edges);
    if (rows) {
      points = inRows(rows, edges, sizes, compact);
    } else {
      const distance = hops(count, edges);
      const link = compact ? SHORT_LINK : LINK;
      // Where one starts decides where one ends: the better of two.
      const found = orders(count, distance).map((order) => {
        const tried = circle(order, link);
        majorise(tried, distance, link);
        return { tried, stress: stress(tried, distance, link) };
      });
      points = found.reduce((best, other) => (other.stress < best.stress * 0.999 ? other : best)).tried;
      turn(points);
    }
  }
  separate(points, sizes);
  const mid = centre(points);
  return points.map(({ x, y }) => ({ x: Math.round(x - mid.x), y: Math.round(y - mid.y) }));
};
