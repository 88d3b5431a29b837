// One lab of the list.
import type { JSX } from "preact";
import { nameIn, stateOf, type Lab } from "../../api/model";
import { Button } from "../../components/button";
import { StateChip } from "../../components/state";
import { Trouble } from "../../components/trouble";
import { about, action, deploy, dismiss } from "../../state/actions";
import { now } from "../../state/clock";
import { links } from "../../state/route";
import { destroyAfterAsking } from "../lab/deeds";
import { Timing } from "../lab/timing";
import { Sketch } from "../lab/graph/sketch";

const Deed = ({ lab }: { lab: Lab }): JSX.Element => {
  const state = stateOf(lab, now.value);
  const busy = action(about.lab(lab.id))?.busy ?? false;
  if (state === "running" || state === "deploying")
    return (
      <Button
        small
        icon="stop"
        busy={busy && state === "running"}
        title={`Destroy ${lab.name}`}
        onClick={() => void destroyAfterAsking(lab)}
      >
        {state === "deploying" ? "Cancel" : "Destroy"}
      </Button>
    );
  return (
    <Button
      small
      icon="play"
      busy={busy || state === "stopping"}
      title={`Deploy ${lab.name}`}
      onClick={() => void deploy(lab.id)}
    >
      Deploy
    </Button>
  );
};

export const LabRow = ({ lab }: { lab: Lab }): JSX.Element => {
  const state = stateOf(lab, now.value);
  const key = about.lab(lab.id);
  const problem = action(key)?.problem;
  const up = lab.nodes.filter((node) => node.state === "running").length;
  return (
    <li class="lab-row" data-lab={lab.id} data-state={state}>
      <a class="lab-row-link" href={links.lab(lab.id)} aria-label={lab.name}>
        <Sketch lab={lab} />
      </a>
      <div class="lab-row-name">
        <a href={links.lab(lab.id)}>{lab.name}</a>
        <span class="hint">
          {nameIn(lab.definition)} · {lab.creator.name}
        </span>
      </div>
      <div class="lab-row-state">
        <StateChip state={state} />
      </div>
      <div class="lab-row-nodes">
        {lab.nodes.length > 0 && (
          <span>
            {up}/{lab.nodes.length} nodes up
          </span>
        )}
      </div>
      <div class="lab-row-time">
        <Timing lab={lab} />
      </div>
      <div class="lab-row-deed">
        <Deed lab={lab} />
      </div>
      {problem && (
        <div class="lab-row-problem">
          <Trouble what={action(key)?.doing ?? ""} problem={problem} onDismiss={() => dismiss(key)} />
        </div>
      )}
    </li>
  );
};
