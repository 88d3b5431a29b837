// Reads from a topology file what a drawing needs: nodes with their kinds, and links with their interfaces. The server has
// checked the file; what is not understood here is left out of the drawing and never an error.
import { FAILSAFE_SCHEMA, load, mergeTag, realMapTag } from "js-yaml";

export interface GraphNode {
  name: string;
  kind: string;
  image: string;
  /** Where its author wants it, from labels that containerlab's own drawing reads. */
  place: { x: number; y: number } | null;
}

export interface End {
  node: string;
  interface: string;
  /** Addresses on this end of the link. */
  addresses: readonly string[];
}

export interface GraphLink {
  a: End;
  /** Null: it leads out of the topology, to what `outside` says. */
  b: End | null;
  outside: string;
}

export interface Graph {
  name: string;
  nodes: readonly GraphNode[];
  links: readonly GraphLink[];
}

/** Every scalar is the text that was written, so that a node called `01` or `null` keeps its name. */
const schema = FAILSAFE_SCHEMA.withTags(mergeTag, realMapTag);

type Mapping = ReadonlyMap<unknown, unknown>;

const mapping = (value: unknown): Mapping => (value instanceof Map ? value : new Map());
const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);
const text = (value: unknown): string => (typeof value === "string" ? value.trim() : "");
const texts = (value: unknown): string[] => {
  const all = Array.isArray(value) ? value : [value];
  return all.map(text).filter((each) => each !== "");
};

/** What a node says itself, or its group, its kind, the defaults: in this order, as containerlab inherits. */
const inherited = (topology: Mapping, node: Mapping, key: string): string => {
  const defaults = mapping(topology.get("defaults"));
  const groupName = text(node.get("group")) || text(defaults.get("group"));
  const group = mapping(mapping(topology.get("groups")).get(groupName));
  if (key === "kind") return text(node.get(key)) || text(group.get(key)) || text(defaults.get(key));
  const kind = mapping(mapping(topology.get("kinds")).get(inherited(topology, node, "kind")));
  return text(node.get(key)) || text(group.get(key)) || text(kind.get(key)) || text(defaults.get(key));
};

const place = (node: Mapping): GraphNode["place"] => {
  const labels = mapping(node.get("labels"));
  const x = Number.parseFloat(text(labels.get("graph-posX")));
  const y = Number.parseFloat(text(labels.get("graph-posY")));
  return Number.isFinite(x) && Number.isFinite(y) ? { x, y } : null;
};

const end = (value: unknown): End | null => {
  if (value instanceof Map) {
    const node = text(value.get("node"));
    const addresses = [...texts(value.get("ipv4")), ...texts(value.get("ipv6"))];
    return node ? { node, interface: text(value.get("interface")), addresses } : null;
  }
  const [node = "", ...rest] = text(value).split(":");
  return node ? { node, interface: rest.join(":"), addresses: [] } : null;
};

const isOutside = new Set(["host", "mgmt-net", "macvlan", "vxlan", "vxlan-stitch", "dummy"]);

const link = (value: unknown, nodes: ReadonlySet<string>): GraphLink | null => {
  const def = mapping(value);
  const type = text(def.get("type"));
  if (isOutside.has(type)) {
    const a = end(def.get("endpoint"));
    const where = text(def.get("host-interface")) || text(def.get("remote"));
    return a && nodes.has(a.node) ? { a, b: null, outside: [type, where].filter(Boolean).join(" ") } : null;
  }
  const ends = list(def.get("endpoints")).map(end);
  const [a, b] = ends;
  if (ends.length !== 2 || !a || !b) return null;
  // In the short notation, the other end may be the host or one of its bridges.
  if (nodes.has(a.node) && nodes.has(b.node)) return { a, b, outside: "" };
  if (nodes.has(a.node)) return { a, b: null, outside: `${b.node} ${b.interface}`.trim() };
  if (nodes.has(b.node)) return { a: b, b: null, outside: `${a.node} ${a.interface}`.trim() };
  return null;
};

/** Null: it can't be read. */
export const parse = (definition: string): Graph | null => {
  let file: Mapping;
  try {
    file = mapping(load(definition, { schema }));
  } catch {
    return null;
  }
  const topology = mapping(file.get("topology"));
  const nodes = [...mapping(topology.get("nodes"))].map(([name, value]): GraphNode => {
    const node = mapping(value);
    return {
      name: String(name),
      kind: inherited(topology, node, "kind"),
      image: inherited(topology, node, "image"),
      place: place(node),
    };
  });
  const names = new Set(nodes.map((node) => node.name));
  const links = list(topology.get("links"))
    .map((each) => link(each, names))
    .filter((each) => each !== null);
  return { name: text(file.get("name")), nodes, links };
};
