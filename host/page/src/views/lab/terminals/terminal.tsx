// One terminal: xterm.js on the namespace of a shell. What comes is written as it comes, what is typed is sent as it is typed.
import { FitAddon } from "@xterm/addon-fit";
import { WebLinksAddon } from "@xterm/addon-web-links";
import { Terminal as Xterm } from "@xterm/xterm";
import "@xterm/xterm/css/xterm.css";
import { effect, useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { Button } from "../../../components/button";
import { copy } from "../../../components/clipboard";
import { tabId } from "../../../components/tabs";
import { join, type Membership } from "../../../socket/connection";
import { isLight, readAloud } from "../../../state/preferences";
import * as shells from "../../../state/shells";
import { pieces } from "./paste";
import { themeFor } from "./theme";

interface Props {
  lab: string;
  tab: shells.Tab;
  title: string;
  shown: boolean;
  /** To another terminal: the next one, or the one before. */
  onStep: (by: number) => void;
}

const FONT = 'ui-monospace, "SFMono-Regular", "Cascadia Mono", "Segoe UI Mono", "DejaVu Sans Mono", Menlo, Consolas, monospace';

export const Terminal = ({ lab, tab, title, shown, onStep }: Props): JSX.Element => {
  const box = useRef<HTMLDivElement>(null);
  const term = useRef<Xterm | null>(null);
  const fit = useRef<() => void>(() => {});
  const lost = useSignal(false);
  const stepping = useRef(onStep);
  stepping.current = onStep;

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const xterm = new Xterm({
      fontFamily: FONT,
      fontSize: 13,
      lineHeight: 1.15,
      scrollback: 10_000,
      screenReaderMode: readAloud.value,
      cursorBlink: !matchMedia("(prefers-reduced-motion: reduce)").matches,
      theme: themeFor(isLight()),
      // Keeps text readable whatever colours a program chooses.
      minimumContrastRatio: 4.5,
    });
    const fitting = new FitAddon();
    xterm.loadAddon(fitting);
    xterm.loadAddon(new WebLinksAddon((_, address) => window.open(address, "_blank", "noopener,noreferrer")));
    xterm.open(element);
    xterm.textarea?.setAttribute("aria-label", `Terminal in ${title}. Control Shift Up leaves it.`);
    term.current = xterm;

    /** While the past is written again, its questions to the terminal are not answered a second time. */
    let replaying = 0;
    let membership: Membership | null = null;
    const size = (): void => {
      if (membership?.socket.connected) membership.socket.emit("resize", { cols: xterm.cols, rows: xterm.rows });
    };
    membership = join(`/shells/${tab.id}`, {
      joined: () => {
        lost.value = false;
        size();
      },
      left: () => (lost.value = true),
      // Shells are kept readable for a while after their end, and then are gone.
      absent: () => {
        membership?.leave();
        if (tab.ended === "")
          shells.ended({ labId: lab, node: tab.node, shellId: tab.id, command: 1, message: "This shell is gone." });
      },
      events: {
        backlog: (past: string[]) => {
          replaying += 1;
          xterm.reset();
          xterm.write(past.join(""), () => (replaying -= 1));
        },
        data: (text: string) => xterm.write(text),
      },
    });
    const { socket } = membership;
    // What is typed while the connection is away is dropped, and not sent into whatever the shell does a minute later.
    xterm.onData((text) => {
      if (replaying === 0 && socket.connected) for (const piece of pieces(text)) socket.emit("data", piece);
    });
    xterm.onBinary((bytes) => {
      if (replaying === 0 && socket.connected) socket.emit("data", Uint8Array.from(bytes, (c) => c.charCodeAt(0)));
    });
    xterm.onResize(size);

    xterm.attachCustomKeyEventHandler((event) => {
      if (!event.ctrlKey || !event.shiftKey || event.altKey || event.metaKey) return true;
      const mine: Record<string, () => void> = {
        ArrowLeft: () => stepping.current(-1),
        ArrowRight: () => stepping.current(1),
        ArrowUp: () => document.getElementById(tabId("terminals", tab.id))?.focus(),
        KeyC: () => void (xterm.hasSelection() && copy(xterm.getSelection())),
      };
      // The browser pastes by itself, if the terminal leaves it the key.
      if (event.code === "KeyV") return false;
      const act = mine[event.code];
      if (!act) return true;
      event.preventDefault();
      if (event.type === "keydown") act();
      return false;
    });

    fit.current = () => {
      if (element.clientWidth > 0 && element.clientHeight > 0) fitting.fit();
    };
    let frame = 0;
    const measure = new ResizeObserver(() => {
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(() => fit.current());
    });
    measure.observe(element);
    const repaint = effect(() => {
      xterm.options.theme = themeFor(isLight());
    });
    const speak = effect(() => {
      xterm.options.screenReaderMode = readAloud.value;
    });
    return () => {
      repaint();
      speak();
      cancelAnimationFrame(frame);
      measure.disconnect();
      membership.leave();
      xterm.dispose();
      term.current = null;
    };
  }, []);

  useEffect(() => {
    if (!shown) return;
    fit.current();
    term.current?.focus();
  }, [shown]);

  return (
    <div class="terminal" data-shell={tab.id} data-node={tab.node}>
      <div class="terminal-screen" ref={box} />
      {tab.ended !== "" ? (
        <div class="terminal-said" role="status">
          <span>{tab.ended}</span>
          <Button small onClick={() => void shells.open(lab, tab.node)}>
            Open another
          </Button>
          <Button small kind="quiet" onClick={() => void shells.close(lab, tab)}>
            Close
          </Button>
        </div>
      ) : (
        lost.value && (
          <div class="terminal-said" role="status">
            Connection lost; the shell goes on, and comes back.
          </div>
        )
      )}
    </div>
  );
};
