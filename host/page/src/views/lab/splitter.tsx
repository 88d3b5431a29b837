// The line between drawing and panels, which can be dragged or moved by the arrow keys.
import type { JSX } from "preact";
import { split } from "../../state/preferences";

const [LEAST, MOST] = [25, 75];

const set = (percent: number): void => {
  split.value = Math.min(MOST, Math.max(LEAST, percent));
};

export const Splitter = (): JSX.Element => (
  <div
    class="splitter"
    role="separator"
    aria-orientation="vertical"
    aria-label="Width of the drawing"
    aria-valuemin={LEAST}
    aria-valuemax={MOST}
    aria-valuenow={Math.round(split.value)}
    tabIndex={0}
    onKeyDown={(event) => {
      const step = { ArrowLeft: -3, ArrowRight: 3 }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      set(split.value + step);
    }}
    onDblClick={() => set(52)}
    onPointerDown={(event) => {
      const handle = event.currentTarget;
      const area = handle.parentElement?.getBoundingClientRect();
      if (!area || event.button !== 0) return;
      event.preventDefault();
      handle.setPointerCapture(event.pointerId);
      const move = (at: PointerEvent): void => set(((at.clientX - area.left) / area.width) * 100);
      handle.addEventListener("pointermove", move);
      handle.addEventListener("lostpointercapture", () => handle.removeEventListener("pointermove", move), { once: true });
    }}
  />
);
