// The title of the window, and where the focus is when another view is shown.
import { useEffect, useLayoutEffect } from "preact/hooks";

let first = true;

/** For each view, with what it shows. */
export const useTitle = (title: string): void => {
  useEffect(() => {
    document.title = title ? `${title} · Antimony` : "Antimony";
  }, [title]);
  // At once, and not after the next frame: somebody may have put the focus elsewhere by then.
  useLayoutEffect(() => {
    const main = document.getElementById("main");
    if (main) main.scrollTop = 0;
    // Screen readers read from here, and Tab goes on from here; not when the page itself was just opened.
    if (!first) main?.focus({ preventScroll: true });
    first = false;
  }, []);
};
