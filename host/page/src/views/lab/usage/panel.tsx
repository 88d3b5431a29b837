// What the nodes of the lab use, while it runs: processor, memory, and what goes over their interfaces.
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import type { WireStats } from "../../../api/wire";
import { bitRate, bytes, percent } from "../../../components/amounts";
import { Empty, Loading } from "../../../components/empty";
import { Sparkline } from "../../../components/sparkline";
import { join } from "../../../socket/connection";
import { add, KEPT, type NodeUsage, type Rates, type Usage } from "../../../state/usage";
import { useScope } from "../scope";

/** A figure with its course. */
const Figure = (props: { name: string; text: string; values: readonly (number | null)[]; least: number }): JSX.Element => (
  <div class="usage-figure">
    <dt>{props.name}</dt>
    <dd>
      <span>{props.text}</span>
      <Sparkline values={props.values} most={KEPT} least={props.least} />
    </dd>
  </div>
);

const flow = (rates: Rates["received"]): string =>
  rates ? `${bitRate(rates.bits)}, ${Math.round(rates.packets)} packets/s` : "…";

const Interface = ({ rates }: { rates: Rates }): JSX.Element => (
  <tr>
    <th scope="row">
      <span class="mono">{rates.name}</span>
      {rates.up === false && <span class="hint"> down</span>}
    </th>
    <td>{flow(rates.received)}</td>
    <td>{flow(rates.sent)}</td>
    <td class="number">{bytes(rates.bytes)}</td>
    <td class={rates.lost > 0 ? "number usage-lost" : "number"}>{rates.lost.toLocaleString()}</td>
  </tr>
);

const Node = ({ usage }: { usage: NodeUsage }): JSX.Element => {
  const cpu = usage.percents.at(-1) ?? null;
  const { memory } = usage;
  const traffic = usage.traffic.at(-1) ?? null;
  return (
    <section class="usage-node" aria-label={usage.node} data-node={usage.node}>
      <header>
        <h2>{usage.node}</h2>
        <span class="hint">
          {!usage.running
            ? "does not run"
            : usage.processes === null
              ? ""
              : `${usage.processes} ${usage.processes === 1 ? "process" : "processes"}`}
        </span>
      </header>
      {usage.running && (
        <>
          <dl class="usage-figures">
            <Figure name="Processor" text={cpu === null ? "…" : percent(cpu)} values={usage.percents} least={10} />
            <Figure
              name="Memory"
              text={memory ? bytes(memory.bytes) + (memory.limit ? ` of ${bytes(memory.limit)}` : "") : "not known"}
              values={usage.memories}
              least={memory?.limit ?? 1}
            />
            <Figure name="Traffic" text={traffic === null ? "…" : bitRate(traffic)} values={usage.traffic} least={1000} />
          </dl>
          {usage.interfaces.length > 0 && (
            <div class="usage-scroll" role="region" aria-label={`Interfaces of ${usage.node}`} tabIndex={0}>
              <table class="usage-table">
                <thead>
                  <tr>
                    <th scope="col">Interface</th>
                    <th scope="col">Received</th>
                    <th scope="col">Sent</th>
                    <th scope="col" class="number">
                      Total
                    </th>
                    <th scope="col" class="number">
                      Lost
                    </th>
                  </tr>
                </thead>
                <tbody>
                  {usage.interfaces.map((rates) => (
                    <Interface key={rates.name} rates={rates} />
                  ))}
                </tbody>
              </table>
            </div>
          )}
        </>
      )}
    </section>
  );
};

const Live = (): JSX.Element => {
  const { lab } = useScope();
  const usage = useSignal<Usage | null>(null);
  const denied = useSignal(false);
  useEffect(() => {
    const membership = join(`/stats/${lab.id}`, {
      denied: () => (denied.value = true),
      events: { data: ({ payload }: { payload: WireStats }) => (usage.value = add(usage.value, payload)) },
    });
    return () => membership.leave();
  }, []);
  if (denied.value) return <Empty title="You may not see what this lab uses" />;
  if (!usage.value) return <Loading what="Measuring…" />;
  return (
    <div class="usage">
      {usage.value.nodes.map((node) => (
        <Node key={node.node} usage={node} />
      ))}
    </div>
  );
};

export const UsagePanel = (): JSX.Element => {
  const { lab } = useScope();
  // Another deploy is measured anew.
  if (lab.instance) return <Live key={lab.instance.name} />;
  return (
    <Empty title="Nothing is in use">
      <p>What nodes take of processor, memory and links is shown here while the lab runs.</p>
    </Empty>
  );
};
