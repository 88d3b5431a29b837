// The labs that this user may see, kept as the server has them: fetched when the page is opened and again whenever an update
// says so.
import { computed, signal } from "@preact/signals";
import { stateOf, type Lab, type LabState } from "../api/model";
import { asProblem, type Problem } from "../api/problem";
import * as requests from "../api/requests";
import { now } from "./clock";
import { coalesced } from "./coalesce";

const COALESCE = 80;

const known = signal<ReadonlyMap<string, Lab>>(new Map());
/** Whether the list has been fetched at least once. */
export const loaded = signal(false);
export const trouble = signal<Problem | null>(null);

/** Those that need attention or are in use first, then by name. */
const rank: Record<LabState, number> = { failed: 0, deploying: 1, stopping: 2, running: 3, scheduled: 4, inactive: 5 };

/** Sorting anew each second would be a waste: a start time matters to the minute. */
const minute = computed(() => Math.floor(now.value / 60_000) * 60_000);

export const labs = computed<readonly Lab[]>(() => {
  const at = minute.value;
  return [...known.value.values()].sort(
    (a, b) => rank[stateOf(a, at)] - rank[stateOf(b, at)] || a.name.localeCompare(b.name, undefined, { numeric: true }),
  );
});

export const find = (id: string): Lab | undefined => known.value.get(id);

const put = (id: string, lab: Lab | null): void => {
  const next = new Map(known.value);
  if (lab) next.set(id, lab);
  else next.delete(id);
  known.value = next;
};

/** Counts the logins: an answer that was asked for in another one is for nobody any more. */
let login = 0;

const fetchAll = async (): Promise<void> => {
  const asked = login;
  try {
    const found = await requests.labs();
    if (asked !== login) return;
    known.value = new Map(found.map((lab) => [lab.id, lab]));
    loaded.value = true;
    trouble.value = null;
  } catch (error) {
    if (asked === login) trouble.value = asProblem(error);
  }
};

const fetchOne = async (id: string): Promise<void> => {
  const asked = login;
  try {
    const found = await requests.lab(id);
    if (asked === login) put(id, found);
  } catch (error) {
    if (asked !== login) return;
    const problem = asProblem(error);
    if (problem.isMissing) put(id, null);
    else trouble.value = problem;
  }
};

/** A lab has changed; null: any may have. */
export const changed = coalesced({ one: fetchOne, all: fetchAll }, COALESCE);

/** A lab that was deleted here. */
export const gone = (id: string): void => put(id, null);

/** Fetches everything now, for those who wait for it. */
export const load = fetchAll;
export const reload = fetchOne;

export const forget = (): void => {
  login += 1;
  changed.cancel();
  known.value = new Map();
  loaded.value = false;
  trouble.value = null;
};
