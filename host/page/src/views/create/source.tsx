// Where the topology of a new lab comes from: one that is there, or one that is written, pasted or dropped here.
import { useSignal, type Signal } from "@preact/signals";
import type { JSX } from "preact";
import type { Topology } from "../../api/model";
import { nameIn } from "../../api/model";
import type { Collection } from "../../api/requests";
import { Button } from "../../components/button";
import { Field } from "../../components/field";
import { examples } from "./examples";

export interface Source {
  /** Null: a new one, from `definition`. */
  topologyId: Signal<string | null>;
  definition: Signal<string>;
  /** Null: a new one, called `collectionName`. */
  collectionId: Signal<string | null>;
  collectionName: Signal<string>;
}

/** Larger files aren't topologies. The server has its own limit. */
const LARGEST = 1 << 20;

const Known = ({ source, topologies, collections }: Props): JSX.Element => (
  <ul class="topologies">
    {topologies.map((topology) => {
      const collection = collections.find(({ id }) => id === topology.collectionId)?.name ?? "";
      const chosen = source.topologyId.value === topology.id;
      return (
        <li key={topology.id}>
          <label class={chosen ? "choice choice-chosen" : "choice"}>
            <input
              type="radio"
              name="topology"
              checked={chosen}
              onChange={() => (source.topologyId.value = topology.id)}
            />
            <span>
              <strong>{topology.name}</strong>
              <span class="hint">
                {collection} · {topology.creator.name}
              </span>
            </span>
          </label>
        </li>
      );
    })}
  </ul>
);

const Written = ({ source, open, isAdmin }: Props): JSX.Element => {
  const over = useSignal(false);
  const wrong = useSignal("");
  const take = async (file: File | undefined): Promise<void> => {
    over.value = false;
    if (!file) return;
    if (file.size > LARGEST) {
      wrong.value = `${file.name} is too large for a topology.`;
      return;
    }
    wrong.value = "";
    source.definition.value = await file.text();
  };
  return (
    <>
      <div class="examples" role="group" aria-label="Examples">
        <span class="hint">Begin with</span>
        {examples.map(({ title, text, definition }) => (
          <Button key={title} small title={text} onClick={() => (source.definition.value = definition)}>
            {title}
          </Button>
        ))}
        <label class="button button-plain button-small">
          <span>Open a file…</span>
          <input
            type="file"
            class="visually-hidden"
            accept=".yml,.yaml,text/yaml"
            onChange={(event) => void take(event.currentTarget.files?.[0])}
          />
        </label>
      </div>
      <Field label="Topology file" hint={wrong.value || "In containerlab's format. Paste it, write it, or drop a file here."}>
        {(id, described) => (
          <textarea
            id={id}
            aria-describedby={described}
            class={over.value ? "definition-input definition-over mono" : "definition-input mono"}
            spellcheck={false}
            autoCapitalize="off"
            wrap="off"
            rows={16}
            placeholder={"name: my-topology\ntopology:\n  nodes:\n    r1:\n      kind: linux"}
            value={source.definition.value}
            onInput={(event) => (source.definition.value = event.currentTarget.value)}
            onDragOver={(event) => {
              event.preventDefault();
              over.value = true;
            }}
            onDragLeave={() => (over.value = false)}
            onDrop={(event) => {
              const file = event.dataTransfer?.files[0];
              if (!file) return;
              event.preventDefault();
              void take(file);
            }}
          />
        )}
      </Field>
      {open.length > 0 && (
        <Field label="Collection" hint="Who belongs to it sees the topology and its labs.">
          {(id, described) => (
            <select
              id={id}
              aria-describedby={described}
              value={source.collectionId.value ?? ""}
              onChange={(event) => (source.collectionId.value = event.currentTarget.value || null)}
            >
              {open.map((collection) => (
                <option key={collection.id} value={collection.id}>
                  {collection.name}
                </option>
              ))}
              {isAdmin && <option value="">A new one…</option>}
            </select>
          )}
        </Field>
      )}
      {source.collectionId.value === null && isAdmin && (
        <Field label="Name of the new collection" hint="Topologies are kept in collections, such as one for each course.">
          {(id, described) => (
            <input
              id={id}
              aria-describedby={described}
              value={source.collectionName.value}
              onInput={(event) => (source.collectionName.value = event.currentTarget.value)}
            />
          )}
        </Field>
      )}
      {open.length === 0 && !isAdmin && (
        <p class="farewell">There is no collection that you may put a topology into. An administrator can change that.</p>
      )}
    </>
  );
};

export interface Props {
  source: Source;
  topologies: readonly Topology[];
  collections: readonly Collection[];
  /** Those of them that new topologies may be put into. */
  open: readonly Collection[];
  isAdmin: boolean;
}

/** The name that the chosen topology gives itself; empty: none is chosen. */
export const chosenDefinition = ({ topologyId, definition }: Source, topologies: readonly Topology[]): string =>
  topologyId.value === null
    ? definition.value
    : (topologies.find(({ id }) => id === topologyId.value)?.definition ?? "");

/** The name of the collection that it is or will be in. */
export const chosenCollection = (
  source: Source,
  topologies: readonly Topology[],
  collections: readonly Collection[],
): string => {
  const topology = topologies.find(({ id }) => id === source.topologyId.value);
  const wanted = topology ? topology.collectionId : source.collectionId.value;
  return collections.find(({ id }) => id === wanted)?.name ?? source.collectionName.value.trim();
};

export const chosenName = (source: Source, topologies: readonly Topology[]): string =>
  nameIn(chosenDefinition(source, topologies));

export const SourceForm = (props: Props): JSX.Element => {
  const { source, topologies } = props;
  const isNew = source.topologyId.value === null;
  return (
    <fieldset class="step">
      <legend>Topology</legend>
      {topologies.length > 0 && (
        <div class="filters" role="group" aria-label="Which topology">
          <button
            type="button"
            class="filter"
            aria-pressed={!isNew}
            onClick={() => (source.topologyId.value ??= topologies[0]?.id ?? null)}
          >
            One that is there<span class="filter-count">{topologies.length}</span>
          </button>
          <button type="button" class="filter" aria-pressed={isNew} onClick={() => (source.topologyId.value = null)}>
            A new one
          </button>
        </div>
      )}
      {isNew ? <Written {...props} /> : <Known {...props} />}
    </fieldset>
  );
};
