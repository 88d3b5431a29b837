// One plugin: what it is, how it fares, and what came of each of its functions.
import type { JSX } from "preact";
import type { Plugin } from "../../api/requests";
import { Icon } from "../../components/icon";
import { latency, share } from "./figures";

/** What is as it should be, and what a plugin is there for; all other outcomes are faults. */
const good = new Set(["allow", "answer", "rewrite"]);
const plain = new Set(["leave", "cancelled"]);
const refusals = new Set(["deny", "reject"]);

const kindOf = (outcome: string): string =>
  good.has(outcome) ? "good" : plain.has(outcome) ? "plain" : refusals.has(outcome) ? "refusal" : "bad";

const Breaker = ({ plugin }: { plugin: Plugin }): JSX.Element | null => {
  const { breaker } = plugin;
  if (!breaker.open && breaker.faultsInARow === 0 && breaker.opened === 0) return null;
  return (
    <p class={breaker.open ? "breaker breaker-open" : "breaker"}>
      <Icon name="warning" />
      {breaker.open
        ? "Left alone for now: it kept failing."
        : `${breaker.faultsInARow} faults in a row; left alone ${breaker.opened} times so far.`}
    </p>
  );
};

export const PluginCard = ({ plugin }: { plugin: Plugin }): JSX.Element => (
  <article class="plugin" data-plugin={plugin.name}>
    <header>
      <h3>{plugin.name}</h3>
      <span class="hint">{plugin.version}</span>
      {plugin.mode !== "enforce" && <span class="mode">{plugin.mode}</span>}
      <dl class="figures figures-small">
        <div>
          <dt>Calls</dt>
          <dd>{plugin.calls.toLocaleString()}</dd>
        </div>
        <div>
          <dt>Refusals</dt>
          <dd>{plugin.refusals.toLocaleString()}</dd>
        </div>
        <div class={plugin.failures > 0 ? "figure-bad" : undefined}>
          <dt>Failures</dt>
          <dd>{plugin.failures.toLocaleString()}</dd>
        </div>
      </dl>
    </header>
    <p>{plugin.summary}</p>
    <Breaker plugin={plugin} />
    <table class="functions">
      <thead>
        <tr>
          <th scope="col">Function</th>
          <th scope="col">Outcomes</th>
          <th scope="col" class="number">
            Mean time
          </th>
        </tr>
      </thead>
      <tbody>
        {plugin.functions.map((each) => {
          const total = Object.values(each.outcomes).reduce((sum, count) => sum + count, 0);
          return (
            <tr key={each.name}>
              <th scope="row" class="mono">
                {each.name}
              </th>
              <td>
                {total === 0 && <span class="hint">not asked yet</span>}
                {Object.entries(each.outcomes).map(([outcome, count]) => (
                  <span key={outcome} class={`outcome outcome-${kindOf(outcome)}`}>
                    {outcome} <strong>{count.toLocaleString()}</strong>
                    <span class="hint">{share(count, total)}</span>
                  </span>
                ))}
              </td>
              <td class="number">{latency(each.meanMicros)}</td>
            </tr>
          );
        })}
      </tbody>
    </table>
    <p class="hint mono origin">
      {plugin.path} · {plugin.digest.slice(0, 16)}
    </p>
  </article>
);
