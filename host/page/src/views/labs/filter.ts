// Which labs somebody means who searches.
import { nameIn, stateOf, type Lab, type LabState } from "../../api/model";

/** Every word of the query has to be somewhere: in the names of the lab, its topology, its nodes or whoever made it. */
export const matches = (lab: Lab, query: string, state: LabState | null, now: number): boolean => {
  if (state !== null && stateOf(lab, now) !== state) return false;
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return true;
  const nodes = lab.nodes.map((node) => node.name);
  const text = [lab.name, nameIn(lab.definition), lab.creator.name, ...nodes].join("\n").toLowerCase();
  return words.every((word) => text.includes(word));
};
