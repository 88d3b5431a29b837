// What is pressed. A button that waits for something says so at once and can't be pressed again meanwhile.
import type { ComponentChildren, JSX } from "preact";
import { Icon, type IconName } from "./icon";

interface Props {
  children?: ComponentChildren;
  icon?: IconName;
  /** For buttons without a text of their own. */
  label?: string;
  kind?: "primary" | "plain" | "quiet" | "danger";
  small?: boolean;
  busy?: boolean;
  disabled?: boolean;
  pressed?: boolean;
  expanded?: boolean;
  type?: "button" | "submit";
  title?: string;
  onClick?: (event: MouseEvent) => void;
}

export const Button = (props: Props): JSX.Element => {
  const { children, icon, label, kind = "plain", small, busy, disabled, pressed, expanded, type = "button" } = props;
  const classes = ["button", `button-${kind}`, small && "button-small", children === undefined && "button-icon"];
  return (
    <button
      type={type}
      class={classes.filter(Boolean).join(" ")}
      aria-label={label}
      title={props.title ?? label}
      aria-busy={busy || undefined}
      // Kept focusable: whoever pressed it with the keyboard would lose their place.
      aria-disabled={busy || disabled || undefined}
      aria-pressed={pressed}
      aria-expanded={expanded}
      onClick={(event) => {
        if (busy || disabled) event.preventDefault();
        else props.onClick?.(event);
      }}
    >
      {busy ? <span class="spinner" aria-hidden="true" /> : icon && <Icon name={icon} />}
      {children !== undefined && <span>{children}</span>}
    </button>
  );
};
