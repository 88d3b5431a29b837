// Amounts as people read them.

const scaled = (value: number, base: number, units: readonly string[]): string => {
  let unit = 0;
  let rest = value;
  while (rest >= base && unit < units.length - 1) {
    rest /= base;
    unit += 1;
  }
  return `${unit === 0 || rest >= 99.5 ? Math.round(rest) : rest.toFixed(1)} ${units[unit]}`;
};

/** `640 B`, `1.5 KiB`, `12.0 MiB`. */
export const bytes = (value: number): string => scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]);

/** `0 bit/s`, `1.5 kbit/s`. */
export const bitRate = (value: number): string => scaled(value, 1000, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"]);

/** `0.3 %`, `120 %`. */
export const percent = (value: number): string => `${value >= 99.5 ? Math.round(value) : value.toFixed(1)} %`;
