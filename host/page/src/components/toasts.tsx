// Messages that come and go, in a region that screen readers read out when they have time.
import type { JSX } from "preact";
import { dismiss, keep, release, toasts, type Severity } from "../state/notices";
import { Button } from "./button";
import { Icon, type IconName } from "./icon";

export const severityIcon: Record<Severity, IconName> = {
  success: "check",
  info: "bell",
  warning: "clock",
  error: "warning",
};

export const Toasts = (): JSX.Element => (
  <div class="toasts" role="status" aria-live="polite" aria-label="Messages">
    {toasts.value.map((toast) => (
      <div
        key={toast.id}
        class={`toast severity-${toast.severity}`}
        onPointerEnter={() => keep(toast.id)}
        onPointerLeave={() => release(toast.id)}
      >
        <Icon name={severityIcon[toast.severity]} />
        <p>{toast.text}</p>
        <Button kind="quiet" small icon="close" label="Dismiss" onClick={() => dismiss(toast.id)} />
      </div>
    ))}
  </div>
);
