// The terminals of a lab: a tab for each shell.
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { Button } from "../../../components/button";
import { Empty } from "../../../components/empty";
import { lazy } from "../../../components/lazy";
import { panelId, tabId, Tabs } from "../../../components/tabs";
import { Trouble } from "../../../components/trouble";
import * as shells from "../../../state/shells";
import { nodesOf } from "../members";
import { useScope } from "../scope";

const Terminal = lazy("The terminal", () => import("./terminal").then(({ Terminal }) => Terminal));

/** What a tab is called: its node, and which one of several. */
export const titles = (tabs: readonly shells.Tab[]): Map<string, string> => {
  const found = new Map<string, string>();
  const counts = new Map<string, number>();
  for (const { id, node } of tabs) {
    const count = (counts.get(node) ?? 0) + 1;
    counts.set(node, count);
    found.set(id, count === 1 ? node : `${node} (${count})`);
  }
  return found;
};

const Opener = (): JSX.Element => {
  const scope = useScope();
  const { lab, state } = scope;
  const { opening } = shells.terminals(lab.id);
  const nodes = nodesOf(scope);
  return (
    <div class="opener">
      {nodes.map((node) => (
        <Button
          key={node.name}
          small
          icon="terminal"
          busy={opening.includes(node.name)}
          disabled={state !== "running" || node.state !== "running"}
          title={`Open a terminal in ${node.name}`}
          onClick={() => void shells.open(lab.id, node.name)}
        >
          {node.name}
        </Button>
      ))}
    </div>
  );
};

export const TerminalsPanel = (): JSX.Element => {
  const { lab, state } = useScope();
  const { tabs, active, others, opening, problem } = shells.terminals(lab.id);
  useEffect(() => void shells.restore(lab.id), [lab.id]);
  const names = titles(tabs);
  const closing = (id: string | null): void => {
    const tab = tabs.find((each) => each.id === id);
    if (tab) void shells.close(lab.id, tab);
  };
  const step = (by: number): void => {
    const at = tabs.findIndex((tab) => tab.id === active);
    const next = tabs[(at + by + tabs.length) % tabs.length];
    if (next) shells.select(lab.id, next.id);
  };
  const nothing = tabs.length === 0;
  return (
    <div class="terminals">
      {!nothing && (
        <Tabs
          label="Terminals"
          prefix="terminals"
          items={tabs.map(({ id, ended }) => ({ id, title: names.get(id) ?? "", badge: ended ? "ended" : null }))}
          active={active}
          onSelect={(id) => shells.select(lab.id, id)}
          onClose={closing}
        >
          <NewTerminal />
          <Button small kind="quiet" icon="close" label="Close this terminal" onClick={() => closing(active)} />
        </Tabs>
      )}
      {problem && (
        <Trouble what="Opening a terminal" problem={problem} onDismiss={() => shells.dismissProblem(lab.id)} />
      )}
      {others.length > 0 && (
        <div class="others" role="status">
          <span>Also open, from elsewhere:</span>
          {others.map((shell) => (
            <Button key={shell.id} small onClick={() => shells.attach(lab.id, shell)}>
              Show {shell.node}
            </Button>
          ))}
        </div>
      )}
      {nothing && (
        <Empty title={opening.length > 0 ? `Opening a terminal in ${opening[0]}…` : "No terminal open"}>
          <p>{state === "running" ? "Open one in a node:" : "Terminals can be opened while the lab runs."}</p>
          {state === "running" && <Opener />}
        </Empty>
      )}
      <div class="terminal-stack" id={panelId("terminals")} role="tabpanel" aria-labelledby={active ? tabId("terminals", active) : undefined}>
        {tabs.map((tab) => (
          <div key={tab.id} class="terminal-slot" hidden={tab.id !== active}>
            <Terminal
              lab={lab.id}
              tab={tab}
              title={names.get(tab.id) ?? tab.node}
              shown={tab.id === active}
              onStep={step}
            />
          </div>
        ))}
      </div>
    </div>
  );
};

/** Another terminal, by a list of the nodes that is the browser's own. */
const NewTerminal = (): JSX.Element => {
  const scope = useScope();
  const { lab, state } = scope;
  const nodes = nodesOf(scope);
  return (
    <select
      class="new-terminal"
      aria-label="Open another terminal in"
      value=""
      disabled={state !== "running"}
      onChange={(event) => {
        const node = event.currentTarget.value;
        event.currentTarget.value = "";
        if (node) void shells.open(lab.id, node);
      }}
    >
      <option value="">New…</option>
      {nodes
        .filter((node) => node.state === "running")
        .map((node) => (
          <option key={node.name} value={node.name}>
            {node.name}
          </option>
        ))}
    </select>
  );
};
