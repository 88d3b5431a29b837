// The bar above every view: where one is, who one is, and whether the server is there.
import type { JSX } from "preact";
import { asProblem } from "../../api/problem";
import { Button } from "../../components/button";
import { Icon, Mark, type IconName } from "../../components/icon";
import { sayProblem, unread } from "../../state/notices";
import { theme, type Theme } from "../../state/preferences";
import { links, route } from "../../state/route";
import { logOut, user } from "../../state/session";
import { link } from "../../socket/connection";
import { activityShown, helpShown } from "./overlays";

const themes: Record<Theme, { next: Theme; icon: IconName; label: string }> = {
  system: { next: "light", icon: "screen", label: "Theme: as the system has it" },
  light: { next: "dark", icon: "sun", label: "Theme: light" },
  dark: { next: "system", icon: "moon", label: "Theme: dark" },
};

const Connection = (): JSX.Element => (
  <span class="connection" role="status">
    {link.value === "lost" && (
      <>
        <Icon name="offline" />
        <span>Connection lost, trying again…</span>
      </>
    )}
  </span>
);

const leave = (): void => {
  logOut().catch((error: unknown) => sayProblem("You are still logged in", asProblem(error)));
};

export const Header = (): JSX.Element => {
  const { icon, label, next } = themes[theme.value];
  const at = route.value.view;
  const here = (is: boolean): "page" | undefined => (is ? "page" : undefined);
  return (
    <header class="header">
      <a class="brand" href={links.labs} aria-label="Antimony: all labs">
        <Mark />
        <span>Antimony</span>
      </a>
      <nav class="nav" aria-label="Main">
        <a href={links.labs} aria-current={here(at !== "plugins")}>
          Labs
        </a>
        {user.value?.isAdmin && (
          <a href={links.plugins} aria-current={here(at === "plugins")}>
            Plugins
          </a>
        )}
      </nav>
      <Connection />
      <div class="header-tools">
        <span class="bell">
          <Button
            kind="quiet"
            icon="bell"
            label={unread.value ? `Activity, ${unread.value} new` : "Activity"}
            onClick={() => (activityShown.value = true)}
          />
          {unread.value > 0 && (
            <span class="bell-count" aria-hidden="true">
              {unread.value > 99 ? "99+" : unread.value}
            </span>
          )}
        </span>
        <Button kind="quiet" icon={icon} label={label} onClick={() => (theme.value = next)} />
        <Button kind="quiet" icon="help" label="Keys and help" onClick={() => (helpShown.value = true)} />
        <span class="who" title={user.value?.isAdmin ? "Administrator" : "User"}>
          {user.value?.name}
        </span>
        <Button kind="quiet" icon="leave" label="Log out" onClick={leave} />
      </div>
    </header>
  );
};
