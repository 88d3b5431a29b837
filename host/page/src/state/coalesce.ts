// Fetching things again when the server says that they have changed, without asking more often than needed.

/** More changed things than this are fetched in one go. */
const MANY = 6;

export interface Fetches {
  one: (id: string) => Promise<void>;
  all: () => Promise<void>;
}

export interface Coalesced {
  /** Something has changed; null: anything may have. */
  (id: string | null): void;
  /** Nobody wants to know any more what has changed so far. */
  cancel: () => void;
}

/**
 * Collects changes for `delay` milliseconds, then fetches what has changed. Never two fetches at once: what changes during
 * one is fetched after it, since an answer that is under way may be from before the change.
 */
export const coalesced = ({ one, all }: Fetches, delay: number): Coalesced => {
  const changed = new Set<string>();
  let everything = false;
  let busy = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const run = async (): Promise<void> => {
    timer = undefined;
    busy = true;
    const ids = [...changed];
    const whole = everything || ids.length > MANY;
    changed.clear();
    everything = false;
    try {
      await (whole ? all() : Promise.all(ids.map(one)));
    } catch {
      // Told by whoever fetched; the next change is fetched all the same.
    } finally {
      busy = false;
      if (everything || changed.size > 0) plan();
    }
  };
  const plan = (): void => {
    timer ??= setTimeout(() => void run(), delay);
  };
  const note = (id: string | null): void => {
    if (id === null) everything = true;
    else changed.add(id);
    if (!busy) plan();
  };
  const cancel = (): void => {
    clearTimeout(timer);
    timer = undefined;
    changed.clear();
    everything = false;
  };
  return Object.assign(note, { cancel });
};
