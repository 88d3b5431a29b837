// For administrators: the plugins that decide things, what came of asking them, and going back to those before.
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { asProblem, type Problem } from "../../api/problem";
import * as requests from "../../api/requests";
import { Button } from "../../components/button";
import { confirmed } from "../../components/confirm";
import { Loading } from "../../components/empty";
import { Icon } from "../../components/icon";
import { Trouble } from "../../components/trouble";
import { say } from "../../state/notices";
import { useTitle } from "../frame/title";
import { PluginCard } from "./card";
import { Reload } from "./reload";

/** How often the figures are fetched again, in milliseconds. */
const PERIOD = 5000;

const hooks: Record<string, string> = {
  "command-validator": "Is a command valid?",
  "auth-policy": "Who may do what?",
  "status-formatter": "How is an event worded?",
};

export const PluginsView = (): JSX.Element => {
  useTitle("Plugins");
  const found = useSignal<requests.Plugins | null>(null);
  const problem = useSignal<Problem | null>(null);
  const refused = useSignal<Problem | null>(null);
  const doing = useSignal<"" | "reload" | "rollback">("");

  const load = async (): Promise<void> => {
    try {
      found.value = await requests.plugins();
      problem.value = null;
    } catch (error) {
      problem.value = asProblem(error);
    }
  };
  useEffect(() => {
    void load();
    const timer = setInterval(() => {
      if (!document.hidden) void load();
    }, PERIOD);
    return () => clearInterval(timer);
  }, []);

  const exchange = async (what: "reload" | "rollback"): Promise<void> => {
    doing.value = what;
    refused.value = null;
    try {
      found.value = await (what === "reload" ? requests.reloadPlugins() : requests.rollBackPlugins());
      say(what === "reload" ? "The plugins have been reloaded." : "The plugins from before are in force.", "success");
    } catch (error) {
      refused.value = asProblem(error);
      void load();
    } finally {
      doing.value = "";
    }
  };
  const rollBack = async (): Promise<void> => {
    const text = "The plugins that were in force before take over at once. They stay until a file changes again.";
    if (await confirmed("Roll the plugins back?", text, "Roll back")) await exchange("rollback");
  };

  const all = found.value;
  return (
    <div class="page">
      <header class="page-head">
        <h1>Plugins</h1>
        <Button icon="back" busy={doing.value === "rollback"} onClick={() => void rollBack()}>
          Roll back
        </Button>
        <Button kind="primary" icon="restart" busy={doing.value === "reload"} onClick={() => void exchange("reload")}>
          Reload
        </Button>
      </header>
      {refused.value && <Trouble problem={refused.value} onDismiss={() => (refused.value = null)} />}
      {problem.value && <Trouble what="Fetching the plugins" problem={problem.value} onRetry={() => void load()} />}
      {!all && !problem.value && <Loading what="Fetching the plugins…" />}
      {all && (
        <>
          <Reload state={all.reload} />
          {[...new Set(all.plugins.map(({ hook }) => hook))].map((hook) => (
            <section key={hook} class="hook" aria-label={hook}>
              <h2>
                <Icon name="plug" />
                {hook}
                <span class="hint">{hooks[hook]}</span>
              </h2>
              {all.plugins
                .filter((plugin) => plugin.hook === hook)
                .map((plugin) => (
                  <PluginCard key={`${plugin.name} ${plugin.digest}`} plugin={plugin} />
                ))}
            </section>
          ))}
        </>
      )}
    </div>
  );
};
