// Logging in, in the ways that the server offers.
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { address } from "../api/client";
import { asProblem, type Problem } from "../api/problem";
import * as requests from "../api/requests";
import type { WireLoginConfig } from "../api/wire";
import { Button } from "../components/button";
import { Loading } from "../components/empty";
import { Field } from "../components/field";
import { Mark } from "../components/icon";
import { Trouble } from "../components/trouble";
import { farewell, logIn } from "../state/session";
import { useTitle } from "./frame/title";

/** Which view somebody wanted who goes to another site to log in: fragments don't come back from there. */
const RETURN = "antimony.return";

const Native = (): JSX.Element => {
  const busy = useSignal(false);
  const problem = useSignal<Problem | null>(null);
  const submit = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    const filled = new FormData(event.currentTarget as HTMLFormElement);
    busy.value = true;
    problem.value = null;
    try {
      await logIn(String(filled.get("username")), String(filled.get("password")));
    } catch (error) {
      problem.value = asProblem(error);
    } finally {
      busy.value = false;
    }
  };
  return (
    <form class="form" onSubmit={(event) => void (busy.value ? event.preventDefault() : submit(event))}>
      <Field label="User name">
        {(id) => <input id={id} name="username" autoComplete="username" autoCapitalize="off" spellcheck={false} autoFocus />}
      </Field>
      <Field label="Password">
        {(id) => <input id={id} name="password" type="password" autoComplete="current-password" />}
      </Field>
      {problem.value && <Trouble problem={problem.value} />}
      <Button kind="primary" type="submit" busy={busy.value}>
        Log in
      </Button>
    </form>
  );
};

const OpenId = ({ alone }: { alone: boolean }): JSX.Element => (
  <a
    class={`button ${alone ? "button-primary" : "button-plain"}`}
    href={address("/users/login/openid")}
    onClick={() => sessionStorage.setItem(RETURN, location.hash)}
  >
    <span>Log in with single sign-on</span>
  </a>
);

/** Back to the view that was wanted before a login at another site. */
export const restoreView = (): void => {
  const wanted = sessionStorage.getItem(RETURN);
  sessionStorage.removeItem(RETURN);
  if (wanted && location.hash === "") location.replace(wanted);
};

export const LoginView = (): JSX.Element => {
  useTitle("Log in");
  const config = useSignal<WireLoginConfig | null>(null);
  const problem = useSignal<Problem | null>(null);
  const load = (): void => {
    problem.value = null;
    requests.logins().then(
      (said) => (config.value = said),
      (error: unknown) => (problem.value = asProblem(error)),
    );
  };
  useEffect(load, []);
  const ways = config.value;
  return (
    <main class="login" id="main" tabIndex={-1}>
      <div class="login-card">
        <h1>
          <Mark size={36} />
          Antimony
        </h1>
        <p class="hint">Network labs: deploy them, watch them, work in them.</p>
        {farewell.value && (
          <p class="farewell" role="status">
            {farewell.value}
          </p>
        )}
        {problem.value && <Trouble problem={problem.value} onRetry={load} />}
        {!ways && !problem.value && <Loading what="Asking the server…" />}
        {ways?.native.enabled && <Native />}
        {ways?.native.enabled && ways.openId.enabled && <p class="or">or</p>}
        {ways?.openId.enabled && <OpenId alone={!ways.native.enabled} />}
        {ways && !ways.native.enabled && !ways.openId.enabled && (
          <p>This server has no login that works in a browser. Its operator can switch one on in its configuration.</p>
        )}
      </div>
    </main>
  );
};
