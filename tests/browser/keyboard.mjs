// A lab from nothing to a ping and back, without a mouse.
import { act, given, visitor } from "./lib.mjs";
import { GONE, card, dialog, heading, labView, open, screen, tabTo, tabToNamed } from "./page.mjs";

await act("keyboard", async (browser) => {
  const { page, tolerating, silent } = await visitor(browser);
  const { keyboard } = page;
  await open(page);
  await page.getByLabel("User name").waitFor();
  await tabToNamed(page, "User name");
  await keyboard.type(given.admin.name);
  await keyboard.press("Tab");
  await keyboard.type(given.admin.password);
  await keyboard.press("Enter");
  await heading(page, "Labs").waitFor();
  await page.getByText("No labs yet").waitFor();

  await keyboard.press("n");
  await tabToNamed(page, "Two routers");
  await keyboard.press("Enter");
  await tabToNamed(page, "Name");
  await keyboard.press("Control+A");
  await keyboard.type("by keyboard");
  await keyboard.press("Tab");
  await keyboard.press("ArrowDown");
  await tabToNamed(page, "Create");
  await keyboard.press("Enter");
  await heading(page, "by keyboard").waitFor();

  await tabToNamed(page, "Deploy");
  await keyboard.press("Enter");
  await card(page, "r2", "running").waitFor();
  await labView(page, "running").waitFor();

  // From node to node in the drawing, and a terminal in the one that is reached.
  await tabTo(page, "the drawing", (at) => at.name.startsWith("r1 "));
  await keyboard.press("ArrowRight");
  await keyboard.press("ArrowDown");
  await tabTo(page, "the other node", (at) => at.name.startsWith("r2 "));
  await keyboard.press("t");
  await screen(page, /[#$] ?/).waitFor();
  await keyboard.type("ping -c 2 10.0.0.1");
  await keyboard.press("Enter");
  await screen(page, /2 received/).waitFor();
  // Tab and Esc are the terminal's own; this is the way out.
  await keyboard.press("Control+Shift+ArrowUp");
  await tabTo(page, "its tab", (at) => at.role === "tab" && at.name === "r2");
  await keyboard.press("Delete");
  await page.getByText("No terminal open").waitFor();

  await tabToNamed(page, "Destroy");
  await keyboard.press("Enter");
  await dialog(page).waitFor();
  await tabToNamed(page, "Destroy");
  await keyboard.press("Enter");
  await labView(page, "inactive").waitFor();
  await tolerating(GONE, async () => {
    await tabToNamed(page, "Delete the lab");
    await keyboard.press("Enter");
    await dialog(page).waitFor();
    await tabToNamed(page, "Delete");
    await keyboard.press("Enter");
    await page.getByText("No labs yet").waitFor();
    await tabToNamed(page, "Log out");
    await keyboard.press("Enter");
    await page.getByLabel("User name").waitFor();
  });
  silent();
});
