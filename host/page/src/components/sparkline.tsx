// The course of a figure, small, beside the figure itself. It says nothing that isn't written there, too.
import type { JSX } from "preact";

const [WIDTH, HEIGHT, EDGE] = [112, 26, 2];

interface Props {
  /** Oldest first; null: not known then. */
  values: readonly (number | null)[];
  /** How many there are when it is full. */
  most: number;
  /** What the upper edge stands for, at least. */
  least: number;
}

/** Paths along the values, broken where there is none. */
export const course = (values: Props["values"], most: number, top: number): string => {
  const step = (WIDTH - 2 * EDGE) / (most - 1);
  const first = most - values.length;
  let pen = "M";
  return values
    .map((value, index) => {
      if (value === null) {
        pen = "M";
        return "";
      }
      const x = EDGE + (first + index) * step;
      const y = HEIGHT - EDGE - (Math.min(value, top) / top) * (HEIGHT - 2 * EDGE);
      const part = `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
      pen = "L";
      return part;
    })
    .join("");
};

export const Sparkline = ({ values, most, least }: Props): JSX.Element => {
  const top = Math.max(least, ...values.map((value) => value ?? 0));
  return (
    <svg class="sparkline" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
      <path class="sparkline-ground" d={`M${EDGE} ${HEIGHT - EDGE}H${WIDTH - EDGE}`} />
      <path class="sparkline-line" d={course(values, most, top)} />
    </svg>
  );
};
