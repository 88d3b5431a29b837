// What anybody may store must not keep anybody else's page from answering.
import { expect, test } from "vitest";
import { drawing } from "../src/topology/drawing";

test("a topology that is too large to draw is not laid out", () => {
  const nodes = Array.from({ length: 6000 }, (_, index) => `    n${index}: {}`).join("\n");
  expect(drawing(`name: large\ntopology:\n  nodes:\n${nodes}\n`)).toBeNull();
});
