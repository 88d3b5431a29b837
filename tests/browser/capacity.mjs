// What is free, what is in the way of a lab that doesn't fit, and more time for one that runs.
import { act, given, visitor } from "./lib.mjs";
import { button, card, dialog, fillIn, heading, labView, loggedIn, makeLab, openLab } from "./page.mjs";

const definition = "name: one\ntopology:\n  nodes:\n    n1:\n      kind: linux\n";

await act("capacity", async (browser) => {
  const { page, look, expecting, silent } = await visitor(browser);
  await loggedIn(page, given.admin);
  await makeLab(page, { collection: "course", definition, name: "running lab" });
  await openLab(page, "running lab");
  await button(page, "Deploy").click();
  await card(page, "n1", "running").waitFor();

  // It runs until it is told otherwise, and then for longer.
  await page.getByText("no end", { exact: true }).waitFor();
  await button(page, "Set an end").click();
  await button(dialog(page), "1 h").click();
  await page.getByText(/ends in (59 min|1 h)/).waitFor();
  await button(page, "Extend").click();
  await look("end");
  await button(dialog(page), "4 h").click();
  await page.getByText(/ends in (4 h 59 min|5 h)/).waitFor();

  // There are two places for nodes left on the server, and none for a lab in the collection.
  await page.goto(`${given.url}/#/new`);
  await heading(page, "New lab").waitFor();
  const free = page.getByRole("region", { name: "On this server now" });
  await free.getByText("2 free of 3").waitFor();
  await button(page, "A new one").click();
  await fillIn(page, { collection: null, name: "one too many" });
  await page.getByRole("region", { name: "In course now" }).getByText("0 free of 1").waitFor();
  await look("new-capacity");
  await page.getByLabel("Deploy", { exact: true }).selectOption({ label: "at…" });
  await expecting([/^answer: \d+ POST .*\/labs$/, /^console: .*\/labs/], async () => {
    await button(page, "Create").click();
    await page.getByRole("alert").filter({ hasText: /course/ }).waitFor();
  });
  await look("new-refused");
  await heading(page, "New lab").waitFor();

  await page.goto(`${given.url}/#/`);
  await openLab(page, "running lab");
  await button(page, "Destroy").click();
  await button(dialog(page), "Destroy").click();
  await labView(page, "inactive").waitFor();
  silent();
});
