// Somebody else on the same labs: what they may not do they are told, in the words of the policy.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { act, given, visitor } from "./lib.mjs";
import { button, card, dialog, heading, labView, loggedIn, makeLab, openLab, screen, openTerminal } from "./page.mjs";

const definition = readFileSync(new URL("../../examples/labs/two-routers.clab.yml", import.meta.url), "utf8");

await act("others", async (browser) => {
  const ada = await visitor(browser);
  await loggedIn(ada.page, given.admin);
  await makeLab(ada.page, { collection: "course", definition, name: "shared lab" });
  const student = await visitor(browser);
  await loggedIn(student.page, given.member);

  // Both see it come up, though only one of them has had it deployed.
  await openLab(student.page, "shared lab");
  await openLab(ada.page, "shared lab");
  await button(ada.page, "Deploy").click();
  await Promise.all([ada, student].map(({ page }) => card(page, "r2", "running").waitFor()));
  await student.page.getByRole("status", { name: "Messages" }).getByText(/shared lab/).first().waitFor();

  // Theirs to look at and to work in, and not to take away.
  await openTerminal(student.page, "r1");
  await screen(student.page).waitFor();
  await button(student.page, "Destroy").click();
  await button(dialog(student.page), "Destroy").click();
  const refused = student.page.getByRole("alert").filter({ hasText: /only its creator|Only .*creator/i });
  await refused.waitFor();
  assert.match(await refused.textContent(), /5403/);
  await student.look("refused");
  await labView(student.page, "running").waitFor();
  assert.equal(await student.page.getByRole("link", { name: "Plugins" }).count(), 0, "that is for administrators");

  await button(ada.page, "Destroy").click();
  await button(dialog(ada.page), "Destroy").click();
  await Promise.all([ada, student].map(({ page }) => labView(page, "inactive").waitFor()));
  await heading(student.page, "shared lab").waitFor();
  ada.silent();
  student.silent();
});
