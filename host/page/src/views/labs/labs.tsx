// The list of labs: what runs, what doesn't, and what can be done about it.
import { signal, useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { stateOf, type Lab, type LabState } from "../../api/model";
import { Empty, Loading } from "../../components/empty";
import { Icon } from "../../components/icon";
import { wordFor } from "../../components/state";
import { Trouble } from "../../components/trouble";
import { now } from "../../state/clock";
import { labs, load, loaded, trouble } from "../../state/labs";
import { links } from "../../state/route";
import { examples } from "../create/examples";
import { Preview } from "../create/preview";
import { useTitle } from "../frame/title";
import { matches } from "./filter";
import { LabRow } from "./row";

/** Rows that are drawn at first, and each time that more are asked for. */
const PAGE = 100;

const order: readonly LabState[] = ["running", "deploying", "stopping", "failed", "scheduled", "inactive"];

interface FilterProps {
  all: readonly Lab[];
  chosen: LabState | null;
  onChoose: (state: LabState | null) => void;
}

const StateFilter = ({ all, chosen, onChoose }: FilterProps): JSX.Element => {
  const counts = new Map<LabState, number>();
  for (const lab of all) {
    const state = stateOf(lab, now.value);
    counts.set(state, (counts.get(state) ?? 0) + 1);
  }
  const choice = (state: LabState | null, word: string, count: number): JSX.Element => (
    <button
      key={word}
      type="button"
      class={`filter${state ? ` state-${state}` : ""}`}
      aria-pressed={chosen === state}
      onClick={() => onChoose(chosen === state ? null : state)}
    >
      {word}
      <span class="filter-count">{count}</span>
    </button>
  );
  return (
    <div class="filters" role="group" aria-label="Show only labs that are">
      {choice(null, "All", all.length)}
      {order
        .filter((state) => counts.has(state) || chosen === state)
        .map((state) => choice(state, wordFor(state), counts.get(state) ?? 0))}
    </div>
  );
};

const None = (): JSX.Element => (
  <Empty title="No labs yet">
    <p>
      A lab is a topology that you bring up: nodes, the links between them, and a terminal in each node. Begin with one of
      these, or with a topology file of your own.
    </p>
    <ul class="beginnings">
      {examples.map(({ title, text, definition }, index) => (
        <li key={title}>
          <Preview definition={definition} />
          <a href={links.example(index)}>{title}</a>
          <p class="hint">{text}</p>
        </li>
      ))}
    </ul>
    <p>
      <a class="button button-primary" href={links.create}>
        <Icon name="plus" />
        <span>Create your first lab</span>
      </a>
    </p>
  </Empty>
);

// As somebody left them when they come back from a lab.
const query = signal("");
const state = signal<LabState | null>(null);

export const LabsView = (): JSX.Element => {
  useTitle("Labs");
  const limit = useSignal(PAGE);
  const all = labs.value;
  const found = all.filter((lab) => matches(lab, query.value, state.value, now.value));
  return (
    <div class="labs">
      <header class="labs-head">
        <h1>Labs</h1>
        <div class="search" hidden={loaded.value && all.length === 0}>
          <Icon name="search" />
          <input
            id="search"
            type="search"
            aria-label="Search labs by name, topology, node or creator"
            placeholder="Search"
            value={query.value}
            onInput={(event) => (query.value = event.currentTarget.value)}
          />
        </div>
        <a class="button button-primary" href={links.create}>
          <Icon name="plus" />
          <span>New lab</span>
        </a>
      </header>
      {trouble.value && <Trouble what="Fetching the labs" problem={trouble.value} onRetry={() => void load()} />}
      {!loaded.value && !trouble.value && <Loading what="Fetching the labs…" />}
      {loaded.value && all.length === 0 && <None />}
      {all.length > 0 && (
        <>
          <StateFilter all={all} chosen={state.value} onChoose={(chosen) => (state.value = chosen)} />
          <p class="visually-hidden" role="status">
            {query.value || state.value ? `${found.length} of ${all.length} labs` : ""}
          </p>
          {found.length === 0 ? (
            <Empty title="No lab matches">
              <p>
                <button
                  type="button"
                  class="button button-plain"
                  onClick={() => {
                    query.value = "";
                    state.value = null;
                  }}
                >
                  Show all {all.length}
                </button>
              </p>
            </Empty>
          ) : (
            <ul class="lab-list">
              {found.slice(0, limit.value).map((lab) => (
                <LabRow key={lab.id} lab={lab} />
              ))}
            </ul>
          )}
          {found.length > limit.value && (
            <button type="button" class="button button-plain more" onClick={() => (limit.value += PAGE)}>
              Show more ({found.length - limit.value} left)
            </button>
          )}
        </>
      )}
    </div>
  );
};
