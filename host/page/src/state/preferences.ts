// What is kept in this browser: preferences, and which terminals were open. Nothing else.
import { effect, signal, type Signal } from "@preact/signals";

const read = (key: string): string | null => {
  try {
    return localStorage.getItem(`antimony.${key}`);
  } catch {
    // Browsers may be told to keep nothing.
    return null;
  }
};

const write = (key: string, value: string | null): void => {
  try {
    if (value === null) localStorage.removeItem(`antimony.${key}`);
    else localStorage.setItem(`antimony.${key}`, value);
  } catch {
    // As above, or it is full: then it holds for this visit only.
  }
};

export type Theme = "system" | "dark" | "light";
const isTheme = (value: string | null): value is Theme => value === "system" || value === "dark" || value === "light";

const keptTheme = read("theme");
export const theme = signal<Theme>(isTheme(keptTheme) ? keptTheme : "system");

const prefersLight = matchMedia("(prefers-color-scheme: light)");
export const systemIsLight = signal(prefersLight.matches);
prefersLight.addEventListener("change", () => (systemIsLight.value = prefersLight.matches));

/** What is on the screen, whoever wants it. */
export const isLight = (): boolean => (theme.value === "system" ? systemIsLight.value : theme.value === "light");

effect(() => {
  write("theme", theme.value === "system" ? null : theme.value);
  document.documentElement.dataset["theme"] = isLight() ? "light" : "dark";
});

/** A choice that is off or on. */
const choice = (key: string, usually: boolean): Signal<boolean> => {
  const kept = read(key);
  const chosen = signal(kept === null ? usually : kept === "on");
  effect(() => write(key, chosen.value === usually ? null : chosen.value ? "on" : "off"));
  return chosen;
};

/** Whether single keys do something: programs that listen to speech type letters that nobody meant. */
export const singleKeys = choice("keys", true);
/** Whether terminals are laid open to screen readers, which costs some speed. */
export const readAloud = choice("aloud", false);

/** The share of the graph in the view of a lab, in percent. */
const keptSplit = Number(read("split"));
export const split = signal(keptSplit >= 20 && keptSplit <= 80 ? keptSplit : 52);
effect(() => write("split", split.value === 52 ? null : String(Math.round(split.value))));

export interface KeptTab {
  id: string;
  node: string;
}

/** The terminals that were open in a lab. */
export const keptTabs = (lab: string): KeptTab[] => {
  try {
    const kept = JSON.parse(read(`tabs.${lab}`) ?? "[]") as unknown;
    if (!Array.isArray(kept)) return [];
    return kept.filter((each): each is KeptTab => typeof each?.id === "string" && typeof each?.node === "string");
  } catch {
    return [];
  }
};

export const keepTabs = (lab: string, tabs: readonly KeptTab[]): void =>
  write(`tabs.${lab}`, tabs.length === 0 ? null : JSON.stringify(tabs.map(({ id, node }) => ({ id, node }))));
