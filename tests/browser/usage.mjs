// What nodes use, as it changes.
import { readFileSync } from "node:fs";
import { act, given, visitor } from "./lib.mjs";
import { button, card, loggedIn, makeLab, openLab, openTerminal, panel, screen, type } from "./page.mjs";

const definition = readFileSync(new URL("../../examples/labs/two-routers.clab.yml", import.meta.url), "utf8");

await act("usage", async (browser) => {
  const { page, look, silent } = await visitor(browser);
  await loggedIn(page, given.admin);
  await makeLab(page, { collection: "course", definition, name: "measured lab" });
  await openLab(page, "measured lab");
  await panel(page, "Usage");
  await page.getByText("Nothing is in use").waitFor();
  await button(page, "Deploy").click();
  await card(page, "r2", "running").waitFor();

  await openTerminal(page, "r1");
  await type(page, "ping -i 0.2 -s 1000 10.0.0.2");
  await screen(page, /icmp_seq=2/).waitFor();
  await panel(page, "Usage");
  const figures = (node) => page.locator(`.usage-node[data-node="${node}"]`);
  for (const node of ["r1", "r2"]) {
    await figures(node).getByText(/ MiB|KiB/).first().waitFor();
    // The other one answers, so that it has both directions, too.
    await figures(node).getByRole("row", { name: /eth1.*[1-9][\d.]* kbit\/s.*[1-9][\d.]* kbit\/s/ }).waitFor();
  }
  // A course, and not only a moment.
  await page.waitForFunction(() => document.querySelector(".usage-node .sparkline-line").getAttribute("d").split("L").length > 12);
  await look("lab-usage");

  await panel(page, "Nodes");
  await button(page.locator('.node-row[data-node="r2"]'), "Stop r2").click();
  await panel(page, "Usage");
  await figures("r2").getByText("does not run").waitFor();
  silent();
});
