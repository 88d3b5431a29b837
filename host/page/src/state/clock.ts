// The time, for what depends on it by the second or the minute.
import { signal } from "@preact/signals";

export const now = signal(Date.now());

// A page that nobody looks at needs no time.
setInterval(() => {
  if (!document.hidden) now.value = Date.now();
}, 1000);
document.addEventListener("visibilitychange", () => (now.value = Date.now()));
