import { expect, test } from "vitest";
import { examples } from "../src/views/create/examples";
import { bounds, draw, drawing, type Point } from "../src/topology/drawing";
import { parse } from "../src/topology/parse";
import { neighbour } from "../src/views/lab/graph/steps";

const two = `
name: two
topology:
  defaults: {kind: linux}
  kinds:
    nokia_srlinux: {image: srl:1}
  groups:
    fabric: {kind: nokia_srlinux}
  nodes:
    r1:
    "02": {group: fabric}
    br: {kind: bridge, image: none}
  links:
    - endpoints: ["r1:eth1", "02:e1-1"]
    - type: veth
      endpoints:
        - {node: r1, interface: eth2, ipv4: 10.0.0.1/30}
        - {node: br, interface: p1, ipv6: [fd00::1/64, fd00::2/64]}
    - type: macvlan
      endpoint: {node: r1, interface: eth3}
      host-interface: enp0s3
    - endpoints: ["r1:eth4", "host:tap0"]
    - endpoints: ["r1:eth5"]
    - endpoints: ["nobody:eth0", "none:eth0"]
`;

test("nodes have the kind and image that they inherit, and their name as it is written", () => {
  expect(parse(two)?.nodes).toEqual([
    { name: "r1", kind: "linux", image: "", place: null },
    { name: "02", kind: "nokia_srlinux", image: "srl:1", place: null },
    { name: "br", kind: "bridge", image: "none", place: null },
  ]);
});

test("links are read in both notations, and those that lead out say where to", () => {
  const links = parse(two)?.links ?? [];
  expect(links.map(({ a, b, outside }) => [a.node, a.interface, b ? `${b.node}:${b.interface}` : outside])).toEqual([
    ["r1", "eth1", "02:e1-1"],
    ["r1", "eth2", "br:p1"],
    ["r1", "eth3", "macvlan enp0s3"],
    ["r1", "eth4", "host tap0"],
  ]);
  expect(links[1]?.a.addresses).toEqual(["10.0.0.1/30"]);
  expect(links[1]?.b?.addresses).toEqual(["fd00::1/64", "fd00::2/64"]);
});

test("anchors and merge keys are followed", () => {
  const graph = parse("x: &d {kind: linux, image: i}\ntopology: {nodes: {a: {<<: *d}}}");
  expect(graph?.nodes[0]).toMatchObject({ kind: "linux", image: "i" });
});

test("what can't be read is no drawing and no error", () => {
  for (const text of ["", "name: x", "[", "- a\n- b", "topology: 3", "topology: {nodes: {}}", "a: &a [*a]", "topology: {nodes: [1]}"]) {
    expect(drawing(text), text).toBeNull();
  }
});

const chain = (count: number): string => {
  const nodes = Array.from({ length: count }, (_, i) => `    n${i}:\n`).join("");
  const links = Array.from({ length: count - 1 }, (_, i) => `    - endpoints: ["n${i}:a", "n${i + 1}:b"]\n`).join("");
  return `topology:\n  nodes:\n${nodes}  links:\n${links}`;
};

const overlaps = (text: string): string[] => {
  const made = drawing(text);
  if (!made) throw new Error("no drawing");
  const all = [...made.points];
  return all.flatMap(([a, p], i) =>
    all.slice(i + 1).flatMap(([b, q]) => {
      const [s, t] = [made.sizes.get(a), made.sizes.get(b)];
      const wide = ((s?.width ?? 0) + (t?.width ?? 0)) / 2;
      const high = ((s?.height ?? 0) + (t?.height ?? 0)) / 2;
      return Math.abs(p.x - q.x) < wide && Math.abs(p.y - q.y) < high ? [`${a} covers ${b}`] : [];
    }),
  );
};

test("no card covers another, whatever the shape", () => {
  const star = `topology:\n  nodes:\n    hub:\n${Array.from({ length: 30 }, (_, i) => `    leaf-with-a-long-name-${i}:\n`).join("")}`;
  const mesh = `topology:\n  nodes:\n${"abcdefgh".split("").map((n) => `    ${n}:\n`).join("")}  links:\n${"abcdefgh"
    .split("")
    .flatMap((a, i) => "abcdefgh".slice(i + 1).split("").map((b) => `    - endpoints: ["${a}:${b}", "${b}:${a}"]\n`))
    .join("")}`;
  for (const text of [chain(2), chain(9), chain(60), star, mesh, ...examples.map(({ definition }) => definition)]) {
    expect(overlaps(text)).toEqual([]);
  }
});

test("the same topology is always drawn the same, and flat rather than high", () => {
  const [once, again] = [drawing(chain(5)), drawing(chain(5))];
  expect([...(once?.points ?? [])]).toEqual([...(again?.points ?? [])]);
  const points = [...(once?.points.values() ?? [])];
  const extent = (of: number[]): number => Math.max(...of) - Math.min(...of);
  expect(extent(points.map(({ x }) => x))).toBeGreaterThan(extent(points.map(({ y }) => y)));
  expect(points[0]?.x).toBeLessThan(points[4]?.x ?? 0);
});

test("a ring is drawn without links that cross", () => {
  for (const text of [examples[1]?.definition ?? "", chain(12).replace("links:\n", 'links:\n    - endpoints: ["n11:z", "n0:z"]\n')]) {
    const made = drawing(text);
    const ends = (made?.graph.links ?? []).map(({ a, b }) => [made?.points.get(a.node), made?.points.get(b?.node ?? "")]);
    const side = (p: Point, q: Point, r: Point): number => Math.sign((q.x - p.x) * (r.y - p.y) - (q.y - p.y) * (r.x - p.x));
    const crossings = ends.flatMap(([a, b], i) =>
      ends.slice(i + 1).filter(([c, d]) => a && b && c && d && side(a, b, c) * side(a, b, d) < 0 && side(c, d, a) * side(c, d, b) < 0),
    );
    expect(crossings).toEqual([]);
  }
});

test("a fabric is drawn in rows", () => {
  const made = drawing(examples[2]?.definition ?? "");
  const row = (name: string): number | undefined => made?.points.get(name)?.y;
  expect(row("spine1")).toBe(row("spine2"));
  expect(new Set(["leaf1", "leaf2", "leaf3", "leaf4"].map(row)).size).toBe(1);
  expect(row("spine1")).toBeLessThan(row("leaf1") ?? 0);
  expect(row("leaf1")).toBeLessThan(row("host1") ?? 0);
});

test("places that the author has given are kept relative to each other", () => {
  const made = drawing(
    `topology:\n  nodes:\n    a: {labels: {graph-posX: "0", graph-posY: "0"}}\n    b: {labels: {graph-posX: "400", graph-posY: "-300"}}`,
  );
  const [a, b] = [made?.points.get("a"), made?.points.get("b")];
  expect([(b?.x ?? 0) - (a?.x ?? 0), (b?.y ?? 0) - (a?.y ?? 0)]).toEqual([400, -300]);
});

test("several links between two nodes are several lines, and every name has its place", () => {
  const made = drawing(
    `topology:\n  nodes:\n    a:\n    b:\n  links:\n    - endpoints: ["a:e1", "b:e1"]\n    - endpoints: ["b:e2", "a:e2"]\n    - endpoints: ["a:e3", "a:e4"]\n    - endpoints: ["a:e5", "host:x"]`,
  );
  if (!made) throw new Error("no drawing");
  const lines = draw(made.graph.links, made.points, made.sizes);
  expect(new Set(lines.map((line) => line?.path)).size).toBe(4);
  const spots = lines.flatMap((line) => line?.labels ?? []);
  expect(spots).toHaveLength(8);
  const box = bounds(made.points, made.sizes, lines);
  for (const { x, y } of spots) {
    expect(x > box.x && x < box.x + box.width && y > box.y && y < box.y + box.height).toBe(true);
  }
});

test("arrow keys go to the nearest node that way, and stay where there is none", () => {
  const points = new Map([
    ["mid", { x: 0, y: 0 }],
    ["right", { x: 100, y: 10 }],
    ["far", { x: 300, y: 0 }],
    ["below", { x: 5, y: 90 }],
  ]);
  expect(neighbour(points, "mid", "ArrowRight")).toBe("right");
  expect(neighbour(points, "right", "ArrowRight")).toBe("far");
  expect(neighbour(points, "mid", "ArrowDown")).toBe("below");
  expect(neighbour(points, "mid", "ArrowUp")).toBeNull();
});
