// What administrators see of plugins, and how they go back from others.
import { renameSync, writeFileSync } from "node:fs";
import { act, given, visitor } from "./lib.mjs";
import { button, dialog, heading, loggedIn } from "./page.mjs";

const MONITORED = `plugins:
  auth-policy:
    - path: builtin:auth-policy
    - path: builtin:auth-policy
      name: stricter-policy
      mode: monitor
`;

await act("plugins", async (browser) => {
  const { page, look, silent } = await visitor(browser);
  await loggedIn(page, given.admin);
  await page.getByRole("link", { name: "Plugins", exact: true }).click();
  await heading(page, "Plugins").waitFor();
  for (const name of ["command-validator", "auth-policy", "status-formatter"]) await page.getByText(name).first().waitFor();
  await look("plugins");

  // Others, as an operator would have them, and back.
  writeFileSync(`${given.config}.new`, MONITORED);
  renameSync(`${given.config}.new`, given.config);
  await page.getByText(/stricter-policy/).first().waitFor();
  await button(page, "Roll back").click();
  await button(dialog(page), "Roll back").click();
  await page.getByText(/rolled back/i).first().waitFor();
  await page.getByText(/stricter-policy/).first().waitFor({ state: "detached" });
  await look("plugins-rolled-back");
  silent();
});
