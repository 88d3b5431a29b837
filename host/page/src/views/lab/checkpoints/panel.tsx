// Checkpoints of the lab: what its nodes have made, kept under a name, and put back into a fresh deploy.
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { asProblem, type Problem } from "../../../api/problem";
import * as requests from "../../../api/requests";
import { bytes } from "../../../components/amounts";
import { Button } from "../../../components/button";
import { confirmed } from "../../../components/confirm";
import { Empty, Loading } from "../../../components/empty";
import { Field } from "../../../components/field";
import { Trouble } from "../../../components/trouble";
import * as actions from "../../../state/actions";
import { now } from "../../../state/clock";
import { moment, precise } from "../../../state/time";
import { useScope } from "../scope";

const Saved = ({ saved, onDismiss }: { saved: requests.Saved; onDismiss: () => void }): JSX.Element => (
  <div class="saved" role="status">
    <ul>
      {saved.nodes.map(({ node, saved, detail }) => (
        <li key={node}>
          <strong>{node}</strong> {saved ? "saved" : "not saved"}
          {detail && <span class="hint">: {detail}</span>}
        </li>
      ))}
    </ul>
    <Button kind="quiet" small icon="close" label="Dismiss" onClick={onDismiss} />
  </div>
);

export const CheckpointsPanel = (): JSX.Element => {
  const { lab, state, show, logOf } = useScope();
  const found = useSignal<requests.Checkpoint[] | null>(null);
  const problem = useSignal<Problem | null>(null);
  const saved = useSignal<requests.Saved | null>(null);
  const name = useSignal("");
  const key = actions.about.checkpoints(lab.id);
  const doing = actions.action(key);
  const is = (what: string): boolean => doing?.busy === true && doing.doing === what;
  const running = state === "running";

  const load = async (): Promise<void> => {
    try {
      found.value = await requests.checkpoints(lab.id);
      problem.value = null;
    } catch (error) {
      problem.value = asProblem(error);
    }
  };
  useEffect(() => void load(), [lab.id]);

  const save = (): Promise<boolean> =>
    actions.run(key, "Saving", async () => {
      saved.value = await requests.save(lab.id);
    });
  const make = async (): Promise<void> => {
    const done = await actions.run(key, "Making a checkpoint", () => requests.makeCheckpoint(lab.id, name.value.trim()));
    if (done) name.value = "";
    await load();
  };
  const remove = async (checkpoint: requests.Checkpoint): Promise<void> => {
    const text = "What is kept in it is lost. The lab stays as it is.";
    if (!(await confirmed(`Delete the checkpoint ${checkpoint.name}?`, text, "Delete"))) return;
    await actions.run(key, "Deleting the checkpoint", () => requests.removeCheckpoint(lab.id, checkpoint.id));
    await load();
  };
  const restore = async (checkpoint: requests.Checkpoint): Promise<void> => {
    const text = "The lab is deployed anew, with the files that its nodes had then. What is in them now is lost.";
    if (!(await confirmed(`Restore ${checkpoint.name}?`, text, "Restore"))) return;
    logOf.value = null;
    show("log");
    await actions.restore(lab.id, checkpoint.id);
  };

  return (
    <div class="checkpoints">
      <form
        class="checkpoint-new"
        onSubmit={(event) => {
          event.preventDefault();
          if (name.value.trim() !== "" && !doing?.busy) void make();
        }}
      >
        <Field label="New checkpoint" hint="What the nodes have made of their files is kept under this name.">
          {(id, described) => (
            <input
              id={id}
              aria-describedby={described}
              required
              placeholder="before the change"
              value={name.value}
              onInput={(event) => (name.value = event.currentTarget.value)}
            />
          )}
        </Field>
        <Button type="submit" kind="primary" icon="plus" busy={is("Making a checkpoint")} disabled={name.value.trim() === ""}>
          Make
        </Button>
        <Button
          icon="save"
          title="Save what the nodes have made, for the next checkpoint"
          busy={is("Saving")}
          disabled={!running}
          onClick={() => void save()}
        >
          Save nodes
        </Button>
      </form>
      {doing?.problem && (
        <Trouble what={doing.doing} problem={doing.problem} onDismiss={() => actions.dismiss(key)} />
      )}
      {saved.value && <Saved saved={saved.value} onDismiss={() => (saved.value = null)} />}
      {problem.value && <Trouble what="Fetching the checkpoints" problem={problem.value} onRetry={() => void load()} />}
      {!found.value && !problem.value && <Loading what="Fetching the checkpoints…" />}
      {found.value?.length === 0 && (
        <Empty title="No checkpoints yet">
          <p>A checkpoint brings a lab back to where it was: another deploy, with the same files in its nodes.</p>
        </Empty>
      )}
      <ul class="checkpoint-list">
        {found.value?.map((checkpoint) => (
          <li key={checkpoint.id} class="checkpoint" data-checkpoint={checkpoint.name}>
            <div>
              <strong>{checkpoint.name}</strong>
              <span class="hint">
                <time dateTime={checkpoint.createdAt} title={precise(new Date(checkpoint.createdAt))}>
                  {moment(new Date(checkpoint.createdAt), now.value)}
                </time>
                {` · ${checkpoint.creator.name} · ${checkpoint.files} ${checkpoint.files === 1 ? "file" : "files"}, ${bytes(checkpoint.bytes)}`}
              </span>
            </div>
            <Button
              small
              icon="restart"
              title={`Restore ${checkpoint.name}`}
              disabled={state === "deploying" || state === "stopping"}
              onClick={() => void restore(checkpoint)}
            >
              Restore
            </Button>
            <Button small kind="quiet" icon="trash" label={`Delete ${checkpoint.name}`} onClick={() => void remove(checkpoint)} />
          </li>
        ))}
      </ul>
    </div>
  );
};
