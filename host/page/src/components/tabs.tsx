// Tabs as the ARIA practices have them: one stop for the Tab key, arrows go from one to the next.
import type { ComponentChildren, JSX } from "preact";
import { Icon, type IconName } from "./icon";

export interface TabItem {
  id: string;
  title: ComponentChildren;
  icon?: IconName;
  /** Shown behind the title, such as a number. */
  badge?: string | number | null;
}

interface Props {
  label: string;
  /** Ids of elements begin with it. */
  prefix: string;
  items: readonly TabItem[];
  active: string | null;
  onSelect: (id: string) => void;
  /** The Delete key on a tab, for those that can be closed. */
  onClose?: (id: string) => void;
  children?: ComponentChildren;
}

export const tabId = (prefix: string, id: string): string => `${prefix}-tab-${id}`;
export const panelId = (prefix: string): string => `${prefix}-panel`;

export const Tabs = ({ label, prefix, items, active, onSelect, onClose, children }: Props): JSX.Element => {
  const choose = (id: string | undefined): void => {
    if (id === undefined) return;
    onSelect(id);
    document.getElementById(tabId(prefix, id))?.focus();
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    const at = items.findIndex((item) => item.id === active);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: items.length - 1 }[event.key];
    if (event.key === "Delete" && onClose && active !== null) onClose(active);
    else if (to !== undefined) choose(items[(to + items.length) % items.length]?.id);
    else return;
    event.preventDefault();
  };
  return (
    <div class="tabs">
      <div class="tabs-list" role="tablist" aria-label={label} onKeyDown={onKeyDown}>
        {items.map((item) => (
          <button
            key={item.id}
            type="button"
            role="tab"
            id={tabId(prefix, item.id)}
            class="tab"
            aria-selected={item.id === active}
            aria-controls={panelId(prefix)}
            tabIndex={item.id === active ? 0 : -1}
            onClick={() => onSelect(item.id)}
          >
            {item.icon && <Icon name={item.icon} />}
            <span class="tab-title">{item.title}</span>
            {item.badge !== undefined && item.badge !== null && <span class="tab-badge">{item.badge}</span>}
          </button>
        ))}
      </div>
      {children && <div class="tabs-more">{children}</div>}
    </div>
  );
};
