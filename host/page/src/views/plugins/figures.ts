// Figures as people read them.

/** A time in microseconds, in the unit that fits. */
export const latency = (micros: number | null): string => {
  if (micros === null) return "—";
  if (micros < 100) return `${micros.toFixed(1)} µs`;
  if (micros < 1000) return `${micros.toFixed(0)} µs`;
  return micros < 100_000 ? `${(micros / 1000).toFixed(1)} ms` : `${(micros / 1_000_000).toFixed(2)} s`;
};

export const share = (count: number, total: number): string => {
  if (total === 0 || count === total) return "";
  const percent = (100 * count) / total;
  return percent < 1 ? "<1 %" : `${Math.round(percent)} %`;
};
