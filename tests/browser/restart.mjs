// Deploys that don't end by themselves, and a server that is started anew underneath the page.
import { act, ask, given, visitor } from "./lib.mjs";
import { button, card, dialog, heading, labView, loggedIn, makeLab, open, openLab, openTerminal, screen, terminalTab } from "./page.mjs";

const ENDLESS = `name: endless
topology:
  nodes:
    n1:
      kind: linux
      exec:
        - sh -c 'echo deploy has begun; sleep 600'
`;
const ONE = "name: one\ntopology:\n  nodes:\n    n1:\n      kind: linux\n";

await act("restart", async (browser) => {
  const { page, look, tolerating, silent } = await visitor(browser);
  await loggedIn(page, given.admin);
  await makeLab(page, { collection: "course", definition: ENDLESS, name: "endless lab" });
  await makeLab(page, { collection: "course", definition: ONE, name: "small lab" });

  // A deploy that somebody thinks better of.
  await openLab(page, "endless lab");
  await button(page, "Deploy").click();
  await page.getByRole("log").filter({ hasText: "deploy has begun" }).waitFor();
  await card(page, "n1", "starting").waitFor();
  await look("lab-deploying");
  await button(page, "Cancel deploy").click();
  await button(dialog(page), "Cancel the deploy").click();
  await labView(page, "inactive").waitFor();

  // The server goes and comes back; what ran on this runtime went with it, which the page finds out by itself.
  await page.getByRole("link", { name: "All labs", exact: true }).click();
  await openLab(page, "small lab");
  await button(page, "Deploy").click();
  await card(page, "n1", "running").waitFor();
  await openTerminal(page, "n1");
  await screen(page).waitFor();
  const lost = page.getByRole("banner").getByText("Connection lost").waitFor();
  // Whatever was asked for meanwhile can't be had.
  await tolerating([/^console: .*(ERR_CONNECTION_REFUSED|WebSocket connection)/, /^request: /], async () => {
    await ask("stop");
    await lost;
    await ask("start");
    await labView(page, "failed").waitFor();
    await page.getByRole("banner").getByText("Connection lost").waitFor({ state: "detached" });
  });
  await look("lab-failed");
  await heading(page, "small lab").waitFor();
  await button(page, "Deploy again").click();
  await card(page, "n1", "running").waitFor();
  await openTerminal(page, "n1");
  await terminalTab(page, "n1 (2)").waitFor();
  await button(page, "Destroy").click();
  await button(dialog(page), "Destroy").click();
  await labView(page, "inactive").waitFor();
  silent();
});
