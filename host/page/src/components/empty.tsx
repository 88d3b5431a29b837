// What stands where there is nothing yet, and says what to do.
import type { ComponentChildren, JSX } from "preact";

export const Empty = ({ title, children }: { title: string; children?: ComponentChildren }): JSX.Element => (
  <div class="empty">
    <h2>{title}</h2>
    {children}
  </div>
);

export const Loading = ({ what }: { what: string }): JSX.Element => (
  <div class="empty" role="status">
    <span class="spinner spinner-large" aria-hidden="true" />
    <p>{what}</p>
  </div>
);
