// Keys that work everywhere but where somebody types. `help.tsx` lists them for people.
import { useEffect } from "preact/hooks";
import { singleKeys } from "../../state/preferences";
import { go, links } from "../../state/route";
import { phase } from "../../state/session";
import { activityShown, helpShown } from "./overlays";

const types = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));

const onKeyDown = (event: KeyboardEvent): void => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (!singleKeys.value || types(event.target) || phase.value !== "in" || document.querySelector("dialog[open]")) return;
  switch (event.key) {
    case "?":
      helpShown.value = true;
      break;
    case "/": {
      const search = document.getElementById("search");
      if (search) search.focus();
      else go(links.labs);
      break;
    }
    case "n":
      go(links.create);
      break;
    case "l":
      go(links.labs);
      break;
    case "a":
      activityShown.value = true;
      break;
    default: {
      // The tabs of a lab, by their number.
      const tab = document.querySelectorAll<HTMLElement>(".side > .tabs [role=tab]")[Number(event.key) - 1];
      if (!/^[1-9]$/.test(event.key) || !tab) return;
      tab.click();
      tab.focus();
    }
  }
  event.preventDefault();
};

export const useShortcuts = (): void => {
  useEffect(() => {
    addEventListener("keydown", onKeyDown);
    return () => removeEventListener("keydown", onKeyDown);
  }, []);
};
