// The head of a lab's view: what it is, how it is, until when, and what can be done with all of it.
import type { JSX } from "preact";
import { Button } from "../../components/button";
import { Icon } from "../../components/icon";
import { StateChip } from "../../components/state";
import { Trouble } from "../../components/trouble";
import * as actions from "../../state/actions";
import { now } from "../../state/clock";
import { go, links } from "../../state/route";
import { precise, span } from "../../state/time";
import { deleteAfterAsking, destroyAfterAsking, redeployAfterAsking } from "./deeds";
import { EndTime } from "./end";
import { useScope } from "./scope";

const Deeds = (): JSX.Element => {
  const { lab, state, show, logOf } = useScope();
  const doing = actions.action(actions.about.lab(lab.id));
  const is = (what: string): boolean => doing?.busy === true && doing.doing === what;
  const deploy = (): void => {
    logOf.value = null;
    show("log");
    void actions.deploy(lab.id);
  };
  const remove = async (): Promise<void> => {
    if (await deleteAfterAsking(lab)) go(links.labs);
  };
  return (
    <div class="deeds" role="group" aria-label="Actions for the lab">
      {(state === "inactive" || state === "scheduled" || state === "failed") && (
        <Button kind="primary" icon="play" busy={is("Deploying")} onClick={deploy}>
          {state === "failed" ? "Deploy again" : "Deploy"}
        </Button>
      )}
      {state === "running" && (
        <Button
          icon="restart"
          busy={is("Deploying")}
          title="Deploy anew"
          onClick={() => {
            logOf.value = null;
            show("log");
            void redeployAfterAsking(lab);
          }}
        >
          Redeploy
        </Button>
      )}
      {lab.instance && (
        <Button
          kind="danger"
          icon={state === "deploying" ? "close" : "stop"}
          busy={is("Destroying") || state === "stopping"}
          onClick={() => void destroyAfterAsking(lab)}
        >
          {state === "deploying" ? "Cancel deploy" : state === "stopping" ? "Stopping…" : "Destroy"}
        </Button>
      )}
      {!lab.instance && (
        <Button kind="quiet" icon="trash" label="Delete the lab" busy={is("Deleting")} onClick={() => void remove()} />
      )}
    </div>
  );
};

export const LabHead = (): JSX.Element => {
  const { lab, state, drawing } = useScope();
  const key = actions.about.lab(lab.id);
  const doing = actions.action(key);
  const since = lab.instance?.since;
  return (
    <header class="lab-head">
      <div class="lab-title">
        <a class="back" href={links.labs} aria-label="All labs" title="All labs">
          <Icon name="back" size={20} />
        </a>
        <div>
          <h1>{lab.name}</h1>
          <p class="hint">
            {drawing && drawing.graph.name !== lab.name && <span>{drawing.graph.name}</span>}
            <span>by {lab.creator.name}</span>
            {lab.instance?.recovered && <span title="The server found it running when it was started">recovered</span>}
          </p>
        </div>
        <StateChip state={state} large />
        {since && (
          <span class="since hint" title={precise(since)}>
            for {span(now.value - since.getTime())}
          </span>
        )}
      </div>
      <EndTime />
      <Deeds />
      {doing?.problem && (
        <Trouble what={doing.doing} problem={doing.problem} onDismiss={() => actions.dismiss(key)} />
      )}
    </header>
  );
};
