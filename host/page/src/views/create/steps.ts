// From what somebody has filled in to a lab: a collection and a topology where they are new, the lab, its deploy.
import * as requests from "../../api/requests";

export type When = "now" | "later" | "at";

export interface Wanted {
  /** Null: from `definition`. */
  topologyId: string | null;
  definition: string;
  /** Null: the one of `collectionName`, to be created. */
  collectionId: string | null;
  collectionName: string;
  name: string;
  when: When;
  /** For `at`. */
  start: Date;
  end: Date | null;
}

/** What has been made on the way. It stays where a later step fails, and is not made again at the next try. */
export interface Made {
  collectionId?: string;
  topologyId?: string;
}

/** A lab that starts "now" is deployed by a command, which needs a start that is not ahead of the server's clock. */
const PAST = 60_000;

const collectionOf = async (wanted: Wanted, made: Made): Promise<string> =>
  wanted.collectionId ?? (made.collectionId ??= await requests.createCollection(wanted.collectionName));

const topologyOf = async (wanted: Wanted, made: Made): Promise<string> =>
  wanted.topologyId ??
  (made.topologyId ??= await requests.createTopology(await collectionOf(wanted, made), wanted.definition));

/** The id of the lab. Says what it does as it goes. */
export const make = async (wanted: Wanted, made: Made, doing: (what: string) => void): Promise<string> => {
  doing("Creating the topology…");
  const topologyId = await topologyOf(wanted, made);
  doing("Creating the lab…");
  const startTime = wanted.when === "at" ? wanted.start : new Date(Date.now() - PAST);
  return requests.createLab({ name: wanted.name, topologyId, startTime, endTime: wanted.end });
};
