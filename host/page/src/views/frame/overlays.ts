// What can be shown over any view.
import { signal } from "@preact/signals";

export const helpShown = signal(false);
export const activityShown = signal(false);
