// What the page asks for over REST, by what it is. Answers come as the model has them.
import { address, ask } from "./client";
import * as model from "./model";
import type {
  WireCapacity,
  WireCheckpoint,
  WireCollection,
  WireLab,
  WireLoginConfig,
  WirePlugins,
  WireSaved,
  WireTopology,
} from "./wire";

export type Collection = WireCollection;
export type Plugins = WirePlugins;
export type Checkpoint = WireCheckpoint;
export type Saved = WireSaved;
export type Capacity = WireCapacity;
export type Plugin = WirePlugins["plugins"][number];

const at = encodeURIComponent;

export const logins = (): Promise<WireLoginConfig> => ask("/users/login/config", { anonymous: true });
export const logIn = (username: string, password: string): Promise<null> =>
  ask("/users/login/native", { method: "POST", body: { username, password }, anonymous: true });
export const refresh = (): Promise<string> => ask("/users/login/refresh", { anonymous: true });
export const logOut = (): Promise<null> => ask("/users/logout", { method: "POST", anonymous: true });

export const labs = async (): Promise<model.Lab[]> => (await ask<WireLab[]>("/labs")).map(model.lab);
export const lab = async (id: string): Promise<model.Lab> => model.lab(await ask<WireLab>(`/labs/${at(id)}`));

export interface NewLab {
  name: string;
  topologyId: string;
  startTime: Date;
  endTime: Date | null;
}
export const createLab = (lab: NewLab): Promise<string> => ask("/labs", { method: "POST", body: lab });
export const deleteLab = (id: string): Promise<null> => ask(`/labs/${at(id)}`, { method: "DELETE" });
/** Null: it is never destroyed by itself. */
export const setEnd = (id: string, end: Date | null): Promise<null> =>
  ask(`/labs/${at(id)}`, { method: "PATCH", body: end ? { endTime: end } : { indefinite: true } });

export const collections = (): Promise<Collection[]> => ask("/collections");
/** The ids of what was created, as with the two others. */
export const createCollection = (name: string): Promise<string> =>
  ask("/collections", { method: "POST", body: { name, publicWrite: true, publicDeploy: true } });

export const topologies = async (): Promise<model.Topology[]> =>
  (await ask<WireTopology[]>("/topologies")).map(model.topology);
export const createTopology = (collectionId: string, definition: string): Promise<string> =>
  ask("/topologies", { method: "POST", body: { collectionId, definition, syncUrl: "" } });

export const plugins = (): Promise<Plugins> => ask("/plugins");
export const reloadPlugins = (): Promise<Plugins> => ask("/plugins/reload", { method: "POST" });
export const rollBackPlugins = (): Promise<Plugins> => ask("/plugins/rollback", { method: "POST" });

export const capacity = (): Promise<Capacity> => ask("/capacity");

export const save = (lab: string): Promise<Saved> => ask(`/labs/${at(lab)}/save`, { method: "POST" });
export const checkpoints = (lab: string): Promise<Checkpoint[]> => ask(`/labs/${at(lab)}/checkpoints`);
export const makeCheckpoint = (lab: string, name: string): Promise<Checkpoint> =>
  ask(`/labs/${at(lab)}/checkpoints`, { method: "POST", body: { name } });
export const removeCheckpoint = (lab: string, id: string): Promise<unknown> =>
  ask(`/labs/${at(lab)}/checkpoints/${at(id)}`, { method: "DELETE" });
export const restoreCheckpoint = (lab: string, id: string): Promise<unknown> =>
  ask(`/labs/${at(lab)}/checkpoints/${at(id)}/restore`, { method: "POST" });

/** What a capture is limited to, so that it ends by itself and can be opened. */
export type CaptureEnd = { seconds: number; packets?: number };
/** Where packets at an interface can be downloaded as they come; the browser sends the token as a cookie. */
export const captureAddress = (lab: string, node: string, name: string, end: CaptureEnd): string => {
  const query = Object.entries(end).map(([key, value]) => `${key}=${value}`);
  return `${address(`/labs/${at(lab)}/nodes/${at(node)}/interfaces/${at(name)}/capture`)}?${query.join("&")}`;
};
