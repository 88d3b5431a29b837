// What can be done with a node, the same wherever a node is shown.
import type { JSX } from "preact";
import { Button } from "../../components/button";
import { Trouble } from "../../components/trouble";
import * as actions from "../../state/actions";
import * as shells from "../../state/shells";
import type { ShownNode } from "./members";
import { useScope } from "./scope";

interface Props {
  node: ShownNode;
  /** Where it is the one node that is looked at, and not one of a list. */
  prominent?: boolean;
}

export const NodeActions = ({ node, prominent }: Props): JSX.Element => {
  const { lab, state, show, logOf } = useScope();
  const doing = actions.action(actions.about.node(lab.id, node.name));
  const up = state === "running";
  const is = (what: string): boolean => doing?.busy === true && doing.doing === what;
  const opening = shells.terminals(lab.id).opening.includes(node.name);
  return (
    <div class="node-actions" role="group" aria-label={`Actions for ${node.name}`}>
      <Button
        small
        kind={prominent ? "primary" : "plain"}
        icon="terminal"
        title={`Open a terminal in ${node.name}`}
        busy={opening}
        disabled={!up || node.state !== "running"}
        onClick={() => {
          show("terminals");
          void shells.open(lab.id, node.name);
        }}
      >
        Terminal
      </Button>
      <Button
        small
        icon="log"
        title={`Show the log of ${node.name}`}
        disabled={!lab.instance}
        onClick={() => {
          logOf.value = node.name;
          show("log");
        }}
      >
        Log
      </Button>
      {node.state === "exited" || is("Starting") ? (
        <Button
          small
          icon="play"
          label={`Start ${node.name}`}
          busy={is("Starting")}
          disabled={!up || doing?.busy === true}
          onClick={() => void actions.startNode(lab.id, node.name)}
        />
      ) : (
        <Button
          small
          icon="stop"
          label={`Stop ${node.name}`}
          busy={is("Stopping")}
          disabled={!up || doing?.busy === true || node.state !== "running"}
          onClick={() => void actions.stopNode(lab.id, node.name)}
        />
      )}
      <Button
        small
        icon="restart"
        label={`Restart ${node.name}`}
        busy={is("Restarting")}
        disabled={!up || !node.canRestart || doing?.busy === true}
        onClick={() => void actions.restartNode(lab.id, node.name)}
      />
    </div>
  );
};

export const NodeTrouble = ({ node }: { node: string }): JSX.Element | null => {
  const { lab } = useScope();
  const key = actions.about.node(lab.id, node);
  const doing = actions.action(key);
  if (!doing?.problem) return null;
  return <Trouble what={`${doing.doing} ${node}`} problem={doing.problem} onDismiss={() => actions.dismiss(key)} />;
};
