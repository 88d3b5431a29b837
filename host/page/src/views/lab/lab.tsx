// A lab: its topology as a drawing, and beside it the panels with everything else.
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useMemo } from "preact/hooks";
import { stateOf, type Lab } from "../../api/model";
import { Empty, Loading } from "../../components/empty";
import { lazy } from "../../components/lazy";
import { panelId, tabId, Tabs } from "../../components/tabs";
import { Trouble } from "../../components/trouble";
import { now } from "../../state/clock";
import { useDrawing } from "../../state/drawings";
import { find, load, loaded, trouble } from "../../state/labs";
import { split } from "../../state/preferences";
import { links, replace } from "../../state/route";
import { restore } from "../../state/shells";
import { useTitle } from "../frame/title";
import { LabHead } from "./head";
import { panels } from "./panels";
import { freshSelection, ScopeContext, useScope, type Scope } from "./scope";
import { Splitter } from "./splitter";

const Stage = lazy("The drawing", () => import("./graph/stage").then(({ Stage }) => Stage));

const Side = ({ active }: { active: string }): JSX.Element => {
  const scope = useScope();
  const visited = useSignal<ReadonlySet<string>>(new Set([active]));
  if (!visited.value.has(active)) visited.value = new Set([...visited.value, active]);
  const items = panels.map(({ id, title, icon, badge }) => ({ id, title, icon, badge: badge?.(scope) ?? null }));
  return (
    <section class="side" aria-label="Details of the lab">
      <Tabs label="Panels" prefix="panels" items={items} active={active} onSelect={scope.show} />
      <div class="side-body" id={panelId("panels")} role="tabpanel" aria-labelledby={tabId("panels", active)}>
        {panels
          .filter(({ id, keep }) => id === active || (keep && visited.value.has(id)))
          .map(({ id, Body }) => (
            <div key={id} class="panel" hidden={id !== active}>
              <Body />
            </div>
          ))}
      </div>
    </section>
  );
};

const Shown = ({ lab, panel }: { lab: Lab; panel: string | null }): JSX.Element => {
  useTitle(lab.name);
  const state = stateOf(lab, now.value);
  const selection = useMemo(freshSelection, []);
  // Where the address names no panel: what is most likely looked for at this moment.
  const first = useMemo(() => (state === "deploying" || state === "failed" ? "log" : "nodes"), []);
  const active = panels.find(({ id }) => id === panel)?.id ?? first;
  useEffect(() => void restore(lab.id), [lab.id]);
  const scope: Scope = {
    lab,
    state,
    drawing: useDrawing(lab.definition).value,
    ...selection,
    show: (id) => replace(links.lab(lab.id, id)),
  };
  return (
    <ScopeContext.Provider value={scope}>
      <div class="lab" data-lab={lab.id} data-state={state}>
        <LabHead />
        <div class="lab-body" style={{ "--split": `${split.value}%` }}>
          <Stage />
          <Splitter />
          <Side active={active} />
        </div>
      </div>
    </ScopeContext.Provider>
  );
};

export const LabView = ({ id, panel }: { id: string; panel: string | null }): JSX.Element => {
  const lab = find(id);
  if (lab) return <Shown lab={lab} panel={panel} />;
  if (trouble.value) return <Trouble what="Fetching the lab" problem={trouble.value} onRetry={() => void load()} />;
  if (!loaded.value) return <Loading what="Fetching the lab…" />;
  return (
    <Empty title="There is no such lab">
      <p>It was deleted, or you may not see it.</p>
      <p>
        <a class="button button-plain" href={links.labs}>
          All labs
        </a>
      </p>
    </Empty>
  );
};
