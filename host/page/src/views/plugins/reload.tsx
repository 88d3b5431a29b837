// How the plugins in force came to be, and what went wrong since.
import type { JSX } from "preact";
import type { Plugins } from "../../api/requests";
import { Icon } from "../../components/icon";
import { now } from "../../state/clock";
import { precise, span } from "../../state/time";

export const Reload = ({ state }: { state: Plugins["reload"] }): JSX.Element => {
  const last = new Date(state.lastSuccess);
  const error = state.lastError;
  return (
    <>
      <dl class="figures">
        <div>
          <dt>Generation</dt>
          <dd>{state.generation}</dd>
        </div>
        <div>
          <dt>In force for</dt>
          <dd title={precise(last)}>{span(now.value - last.getTime())}</dd>
        </div>
        <div>
          <dt>Rolled back</dt>
          <dd>{state.rolledBack ? "yes" : "no"}</dd>
        </div>
      </dl>
      {error && (
        <div class="trouble" role="status">
          <Icon name="warning" />
          <p>
            <strong>The last reload failed </strong>
            <time dateTime={error.at} title={precise(new Date(error.at))}>
              {span(now.value - new Date(error.at).getTime())} ago
            </time>
            {error.plugin && `, at ${error.plugin}`}: {error.message}
            {error.path && <span class="code">{error.path}</span>}
          </p>
        </div>
      )}
    </>
  );
};
