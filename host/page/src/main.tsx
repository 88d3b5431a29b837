// Where the page begins.
import "./styles/index.css";
import { render } from "preact";
import { App } from "./app";
import * as live from "./state/live";
import * as session from "./state/session";
import { restoreView } from "./views/login";

restoreView();
const root = document.getElementById("app");
if (root) render(<App />, root);
live.run();
void session.open();
