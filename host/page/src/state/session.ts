// Who is logged in. The tokens are the server's cookies; the page reads the one that it may read and keeps none itself.
import { computed, signal } from "@preact/signals";
import * as client from "../api/client";
import * as requests from "../api/requests";
import { claims, cookie, type Claims } from "../api/token";
import { asProblem } from "../api/problem";

/** A token is exchanged so long before it expires, in milliseconds. */
const AHEAD = 90_000;
/** After a refresh that couldn't be asked for, such as without a network. */
const AGAIN = 10_000;

type Phase = "opening" | "out" | "in";

export const phase = signal<Phase>("opening");
const token = signal("");
export const user = computed<Claims | null>(() => claims(token.value));
/** Why nobody is logged in any more; empty: nobody was, or they left by themselves. */
export const farewell = signal("");

let refreshing: Promise<boolean> | null = null;
let timer: ReturnType<typeof setTimeout> | undefined;

const take = (given: string): void => {
  token.value = given;
  clearTimeout(timer);
  const read = claims(given);
  if (!read) return;
  phase.value = "in";
  farewell.value = "";
  plan(Math.max(read.expires - Date.now() - AHEAD, AGAIN));
};

const plan = (after: number): void => {
  clearTimeout(timer);
  timer = setTimeout(() => void refresh(), after);
};

const drop = (why: string): void => {
  clearTimeout(timer);
  token.value = "";
  farewell.value = why;
  phase.value = "out";
};

export const accessToken = (): string => token.value;

/** Another access token; false: none could be had. */
export const refresh = (): Promise<boolean> => {
  refreshing ??= requests
    .refresh()
    .then((given) => {
      take(given);
      return true;
    })
    .catch((error: unknown) => {
      const problem = asProblem(error);
      // Without an answer, or with one that says "later", the login stands.
      if (problem.status === 401 || problem.status === 400) drop(phase.value === "in" ? "Your session has ended." : "");
      else plan(AGAIN);
      return false;
    })
    .finally(() => (refreshing = null));
  return refreshing;
};

/** Called once, when the page is opened. */
export const open = async (): Promise<void> => {
  client.useSession({
    token: accessToken,
    refresh,
    ended: () => drop(phase.value === "in" ? "Your session has ended." : ""),
  });
  const found = cookie(document.cookie, "accessToken");
  const read = claims(found);
  if (!found) phase.value = "out";
  else if (read && read.expires > Date.now() + AHEAD) take(found);
  else if (!(await refresh()) && phase.value === "opening") phase.value = "out";
};

export const logIn = async (username: string, password: string): Promise<void> => {
  await requests.logIn(username, password);
  take(cookie(document.cookie, "accessToken"));
};

export const logOut = async (): Promise<void> => {
  try {
    await requests.logOut();
    drop("");
  } catch (error) {
    const { status, message } = asProblem(error);
    // Without an answer nothing has changed. Else the cookies are gone, whatever the server could not do.
    if (status === 0) throw error;
    drop(`You are logged out here, but: ${message}`);
  }
};
