// Which view is shown, and what stands around all of them.
import type { JSX } from "preact";
import { Confirm } from "./components/confirm";
import { Loading } from "./components/empty";
import { Toasts } from "./components/toasts";
import { route } from "./state/route";
import { phase } from "./state/session";
import { CreateView } from "./views/create/create";
import { Header } from "./views/frame/header";
import { Help } from "./views/frame/help";
import { useShortcuts } from "./views/frame/shortcuts";
import { Activity } from "./views/frame/activity";
import { LabView } from "./views/lab/lab";
import { LabsView } from "./views/labs/labs";
import { LoginView } from "./views/login";
import { MissingView } from "./views/missing";
import { PluginsView } from "./views/plugins/plugins";

const View = (): JSX.Element => {
  const at = route.value;
  switch (at.view) {
    case "labs":
      return <LabsView />;
    case "new":
      return <CreateView example={at.example} />;
    case "lab":
      // Another lab is another view, with nothing left of the one before.
      return <LabView key={at.id} id={at.id} panel={at.panel} />;
    case "plugins":
      return <PluginsView />;
    case "missing":
      return <MissingView />;
  }
};

export const App = (): JSX.Element => {
  useShortcuts();
  if (phase.value === "opening") return <Loading what="Opening…" />;
  if (phase.value === "out") return <LoginView />;
  return (
    <div class="frame">
      <a
        class="skip"
        href="#main"
        onClick={(event) => {
          // A fragment of its own would be taken for a route.
          event.preventDefault();
          document.getElementById("main")?.focus();
        }}
      >
        Skip to content
      </a>
      <Header />
      <main id="main" tabIndex={-1}>
        <View />
      </main>
      <Activity />
      <Help />
      <Confirm />
      <Toasts />
    </div>
  );
};
