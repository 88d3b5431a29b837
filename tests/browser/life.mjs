// The whole life of a lab, by mouse: from an empty server to a ping between two nodes, and back to nothing.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { act, given, narrow, visitor, wide } from "./lib.mjs";
import {
  GONE, button, card, dialog, fillIn, heading, labView, logIn, logOut, nodeRow, open, openLab, openTerminal, panel, screen, statesOf, terminalTab, type,
} from "./page.mjs";

await act("life", async (browser) => {
  const { page, context, look, reload, tolerating, silent } = await visitor(browser);
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await open(page);
  await page.getByLabel("User name").waitFor();
  await look("login");
  await logIn(page, given.admin);

  // Nothing is there yet.
  await heading(page, "Labs").waitFor();
  await page.getByText("No labs yet").waitFor();
  await look("labs-empty");

  // A collection, the topology of the example, and a lab of it.
  await page.getByRole("link", { name: "Create your first lab" }).click();
  await fillIn(page, { collection: "course", name: "first lab" });
  await look("new");
  await button(page, "Create").click();
  await heading(page, "first lab").waitFor();
  await card(page, "r1", "inactive").waitFor();
  await look("lab-inactive");

  // Up, with its log as it comes.
  const states = await statesOf(page, "r1");
  await button(page, "Deploy").click();
  const log = page.getByRole("log");
  for (const node of ["r1", "r2"]) {
    await log.filter({ hasText: `${node} is up` }).waitFor();
    await card(page, node, "running").waitFor();
  }
  await labView(page, "running").waitFor();
  const seen = await states.jsonValue();
  const order = ["inactive", "starting", "running"];
  assert.deepEqual(seen, order.filter((state) => seen.includes(state)));
  assert.equal(seen.at(-1), "running");
  await look("lab-log");
  await panel(page, "Nodes");
  await card(page, "r2").click();
  await page.getByRole("complementary", { name: "Node r2" }).waitFor();
  await look("lab-node");
  await button(page.getByRole("complementary", { name: "Node r2" }), "Close").click();

  // A ping from one to the other, and a capture of it.
  await panel(page, "Capture");
  await look("lab-capture");
  const atR1 = page.locator('.capture-row[data-node="r1"][data-interface="eth1"]');
  await button(atR1, "Copy the command for eth1 of r1").click();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), await atR1.locator("code").textContent());
  await page.getByLabel("A capture ends").selectOption({ label: "after 100 packets" });
  const begun = page.waitForEvent("download");
  await atR1.getByRole("link", { name: "Capture at eth1 of r1" }).click();
  const capture = await begun;
  await openTerminal(page, "r1");
  await type(page, "ping -c 60 -i 0.05 10.0.0.2");
  await screen(page, /64 bytes from 10\.0\.0\.2.*60 received/).waitFor();
  await look("lab-terminal");
  const file = `${given.kept}/${capture.suggestedFilename()}`;
  await capture.saveAs(file);
  const packets = execFileSync("tshark", ["-r", file, "-Y", "icmp", "-T", "fields", "-e", "icmp.type", "-e", "ip.dst"]);
  assert.match(packets.toString(), /^8\t10\.0\.0\.2\n0\t10\.0\.0\.1\n/m);

  // The terminal is as large in the node as it is here, and stays so.
  await type(page, `before=$(stty size); until [ "$(stty size)" != "$before" ]; do sleep .1; done; echo "now $(stty size)"`);
  await page.setViewportSize({ width: 1100, height: 700 });
  await screen(page, /now \d+ \d+/).waitFor();
  await page.setViewportSize(wide);

  // Another one beside it.
  await openTerminal(page, "r2");
  await terminalTab(page, "r2").waitFor();
  await type(page, "echo here is $(hostname) && ip -br address show eth1");
  await screen(page, /here is r2.*10\.0\.0\.2\/30/).waitFor();
  await terminalTab(page, "r1").click();
  await screen(page, /60 received/).waitFor();

  // Both are there again when the page is.
  await reload();
  await panel(page, "Terminals");
  await terminalTab(page, "r2").click();
  await screen(page, /here is r2.*10\.0\.0\.2\/30/).waitFor();
  await terminalTab(page, "r1").click();
  await screen(page, /60 received/).waitFor();
  await type(page, "echo still $(hostname)");
  await screen(page, /still r1/).waitFor();

  // A node that stops takes its terminal with it, and comes up again.
  await panel(page, "Nodes");
  await button(nodeRow(page, "r2"), "Stop r2").click();
  await card(page, "r2", "exited").waitFor();
  await look("lab-node-stopped");
  await panel(page, "Terminals");
  await page.getByRole("tab", { name: /^r2.*ended/ }).click();
  await look("lab-terminal-ended");
  await panel(page, "Nodes");
  await button(nodeRow(page, "r2"), "Start r2").click();
  await card(page, "r2", "running").waitFor();
  await button(nodeRow(page, "r2"), "Log").click();
  await page.getByRole("log", { name: "Log of r2" }).waitFor();
  await panel(page, "Topology");
  await page.getByLabel("Topology file").filter({ hasText: "10.0.0.1/30" }).waitFor();
  await look("lab-topology");

  // All of it was told.
  await page.getByRole("button", { name: /^Activity/ }).click();
  await dialog(page).getByText(/r2/).first().waitFor();
  await look("activity");
  await button(dialog(page), "Close").click();
  await button(page, "Keys and help").click();
  await look("keys");
  await button(dialog(page), "Close").click();

  // The list knows how it is.
  await page.getByRole("link", { name: "All labs", exact: true }).click();
  await page.locator('.lab-row[data-state="running"]').getByText("2/2 nodes up").waitFor();
  await look("labs");
  await page.setViewportSize(narrow);
  await openLab(page, "first lab");
  await page.setViewportSize(wide);

  // And away.
  await button(page, "Destroy").click();
  await look("destroy");
  await button(dialog(page), "Destroy").click();
  await labView(page, "inactive").waitFor();
  await tolerating(GONE, async () => {
    await button(page, "Delete the lab").click();
    await button(dialog(page), "Delete").click();
    await page.getByText("No labs yet").waitFor();
    await logOut(page);
  });
  silent();
});
