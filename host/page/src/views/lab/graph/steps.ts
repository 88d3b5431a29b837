// Where an arrow key leads to from a node.
import type { Point } from "../../../topology/drawing";

const ways: Record<string, Point> = {
  ArrowLeft: { x: -1, y: 0 },
  ArrowRight: { x: 1, y: 0 },
  ArrowUp: { x: 0, y: -1 },
  ArrowDown: { x: 0, y: 1 },
};

/** The nearest node that way; what lies aside counts as further away. Null: none lies that way. */
export const neighbour = (points: ReadonlyMap<string, Point>, from: string, key: string): string | null => {
  const here = points.get(from);
  const way = ways[key];
  if (!here || !way) return null;
  let best: string | null = null;
  let least = Infinity;
  for (const [name, point] of points) {
    if (name === from) continue;
    const [dx, dy] = [point.x - here.x, point.y - here.y];
    const ahead = dx * way.x + dy * way.y;
    const aside = Math.abs(dx * way.y) + Math.abs(dy * way.x);
    if (ahead <= 1) continue;
    const cost = ahead + 2.5 * aside;
    if (cost < least) [best, least] = [name, cost];
  }
  return best;
};
