// A topology as it is drawn: read, and laid out for the cards of its nodes. Fetched as a whole when the first is needed.
import { layout, type Point, type Size } from "./layout";
import { parse, type Graph } from "./parse";

export { bounds, draw, type Drawn } from "./geometry";
export type { Point, Size } from "./layout";
export type { Graph, GraphLink, GraphNode } from "./parse";

export interface Drawing {
  graph: Graph;
  sizes: ReadonlyMap<string, Size>;
  points: ReadonlyMap<string, Point>;
  /** There are so many nodes that their cards have the name alone, and links no names until they are looked at. */
  compact: boolean;
}

const [HEIGHT, COMPACT_HEIGHT] = [52, 34];
/** More nodes than this are drawn compactly. */
const ROOMY = 16;
/** Larger topologies are not drawn: laying out takes time by the square of the nodes, and anybody may store such a one. */
const [MOST_NODES, MOST_LINKS, MOST_TEXT] = [200, 400, 300_000];
/** Longer names are cut on the card; they are in full beside it. */
export const LONGEST = 20;

/** What a node's card needs for its name, in a font of some 7.6 px for each letter. */
export const cardSize = (name: string, compact: boolean): Size => {
  const letters = Math.min(name.length, LONGEST) * 8;
  return compact
    ? { width: Math.round(Math.max(64, 38 + letters)), height: COMPACT_HEIGHT }
    : { width: Math.round(Math.max(136, 64 + letters)), height: HEIGHT };
};

/** Null: there is nothing to draw, or too much. */
export const drawing = (definition: string): Drawing | null => {
  if (definition.length > MOST_TEXT) return null;
  const graph = parse(definition);
  if (!graph || graph.nodes.length === 0) return null;
  if (graph.nodes.length > MOST_NODES || graph.links.length > MOST_LINKS) return null;
  const compact = graph.nodes.length > ROOMY;
  const sizes = graph.nodes.map((node) => cardSize(node.name, compact));
  const points = layout(graph, sizes, compact);
  const named = <T,>(values: readonly T[]): Map<string, T> =>
    new Map(graph.nodes.map((node, index) => [node.name, values[index] as T]));
  return { graph, sizes: named(sizes), points: named(points), compact };
};
