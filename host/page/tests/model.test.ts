import { expect, test } from "vitest";
import { lab, nameIn, stateOf } from "../src/api/model";
import { asProblem, Problem, spoken } from "../src/api/problem";
import { claims, cookie } from "../src/api/token";
import type { WireLab } from "../src/api/wire";
import { matches } from "../src/views/labs/filter";

const wire = (more: Partial<WireLab> = {}): WireLab => ({
  id: "1",
  name: "Monday",
  startTime: "2030-01-31T08:00:00Z",
  endTime: null,
  topologyId: "t",
  collectionId: "c",
  creator: { id: "u", name: "Ada" },
  topologyDefinition: "name: ring\ntopology: {}\n",
  ...more,
});

const instance = (state: number, node: string): NonNullable<WireLab["instance"]> => ({
  name: "ring-1",
  deployed: "2030-01-31T08:00:00Z",
  state,
  latestStateChange: "2030-01-31T08:00:00Z",
  recovered: false,
  nodes: [
    {
      name: "r1",
      kind: "linux",
      ipv4: "",
      ipv6: "",
      state: node,
      containerId: "",
      containerName: "",
      interfaceCaptures: {},
      canRestart: true,
    },
  ],
});

test("a lab without an instance is scheduled before its start and inactive after it", () => {
  const mine = lab(wire());
  expect(stateOf(mine, Date.parse("2030-01-31T07:59:59Z"))).toBe("scheduled");
  expect(stateOf(mine, Date.parse("2030-01-31T08:00:01Z"))).toBe("inactive");
  expect(stateOf(lab(wire({ instance: null })), 0)).toBe("scheduled");
});

test("an instance says what state the lab and its nodes are in", () => {
  const states = [0, 1, 2, 3].map((state) => {
    const mine = lab(wire({ instance: instance(state, state === 1 ? "exited" : "starting") }));
    return [stateOf(mine, 0), mine.nodes[0]?.state];
  });
  expect(states).toEqual([
    ["deploying", "starting"],
    ["running", "exited"],
    ["stopping", "stopping"],
    ["failed", "failed"],
  ]);
});

test("the name of a topology is found without reading the rest of it", () => {
  expect(nameIn("# name: no\nname: ring # yes\n")).toBe("ring");
  expect(nameIn("topology:\n  name: inner\nname: 'outer one'\n")).toBe("outer one");
  expect(nameIn('name: "a b"\n')).toBe("a b");
  expect(nameIn("topology: {}")).toBe("");
});

test("labs are found by any of their names, with all words", () => {
  const mine = lab(wire({ instance: instance(1, "running") }));
  for (const query of ["", "mon", "RING ada", "r1", " monday  ring "]) expect(matches(mine, query, null, 0), query).toBe(true);
  for (const query of ["tuesday", "ring bob"]) expect(matches(mine, query, null, 0), query).toBe(false);
  expect(matches(mine, "", "failed", 0)).toBe(false);
});

test("a token says who it is for, and what isn't one says nothing", () => {
  const token = (said: unknown): string => {
    const bytes = new TextEncoder().encode(JSON.stringify(said));
    return `e30.${btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")}.sig`;
  };
  const said = claims(token({ id: "u1", name: "Zoë", isAdmin: true, collections: ["a"], exp: 7 }));
  expect(said).toEqual({ id: "u1", name: "Zoë", isAdmin: true, collections: ["a"], expires: 7000 });
  expect(claims(token({ id: "u1", exp: 1 }))?.name).toBe("u1");
  for (const bad of ["", "a.b.c", "a", token({ id: 3, exp: 1 }), token([])]) expect(claims(bad), bad).toBeNull();
});

test("cookies are found by their whole name", () => {
  expect(cookie("xaccessToken=1; accessToken=a.b%3D.c; z=2", "accessToken")).toBe("a.b=.c");
  expect(cookie("", "accessToken")).toBe("");
});

test("problems are told in sentences", () => {
  expect(spoken(new Problem("the lab is being deployed", 5002))).toBe("The lab is being deployed.");
  expect(spoken(asProblem("no"))).toBe("No.");
  expect(spoken(asProblem(new Error("Really?")))).toBe("Really?");
  expect(new Problem("", 5005).isMissing).toBe(true);
});
