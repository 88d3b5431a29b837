// Which view is shown. Routes are in the fragment, since paths of the page's own could be those of the REST API.
import { signal } from "@preact/signals";

export type Route =
  | { view: "labs" }
  /** With the number of an example to begin with. */
  | { view: "new"; example: number | null }
  | { view: "lab"; id: string; panel: string | null }
  | { view: "plugins" }
  | { view: "missing" };

/** Reads a fragment, such as `#/labs/1234/log`. */
export const parse = (hash: string): Route => {
  let parts: string[];
  try {
    parts = hash.replace(/^#?\/?/, "").split("/").filter((part) => part !== "").map(decodeURIComponent);
  } catch {
    return { view: "missing" };
  }
  const [first, id, panel, ...more] = parts;
  if (first === undefined) return { view: "labs" };
  if (first === "labs" && id === undefined) return { view: "labs" };
  if (first === "labs" && id !== undefined && more.length === 0) return { view: "lab", id, panel: panel ?? null };
  if (first === "new" && (id === undefined || /^\d+$/.test(id)) && panel === undefined)
    return { view: "new", example: id === undefined ? null : Number(id) };
  if (first === "plugins" && id === undefined) return { view: "plugins" };
  return { view: "missing" };
};

export const links = {
  labs: "#/",
  create: "#/new",
  example: (index: number): string => `#/new/${index}`,
  plugins: "#/plugins",
  lab: (id: string, panel?: string): string =>
    `#/labs/${encodeURIComponent(id)}${panel ? `/${encodeURIComponent(panel)}` : ""}`,
};

export const route = signal<Route>(parse(location.hash));

addEventListener("hashchange", () => (route.value = parse(location.hash)));

export const go = (link: string): void => {
  location.hash = link;
};

/** The same place in the history: for changes that nobody wants to go back from one by one, such as tabs. */
export const replace = (link: string): void => {
  history.replaceState(null, "", link);
  route.value = parse(link);
};
