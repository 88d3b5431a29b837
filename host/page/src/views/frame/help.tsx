// The keys, for people, and what makes them and terminals fit some of these better.
import type { Signal } from "@preact/signals";
import type { JSX } from "preact";
import { Dialog } from "../../components/dialog";
import { readAloud, singleKeys } from "../../state/preferences";
import { helpShown } from "./overlays";

const keys: readonly (readonly [string, readonly (readonly [string, string])[]])[] = [
  [
    "Everywhere",
    [
      ["?", "This help"],
      ["l", "All labs"],
      ["n", "A new lab"],
      ["/", "Search the labs"],
      ["a", "Activity"],
      ["Esc", "Close what is open"],
    ],
  ],
  [
    "In a lab",
    [
      ["1 … 9", "The tabs, from left to right"],
      ["← ↑ ↓ →", "In the drawing: to the next node that way"],
      ["Enter", "On a node: its details"],
      ["t", "On a node: a terminal in it"],
      ["+ − 0", "In the drawing: larger, smaller, all of it"],
    ],
  ],
  [
    "In a terminal",
    [
      ["Ctrl Shift ← →", "The terminal before, the next one"],
      ["Ctrl Shift ↑", "Out of the terminal, to its tab"],
      ["Ctrl Shift C, V", "Copy, paste"],
      ["Delete", "On its tab: close it"],
    ],
  ],
];

const Choice = ({ chosen, text }: { chosen: Signal<boolean>; text: string }): JSX.Element => (
  <label class="check">
    <input type="checkbox" checked={chosen.value} onChange={(event) => (chosen.value = event.currentTarget.checked)} />
    <span>{text}</span>
  </label>
);

export const Help = (): JSX.Element | null => {
  if (!helpShown.value) return null;
  return (
    <Dialog title="Keys and help" onClose={() => (helpShown.value = false)}>
      <div class="keys">
        {keys.map(([where, entries]) => (
          <section key={where}>
            <h3>{where}</h3>
            <dl>
              {entries.map(([key, what]) => (
                <div key={key}>
                  <dt>
                    <kbd>{key}</kbd>
                  </dt>
                  <dd>{what}</dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
      </div>
      <p class="hint">Esc and Tab belong to the terminal while it has the focus.</p>
      <Choice chosen={singleKeys} text="Single keys, such as n and /, do something" />
      <Choice chosen={readAloud} text="Lay terminals open to screen readers" />
    </Dialog>
  );
};
