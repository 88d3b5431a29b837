// What the server says over REST, as it is written there. Only `model.ts` reads these; everything else knows the model.

export interface WireUser {
  id: string;
  name: string;
}

export interface WireNode {
  name: string;
  kind: string;
  ipv4: string;
  ipv6: string;
  state: string;
  containerId: string;
  containerName: string;
  interfaceCaptures: Record<string, string>;
  canRestart: boolean;
}

export interface WireInstance {
  name: string;
  deployed: string;
  state: number;
  latestStateChange: string;
  nodes: WireNode[];
  recovered: boolean;
}

export interface WireLab {
  id: string;
  name: string;
  startTime: string;
  endTime: string | null;
  topologyId: string;
  collectionId: string;
  creator: WireUser;
  topologyDefinition: string;
  instance?: WireInstance | null;
  instanceName?: string;
}

export interface WireCollection {
  id: string;
  name: string;
  publicWrite: boolean;
  publicDeploy: boolean;
  creator: WireUser;
}

export interface WireTopology {
  id: string;
  collectionId: string;
  definition: string;
  syncUrl: string;
  creator: WireUser;
  bindFiles: { id: string; filePath: string; content: string }[];
  lastDeployFailed: boolean;
}

export interface WireLoginConfig {
  openId: { enabled: boolean };
  native: { enabled: boolean; allowEmpty: boolean };
}

export interface WirePluginFunction {
  name: string;
  outcomes: Record<string, number>;
  meanMicros: number | null;
}

export interface WirePlugin {
  hook: string;
  name: string;
  version: string;
  summary: string;
  digest: string;
  path: string;
  mode: string;
  calls: number;
  refusals: number;
  failures: number;
  logCut: number;
  functions: WirePluginFunction[];
  breaker: { open: boolean; faultsInARow: number; users: number; opened: number };
}

export interface WirePlugins {
  plugins: WirePlugin[];
  reload: {
    generation: number;
    lastSuccess: string;
    rolledBack: boolean;
    lastError: { at: string; message: string; plugin: string | null; path: string | null } | null;
  };
}

export interface WireInterfaceStats {
  name: string;
  up: boolean | null;
  mtu: number | null;
  mac: string | null;
  rxBytes: number;
  rxPackets: number;
  rxErrors: number;
  rxDropped: number;
  txBytes: number;
  txPackets: number;
  txErrors: number;
  txDropped: number;
}

export interface WireNodeStats {
  node: string;
  running: boolean;
  /** Of one processor, since the reading before; null in the first. */
  cpu: { seconds: number; percent: number | null } | null;
  memory: { bytes: number; limit: number | null } | null;
  processes: number | null;
  interfaces: WireInterfaceStats[];
}

/** What is told every few seconds on `/stats/<labId>`. */
export interface WireStats {
  at: string;
  nodes: WireNodeStats[];
}

export interface WireCheckpoint {
  id: string;
  labId: string;
  name: string;
  createdAt: string;
  creator: WireUser;
  files: number;
  bytes: number;
}

export interface WireSaved {
  nodes: { node: string; saved: boolean; detail: string }[];
}

/** Null: there is no limit. Memory in bytes. */
export interface WireAmounts<T> {
  labs: T;
  nodes: T;
  memory: T;
}

export interface WireCapacity {
  limits: WireAmounts<number | null>;
  reserved: WireAmounts<number>;
  collections: { name: string; limits: WireAmounts<number | null>; reserved: WireAmounts<number> }[];
}
