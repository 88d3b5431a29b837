// A new lab, from an empty server to a running one in one form.
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { Topology } from "../../api/model";
import { asProblem, type Problem } from "../../api/problem";
import * as requests from "../../api/requests";
import { Button } from "../../components/button";
import { Loading } from "../../components/empty";
import { Field } from "../../components/field";
import { Trouble } from "../../components/trouble";
import * as actions from "../../state/actions";
import * as labs from "../../state/labs";
import { go, links } from "../../state/route";
import { user } from "../../state/session";
import { forInput } from "../../state/time";
import { useTitle } from "../frame/title";
import { examples } from "./examples";
import { Capacity } from "./capacity";
import { Preview } from "./preview";
import { chosenCollection, chosenDefinition, chosenName, SourceForm, type Source } from "./source";
import { make, type Made, type When } from "./steps";

const HOUR = 3_600_000;

const ends: readonly (readonly [string, string])[] = [
  ["", "never by itself"],
  ["1", "after 1 hour"],
  ["4", "after 4 hours"],
  ["24", "after 1 day"],
  ["168", "after 1 week"],
  ["at", "at…"],
];

interface FormProps {
  topologies: Topology[];
  collections: requests.Collection[];
  /** Those of them that new topologies may be put into. */
  open: requests.Collection[];
  /** What is there to begin with; empty: nothing. */
  begin: string;
}

const Form = ({ topologies, collections, open, begin }: FormProps): JSX.Element => {
  const source: Source = {
    topologyId: useSignal(begin === "" ? (topologies[0]?.id ?? null) : null),
    definition: useSignal(begin),
    collectionId: useSignal(open[0]?.id ?? null),
    collectionName: useSignal("labs"),
  };
  const name = useSignal<string | null>(null);
  const when = useSignal<When>("now");
  const start = useSignal(forInput(new Date(Date.now() + HOUR)));
  const end = useSignal("");
  const endAt = useSignal(forInput(new Date(Date.now() + 2 * HOUR)));
  const doing = useSignal("");
  const problem = useSignal<Problem | null>(null);
  const made = useRef<Made>({});
  const suggested = chosenName(source, topologies);
  const shownName = name.value ?? suggested;
  const definition = chosenDefinition(source, topologies);
  const ready = definition.trim() !== "" && shownName.trim() !== "";

  // Another topology or place is made anew.
  useEffect(() => {
    made.current = {};
  }, [source.definition.value, source.collectionId.value, source.collectionName.value]);

  const submit = async (): Promise<void> => {
    problem.value = null;
    const starts = when.value === "at" ? new Date(start.value) : new Date();
    const ending = (): Date | null => {
      if (end.value === "") return null;
      return end.value === "at" ? new Date(endAt.value) : new Date(starts.getTime() + Number(end.value) * HOUR);
    };
    try {
      const id = await make(
        {
          topologyId: source.topologyId.value,
          definition: source.definition.value,
          collectionId: source.collectionId.value,
          collectionName: source.collectionName.value.trim(),
          name: shownName.trim(),
          when: when.value,
          start: starts,
          end: ending(),
        },
        made.current,
        (what) => (doing.value = what),
      );
      await labs.reload(id);
      if (when.value === "now") void actions.deploy(id);
      go(links.lab(id, when.value === "now" ? "log" : "nodes"));
    } catch (error) {
      problem.value = asProblem(error);
    } finally {
      doing.value = "";
    }
  };

  return (
    <form
      class="create"
      onSubmit={(event) => {
        event.preventDefault();
        if (ready && !doing.value) void submit();
      }}
    >
      <SourceForm source={source} topologies={topologies} collections={collections} open={open} isAdmin={user.value?.isAdmin ?? false} />
      <div class="create-side">
        <Preview definition={definition} />
        <fieldset class="step">
          <legend>Lab</legend>
          <Field label="Name">
            {(id) => (
              <input id={id} value={shownName} required onInput={(event) => (name.value = event.currentTarget.value)} />
            )}
          </Field>
          <Field label="Deploy">
            {(id) => (
              <select id={id} value={when.value} onChange={(event) => (when.value = event.currentTarget.value as When)}>
                <option value="now">at once</option>
                <option value="later">when I say so</option>
                <option value="at">at…</option>
              </select>
            )}
          </Field>
          {when.value === "at" && (
            <Field label="Start">
              {(id) => (
                <input id={id} type="datetime-local" required value={start.value} onInput={(event) => (start.value = event.currentTarget.value)} />
              )}
            </Field>
          )}
          <Field label="Destroy">
            {(id) => (
              <select id={id} value={end.value} onChange={(event) => (end.value = event.currentTarget.value)}>
                {ends.map(([value, text]) => (
                  <option key={value} value={value}>
                    {text}
                  </option>
                ))}
              </select>
            )}
          </Field>
          {end.value === "at" && (
            <Field label="End">
              {(id) => (
                <input id={id} type="datetime-local" required value={endAt.value} onInput={(event) => (endAt.value = event.currentTarget.value)} />
              )}
            </Field>
          )}
          <Capacity collection={chosenCollection(source, topologies, collections)} />
          {problem.value && <Trouble problem={problem.value} onDismiss={() => (problem.value = null)} />}
          <div class="create-actions">
            <Button kind="primary" type="submit" icon={when.value === "now" ? "play" : "plus"} busy={doing.value !== ""} disabled={!ready}>
              {doing.value || (when.value === "now" ? "Create and deploy" : "Create")}
            </Button>
            <a class="button button-quiet" href={links.labs}>
              <span>Cancel</span>
            </a>
          </div>
        </fieldset>
      </div>
    </form>
  );
};

export const CreateView = ({ example }: { example: number | null }): JSX.Element => {
  useTitle("New lab");
  const found = useSignal<Omit<FormProps, "begin"> | null>(null);
  const problem = useSignal<Problem | null>(null);
  const load = async (): Promise<void> => {
    problem.value = null;
    try {
      const [topologies, collections] = await Promise.all([requests.topologies(), requests.collections()]);
      const { id = "", isAdmin = false } = user.value ?? {};
      // Where this user may create a topology, as servers usually have it; what else there is, only the server knows.
      const open = collections.filter(({ publicWrite, creator }) => isAdmin || publicWrite || creator.id === id);
      found.value = { topologies, collections, open };
    } catch (error) {
      problem.value = asProblem(error);
    }
  };
  useEffect(() => void load(), []);
  return (
    <div class="page">
      <h1>New lab</h1>
      {problem.value && <Trouble what="Fetching the topologies" problem={problem.value} onRetry={() => void load()} />}
      {!found.value && !problem.value && <Loading what="Fetching the topologies…" />}
      {found.value && <Form {...found.value} begin={examples[example ?? -1]?.definition ?? ""} />}
    </div>
  );
};
