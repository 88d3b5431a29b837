// What nodes use, over the last minutes: readings as they come, and the rates that follow from two of them.
import type { WireInterfaceStats, WireNodeStats, WireStats } from "../api/wire";

/** So many readings are kept: two minutes of them, as the server is set up at first. */
export const KEPT = 60;

export interface Rates {
  name: string;
  up: boolean | null;
  mtu: number | null;
  mac: string | null;
  /** Bits and packets per second; null: not known yet. */
  received: { bits: number; packets: number } | null;
  sent: { bits: number; packets: number } | null;
  /** Packets that were lost or broken, since the interface is there. */
  lost: number;
  /** Bytes since the interface is there. */
  bytes: number;
}

export interface NodeUsage {
  node: string;
  running: boolean;
  processes: number | null;
  memory: { bytes: number; limit: number | null } | null;
  /** Oldest first; gaps are null. Percent of one processor, bytes, bits per second in both directions. */
  percents: readonly (number | null)[];
  memories: readonly (number | null)[];
  traffic: readonly (number | null)[];
  interfaces: readonly Rates[];
}

export interface Usage {
  at: number;
  nodes: readonly NodeUsage[];
  /** What the next rates are reckoned from. */
  last: ReadonlyMap<string, WireNodeStats>;
}

const append = <T>(past: readonly T[] | undefined, value: T): T[] => [...(past ?? []), value].slice(-KEPT);

/** Per second; null where there is nothing before, or where counters began anew. */
const rate = (now: number, before: number | undefined, seconds: number): number | null =>
  before === undefined || seconds <= 0 || now < before ? null : (now - before) / seconds;

const direction = (bits: number | null, packets: number | null): Rates["received"] =>
  bits === null || packets === null ? null : { bits, packets };

const rates = (now: WireInterfaceStats, before: WireInterfaceStats | undefined, seconds: number): Rates => {
  const bits = (current: number, past: number | undefined): number | null => {
    const bytes = rate(current, past, seconds);
    return bytes === null ? null : bytes * 8;
  };
  return {
    name: now.name,
    up: now.up,
    mtu: now.mtu,
    mac: now.mac,
    received: direction(bits(now.rxBytes, before?.rxBytes), rate(now.rxPackets, before?.rxPackets, seconds)),
    sent: direction(bits(now.txBytes, before?.txBytes), rate(now.txPackets, before?.txPackets, seconds)),
    lost: now.rxErrors + now.rxDropped + now.txErrors + now.txDropped,
    bytes: now.rxBytes + now.txBytes,
  };
};

/** The usage with one more reading. */
export const add = (usage: Usage | null, reading: WireStats): Usage => {
  const at = new Date(reading.at).getTime();
  const seconds = usage ? (at - usage.at) / 1000 : 0;
  const nodes = reading.nodes.map((now): NodeUsage => {
    const past = usage?.nodes.find(({ node }) => node === now.node);
    const before = usage?.last.get(now.node);
    const interfaces = now.interfaces.map((each) =>
      rates(each, before?.interfaces.find(({ name }) => name === each.name), seconds),
    );
    const flows = interfaces.flatMap(({ received, sent }) => (received && sent ? [received.bits + sent.bits] : []));
    return {
      node: now.node,
      running: now.running,
      processes: now.processes,
      memory: now.memory,
      percents: append(past?.percents, now.cpu?.percent ?? null),
      memories: append(past?.memories, now.memory?.bytes ?? null),
      traffic: append(past?.traffic, flows.length > 0 ? flows.reduce((sum, bits) => sum + bits, 0) : null),
      interfaces,
    };
  });
  return { at, nodes, last: new Map(reading.nodes.map((node) => [node.node, node])) };
};
