// What is made of readings: courses, rates, and words for amounts.
import { describe, expect, it } from "vitest";
import type { WireStats } from "../src/api/wire";
import { bitRate, bytes, percent } from "../src/components/amounts";
import { course } from "../src/components/sparkline";
import { add, KEPT } from "../src/state/usage";

const reading = (second: number, rxBytes: number, cpu: number | null = 5): WireStats => ({
  at: new Date(1_800_000_000_000 + second * 1000).toISOString(),
  nodes: [
    {
      node: "r1",
      running: true,
      cpu: { seconds: second, percent: cpu },
      memory: { bytes: 1 << 20, limit: null },
      processes: 2,
      interfaces: [
        {
          name: "eth1",
          up: true,
          mtu: 1500,
          mac: null,
          rxBytes,
          rxPackets: rxBytes / 100,
          rxErrors: 0,
          rxDropped: 1,
          txBytes: 0,
          txPackets: 0,
          txErrors: 2,
          txDropped: 0,
        },
      ],
    },
  ],
});

describe("usage", () => {
  it("knows rates from the second reading on, by the time between the two", () => {
    const first = add(null, reading(0, 1000, null));
    expect(first.nodes[0]?.interfaces[0]?.received).toBeNull();
    expect(first.nodes[0]?.traffic).toEqual([null]);
    const second = add(first, reading(4, 3000));
    expect(second.nodes[0]?.interfaces[0]?.received).toEqual({ bits: 4000, packets: 5 });
    expect(second.nodes[0]?.traffic).toEqual([null, 4000]);
    expect(second.nodes[0]?.percents).toEqual([null, 5]);
    expect(second.nodes[0]?.interfaces[0]?.lost).toBe(3);
  });

  it("begins anew where counters did, such as after a restart of the node", () => {
    const again = add(add(null, reading(0, 5000)), reading(2, 100));
    expect(again.nodes[0]?.interfaces[0]?.received).toBeNull();
  });

  it("keeps no more than it shows", () => {
    let usage = add(null, reading(0, 0));
    for (let second = 1; second < 3 * KEPT; second++) usage = add(usage, reading(second, 0));
    expect(usage.nodes[0]?.memories).toHaveLength(KEPT);
  });
});

describe("sparklines", () => {
  it("end at the right edge and break where nothing is known", () => {
    expect(course([1, null, 2, 2], 4, 2)).toBe("M2.0 13.0M74.0 2.0L110.0 2.0");
  });
});

describe("amounts", () => {
  it("have the unit that fits", () => {
    expect([0, 640, 1536, 12 << 20, 100 << 20, 3 * 2 ** 40].map(bytes)).toEqual([
      "0 B",
      "640 B",
      "1.5 KiB",
      "12.0 MiB",
      "100 MiB",
      "3.0 TiB",
    ]);
    expect([0, 37_200, 2e9].map(bitRate)).toEqual(["0 bit/s", "37.2 kbit/s", "2.0 Gbit/s"]);
    expect([0, 0.34, 120.4].map(percent)).toEqual(["0.0 %", "0.3 %", "120 %"]);
  });
});
