// What was made in a node is kept, lost, and there again.
import { act, given, visitor } from "./lib.mjs";
import { button, card, dialog, labView, loggedIn, makeLab, openLab, openTerminal, panel, screen, type } from "./page.mjs";

const definition = "name: kept\ntopology:\n  nodes:\n    n1:\n      kind: linux\n";

await act("checkpoints", async (browser) => {
  const { page, look, silent } = await visitor(browser);
  await loggedIn(page, given.admin);
  await makeLab(page, { collection: "course", definition, name: "kept lab" });
  await openLab(page, "kept lab");
  await panel(page, "Checkpoints");
  await page.getByText("No checkpoints yet").waitFor();
  await button(page, "Deploy").click();
  await card(page, "n1", "running").waitFor();
  await openTerminal(page, "n1");
  await type(page, "echo from before > /root/note; echo written");
  await screen(page, /\swritten/).waitFor();

  await panel(page, "Checkpoints");
  await button(page, "Save nodes").click();
  await page.locator(".saved").getByText("n1 saved").waitFor();
  await page.getByLabel("New checkpoint").fill("before the change");
  await button(page, "Make").click();
  const checkpoint = page.locator('.checkpoint[data-checkpoint="before the change"]');
  await checkpoint.waitFor();
  await look("lab-checkpoints");

  await panel(page, "Terminals");
  await type(page, "echo from after > /root/note; echo changed");
  await screen(page, /\schanged/).waitFor();
  await panel(page, "Checkpoints");
  await button(checkpoint, "Restore").click();
  const up = page.getByRole("status", { name: "Messages" }).getByText(/deployed/).first();
  await button(dialog(page), "Restore").click();
  await labView(page, "deploying").or(up).first().waitFor();
  await labView(page, "running").waitFor();
  await panel(page, "Nodes");
  await openTerminal(page, "n1");
  await type(page, "cat /root/note");
  await screen(page, /from before/).waitFor();

  await panel(page, "Checkpoints");
  await button(checkpoint, "Delete before the change").click();
  await button(dialog(page), "Delete").click();
  await page.getByText("No checkpoints yet").waitFor();
  silent();
});
