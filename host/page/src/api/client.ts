// The one place that speaks REST: envelope, token, and what to do when the token has gone bad. Who the token belongs to is
// kept by `state/session.ts`, which is told here through `Session`.
import { Problem } from "./problem";

/** What the client needs to know of the login. */
export interface Session {
  /** The access token; empty: none. */
  token(): string;
  /** Gets another one; false: there is nobody to get it for. However many ask at once, it is asked for once. */
  refresh(): Promise<boolean>;
  /** The login is over. */
  ended(): void;
}

const base = new URL("api/", document.baseURI);

/** The address of something over REST, for links that a browser follows by itself. */
export const address = (path: string): string => new URL(path.replace(/^\//, ""), base).pathname;

let session: Session | null = null;

export const useSession = (given: Session): void => {
  session = given;
};

export interface Options {
  method?: "GET" | "POST" | "PATCH" | "PUT" | "DELETE";
  body?: unknown;
  /** Sent without a token, and never repeated with another one: for logging in and out. */
  anonymous?: boolean;
}

const send = async (path: string, { method = "GET", body, anonymous }: Options): Promise<Response> => {
  const headers = new Headers({ Accept: "application/json" });
  if (body !== undefined) headers.set("Content-Type", "application/json");
  const token = session?.token();
  if (token && !anonymous) headers.set("Authorization", `Bearer ${token}`);
  const init: RequestInit = { method, headers, credentials: "same-origin" };
  if (body !== undefined) init.body = JSON.stringify(body);
  try {
    return await fetch(new URL(path.replace(/^\//, ""), base), init);
  } catch {
    throw new Problem("the server can't be reached", null);
  }
};

const read = async (response: Response): Promise<unknown> => {
  let answer: unknown;
  try {
    answer = await response.json();
  } catch {
    // Something between here and the server has answered, such as a proxy.
    throw new Problem(`the server answered with status ${response.status}`, null, response.status);
  }
  const said = (answer ?? {}) as { payload?: unknown; code?: number; message?: string };
  if (response.ok && "payload" in said) return said.payload;
  throw new Problem(said.message ?? `status ${response.status}`, said.code ?? null, response.status);
};

/** The payload of an answer. Throws a `Problem`. */
export const ask = async <T>(path: string, options: Options = {}): Promise<T> => {
  let response = await send(path, options);
  if (!options.anonymous && session) {
    if (response.status === 498 && (await session.refresh())) response = await send(path, options);
    // A refresh that had no answer, or one that says "later", ends nothing; one that is refused has ended it itself.
    if (response.status === 401) session.ended();
  }
  return (await read(response)) as T;
};
