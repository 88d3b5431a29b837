// The log of the lab or of one of its nodes: what there was, and then what comes.
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { Button } from "../../../components/button";
import { join, type Membership } from "../../../socket/connection";
import { nodesOf } from "../members";
import { useScope } from "../scope";
import { Sheet } from "./sheet";

type Status = "joining" | "live" | "absent" | "denied" | "lost";

const saidOf: Record<Status, string> = {
  joining: "Fetching the log…",
  live: "",
  absent: "",
  denied: "You may not see this log.",
  lost: "The connection is lost; the log goes on when it is back.",
};

/** Nearer to the end than this, one is at the end, in pixels. */
const AT_END = 24;

/** More nodes than this are chosen from a list. */
const FEW = 6;

const Log = ({ of }: { of: string | null }): JSX.Element => {
  const { lab, state } = useScope();
  const box = useRef<HTMLDivElement>(null);
  const sheet = useRef<Sheet | null>(null);
  const joined = useRef<Membership | null>(null);
  const status = useSignal<Status>("joining");
  const following = useSignal(true);
  const missed = useSignal(0);
  const empty = useSignal(true);

  const toEnd = (): void => {
    if (box.current) box.current.scrollTop = box.current.scrollHeight;
  };
  const follow = (on: boolean): void => {
    following.value = on;
    missed.value = 0;
    if (on) toEnd();
  };

  useEffect(() => {
    const root = box.current;
    if (!root) return;
    const mine = new Sheet(root, (added) => {
      empty.value = mine.total === 0;
      if (following.value) toEnd();
      else missed.value += added;
    });
    sheet.current = mine;
    const path = `/logs/${lab.id}${of === null ? "" : `/${of}`}`;
    const membership = join(path, {
      left: () => (status.value = "lost"),
      absent: () => (status.value = "absent"),
      denied: () => (status.value = "denied"),
      events: {
        // All that there was, also after the connection was lost: what is shown is exchanged for it.
        backlog: (lines: string[]) => {
          status.value = "live";
          mine.clear();
          empty.value = lines.length === 0;
          mine.add(lines);
        },
        data: (line: string) => mine.add([line]),
      },
    });
    joined.current = membership;
    return () => {
      membership.leave();
      mine.clear();
    };
  }, []);

  // With an instance there may be a log at last.
  useEffect(() => joined.current?.retry(), [lab.instance?.name, state]);

  const save = (): void => {
    const address = URL.createObjectURL(new Blob([sheet.current?.text() ?? ""], { type: "text/plain" }));
    const link = document.createElement("a");
    link.href = address;
    link.download = `${[lab.name, of].filter(Boolean).join("-")}.log`;
    link.click();
    URL.revokeObjectURL(address);
  };

  const said =
    status.value === "absent"
      ? of === null
        ? "No log yet. It begins with the first deploy."
        : state === "running"
          ? "This node has no log yet."
          : "A node's log is there while the lab runs."
      : status.value === "live" && empty.value
        ? "Nothing has been printed yet."
        : saidOf[status.value];
  return (
    <>
      <div class="log-tools">
        <span class="log-state" role="status">
          {status.value === "live" && following.value && (
            <>
              <span class="live-dot" aria-hidden="true" />
              Live
            </>
          )}
          {status.value === "live" && !following.value && "Paused"}
        </span>
        <Button
          small
          kind="quiet"
          icon={following.value ? "pause" : "down"}
          onClick={() => follow(!following.value)}
        >
          {following.value ? "Pause" : missed.value > 0 ? `Follow (${missed.value} new)` : "Follow"}
        </Button>
        <Button small kind="quiet" icon="download" label="Save this log" onClick={save} />
      </div>
      {said && (
        <p class="log-said" role="status">
          {said}
        </p>
      )}
      <div
        ref={box}
        class="log mono"
        role="log"
        // Read on demand: every line aloud would be of no use to anybody.
        aria-live="off"
        aria-label={of === null ? "Log of the lab" : `Log of ${of}`}
        tabIndex={0}
        onScroll={(event) => {
          const { scrollTop, scrollHeight, clientHeight } = event.currentTarget;
          const atEnd = scrollHeight - scrollTop - clientHeight < AT_END;
          if (atEnd !== following.value) follow(atEnd);
        }}
      />
    </>
  );
};

export const LogPanel = (): JSX.Element => {
  const scope = useScope();
  const { lab, logOf } = scope;
  const nodes = nodesOf(scope);
  const source = (name: string | null, text: string): JSX.Element => (
    <button
      key={text}
      type="button"
      class="filter"
      aria-pressed={logOf.value === name}
      onClick={() => (logOf.value = name)}
    >
      {text}
    </button>
  );
  return (
    <div class="log-panel">
      <div class="filters" role="group" aria-label="Log of">
        {source(null, "Deployment")}
        {nodes.length <= FEW && nodes.map((node) => source(node.name, node.name))}
        {nodes.length > FEW && (
          <select
            class="log-of"
            aria-label="Log of a node"
            value={logOf.value ?? ""}
            onChange={(event) => (logOf.value = event.currentTarget.value || null)}
          >
            <option value="">Node…</option>
            {nodes.map((node) => (
              <option key={node.name} value={node.name}>
                {node.name}
              </option>
            ))}
          </select>
        )}
      </div>
      {/* Another log is another sheet. */}
      <Log key={`${lab.id}/${logOf.value ?? ""}`} of={logOf.value} />
    </div>
  );
};
