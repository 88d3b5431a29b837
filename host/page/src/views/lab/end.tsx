// When the lab ends, and more time for it.
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { Button } from "../../components/button";
import { Dialog } from "../../components/dialog";
import { Field } from "../../components/field";
import { Trouble } from "../../components/trouble";
import * as actions from "../../state/actions";
import { now } from "../../state/clock";
import { forInput, precise } from "../../state/time";
import { useScope } from "./scope";
import { Timing } from "./timing";

const MINUTE = 60_000;
const STEPS = [
  { minutes: 30, text: "30 min" },
  { minutes: 60, text: "1 h" },
  { minutes: 240, text: "4 h" },
  { minutes: 1440, text: "1 day" },
] as const;

const Extend = ({ onClose }: { onClose: () => void }): JSX.Element => {
  const { lab } = useScope();
  const key = actions.about.end(lab.id);
  const doing = actions.action(key);
  // From the end that it has, or from now where that is past.
  const from = Math.max(lab.end?.getTime() ?? 0, now.value);
  const at = useSignal(forInput(new Date(from + 60 * MINUTE)));
  const set = async (end: Date | null): Promise<void> => {
    if (await actions.setEnd(lab.id, end)) onClose();
  };
  return (
    <Dialog
      title="End of the lab"
      onClose={() => {
        actions.dismiss(key);
        onClose();
      }}
    >
      <p>
        {lab.end
          ? `It is destroyed on ${precise(lab.end)}. What is in its nodes is lost then.`
          : "It runs until somebody destroys it."}
      </p>
      <div class="extend" role="group" aria-label={lab.end ? "Extend by" : "End in"}>
        <span>{lab.end ? "Extend by" : "End in"}</span>
        {STEPS.map(({ minutes, text }) => (
          <Button key={minutes} small busy={doing?.busy ?? false} onClick={() => void set(new Date(from + minutes * MINUTE))}>
            {text}
          </Button>
        ))}
      </div>
      <form
        class="extend-at"
        onSubmit={(event) => {
          event.preventDefault();
          const end = new Date(at.value);
          if (!Number.isNaN(end.getTime())) void set(end);
        }}
      >
        <Field label="Or end at">
          {(id) => (
            <input
              id={id}
              type="datetime-local"
              required
              value={at.value}
              onInput={(event) => (at.value = event.currentTarget.value)}
            />
          )}
        </Field>
        <Button type="submit" busy={doing?.busy ?? false}>
          Set
        </Button>
      </form>
      {lab.end && (
        <Button kind="quiet" busy={doing?.busy ?? false} onClick={() => void set(null)}>
          Let it run without an end
        </Button>
      )}
      {doing?.problem && <Trouble problem={doing.problem} />}
    </Dialog>
  );
};

export const EndTime = (): JSX.Element => {
  const { lab } = useScope();
  const open = useSignal(false);
  return (
    <div class="end-time">
      {lab.end || !lab.instance ? <Timing lab={lab} /> : <span class="hint">no end</span>}
      <Button kind="quiet" small icon="clock" title="Change when the lab ends" onClick={() => (open.value = true)}>
        {!lab.end ? "Set an end" : lab.instance ? "Extend" : "Change the end"}
      </Button>
      {open.value && <Extend onClose={() => (open.value = false)} />}
    </div>
  );
};
