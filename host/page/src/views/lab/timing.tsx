// When a lab starts or ends, as seen from now.
import type { JSX } from "preact";
import { stateOf, type Lab } from "../../api/model";
import { now } from "../../state/clock";
import { precise, span } from "../../state/time";

/** An end that is nearer than this is worth a colour, in milliseconds. */
const SOON = 15 * 60_000;

export const Timing = ({ lab }: { lab: Lab }): JSX.Element | null => {
  const at = now.value;
  const state = stateOf(lab, at);
  if (state === "scheduled")
    return (
      <time dateTime={lab.start.toISOString()} title={precise(lab.start)}>
        starts in {span(lab.start.getTime() - at)}
      </time>
    );
  if (!lab.end) return null;
  const left = lab.end.getTime() - at;
  // An end that has passed is of no use to anybody: the lab is down, or about to be.
  if (left <= 0 && !lab.instance) return null;
  const soon = lab.instance !== null && left < SOON;
  return (
    <time class={soon ? "soon" : undefined} dateTime={lab.end.toISOString()} title={precise(lab.end)}>
      {left <= 0 ? "ends now" : `ends in ${span(left)}`}
    </time>
  );
};
