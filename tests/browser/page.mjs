// What people do on the page, by the names that the page gives to things.
import { given } from "./lib.mjs";

export const open = async (page, path = "/") => page.goto(`${given.url}${path}`);

export const heading = (page, name, level = 1) => page.getByRole("heading", { name, level, exact: true });
export const button = (where, name) => where.getByRole("button", { name, exact: true });
export const dialog = (page) => page.getByRole("dialog");

export const logIn = async (page, { name, password }) => {
  await page.getByLabel("User name").fill(name);
  await page.getByLabel("Password").fill(password);
  await button(page, "Log in").click();
};

export const loggedIn = async (page, who) => {
  await open(page);
  await logIn(page, who);
  await heading(page, "Labs").waitFor();
};

export const logOut = async (page) => {
  await button(page, "Log out").click();
  await page.getByLabel("User name").waitFor();
};

// A lab by REST, with the cookies of whoever is logged in on the page: for what a script isn't about.
export const makeLab = async (page, { collection, definition, name }) => {
  const ask = async (method, path, data) => {
    const token = (await page.context().cookies()).find((cookie) => cookie.name === "accessToken").value;
    const headers = { authorization: `Bearer ${token}` };
    const answer = await page.request.fetch(`${given.url}/api${path}`, { method, data, headers });
    const body = await answer.json();
    if (!answer.ok()) throw new Error(`${method} ${path}: ${body.message}`);
    return body.payload;
  };
  const called = async (path, name) => (await ask("GET", path)).find(name);
  const isCollection = (each) => each.name === collection;
  if (!(await called("/collections", isCollection)))
    await ask("POST", "/collections", { name: collection, publicWrite: true, publicDeploy: true });
  const { id: collectionId } = await called("/collections", isCollection);
  await ask("POST", "/topologies", { collectionId, definition, syncUrl: "" });
  const topology = await called("/topologies", (each) => each.definition === definition);
  return ask("POST", "/labs", { name, topologyId: topology.id, startTime: new Date(Date.now() - 60_000) });
};

// Fills in the form of a new lab, from the example of two routers; in a new collection, or in the one that is there.
export const fillIn = async (page, { collection, name }) => {
  await button(page, "Two routers").click();
  if (collection !== null) await page.getByLabel("Name of the new collection").fill(collection);
  await page.getByLabel("Name", { exact: true }).fill(name);
  await page.getByLabel("Deploy", { exact: true }).selectOption({ label: "when I say so" });
  await page.getByText("2 nodes, 1 link").waitFor();
};

// A lab that is gone is told of, and then asked for: the answer to that is that it is gone.
export const GONE = [/^answer: 404 GET .*\/labs\//, /^console: .*404.*\/labs\//];

export const labView = (page, state) => page.locator(state ? `.lab[data-state="${state}"]` : ".lab");
export const labRow = (page, name) => page.locator(".lab-row", { has: page.getByRole("link", { name, exact: true }) }).first();
export const openLab = async (page, name) => {
  await page.getByRole("link", { name, exact: true }).last().click();
  await heading(page, name).waitFor();
};
export const panel = async (page, name) => {
  const tab = page.getByRole("tablist", { name: "Panels" }).getByRole("tab", { name });
  await tab.click();
};

// A node in the drawing.
export const card = (page, node, state) =>
  page.locator(`.card[data-node="${node}"]${state ? `[data-state="${state}"]` : ""}`);
// A node in the list.
export const nodeRow = (page, node) => page.locator(`.node-row[data-node="${node}"]`);

export const terminalTab = (page, name) => page.getByRole("tablist", { name: "Terminals" }).getByRole("tab", { name, exact: true });
// The terminal that is shown, when there is something like this on its screen.
export const screen = (page, text) => {
  const rows = page.locator(".terminal-slot:not([hidden]) .xterm-rows");
  return text === undefined ? rows : rows.filter({ hasText: text });
};
// Types a line into the terminal that is shown.
export const type = async (page, line) => {
  await page.locator(".terminal-slot:not([hidden]) .xterm-helper-textarea").pressSequentially(line);
  await page.keyboard.press("Enter");
};
// Opens another terminal, behind those that are there.
export const openTerminal = async (page, node) => {
  const slots = page.locator(".terminal-slot");
  const before = await slots.count();
  await panel(page, "Nodes");
  await button(nodeRow(page, node), "Terminal").click();
  // Its prompt.
  await slots.nth(before).and(page.locator(":not([hidden])")).locator(".xterm-rows").filter({ hasText: /[#$]/ }).waitFor();
};

// Presses Tab until the focus is where this says.
export const tabTo = async (page, what, matches) => {
  const passed = [];
  for (let presses = 0; presses < 80; presses++) {
    const focused = await page.evaluate(() => {
      const at = document.activeElement;
      if (!at || at === document.body) return null;
      const labelled = at.getAttribute("aria-label") ?? at.labels?.[0]?.textContent ?? at.textContent ?? "";
      return { tag: at.tagName.toLowerCase(), role: at.getAttribute("role"), name: labelled.trim() };
    });
    if (focused && matches(focused)) return;
    passed.push(focused?.name.slice(0, 40));
    await page.keyboard.press("Tab");
  }
  throw new Error(`Tab never comes to ${what}, but to ${passed.join(" | ")}`);
};
export const tabToNamed = (page, name) => tabTo(page, name, (at) => at.name === name);

// Every state that a node of the drawing goes through from now on.
export const statesOf = async (page, node) =>
  page.evaluateHandle((node) => {
    const at = () => document.querySelector(`.card[data-node="${node}"]`)?.dataset.state;
    const states = [at()];
    new MutationObserver(() => {
      const state = at();
      if (state !== undefined && state !== states.at(-1)) states.push(state);
    }).observe(document.body, { subtree: true, childList: true, attributes: true, attributeFilter: ["data-state"] });
    return states;
  }, node);
