// Being logged in: by the wrong password not, with a token that has expired still, and after that of another login not.
import assert from "node:assert/strict";
import { act, given, tokenUntil, visitor } from "./lib.mjs";
import { button, heading, logIn, logOut, open } from "./page.mjs";

const now = () => Math.floor(Date.now() / 1000);

await act("sessions", async (browser) => {
  const { page, context, look, reload, expecting, silent } = await visitor(browser);
  const token = async () => (await context.cookies()).find((cookie) => cookie.name === "accessToken")?.value ?? "";
  const take = (value) => context.addCookies([{ name: "accessToken", value, url: given.url, sameSite: "Lax" }]);

  await open(page);
  // The browser says in its console that an answer was 400.
  await expecting([/^answer: 400 POST .*login\/native/, /^console: .*400/], async () => {
    await logIn(page, { ...given.admin, password: "wrong" });
    await page.getByRole("alert").waitFor();
  });
  assert.match(await page.getByRole("alert").textContent(), /1001/);
  await look("login-refused");
  await logIn(page, given.admin);
  await heading(page, "Labs").waitFor();

  // The page is opened with a token that has expired: nobody is asked anything.
  await take(tokenUntil(await token(), now() - 5));
  await reload();
  await heading(page, "Labs").waitFor();
  assert.ok(JSON.parse(atob((await token()).split(".")[1])).exp > now() + 1000, "it has another one");

  // It expires while the page is open, by a clock that thinks it is an hour earlier: the server says so first.
  await page.clock.install({ time: Date.now() - 3600_000 });
  await take(tokenUntil(await token(), now() + 8));
  const refreshed = page.waitForResponse((answer) => answer.url().endsWith("/users/login/refresh") && answer.ok());
  const socketEnded = page.waitForEvent("websocket").then((socket) => socket.waitForEvent("close"));
  await reload();
  await heading(page, "Labs").waitFor();
  await socketEnded;
  await refreshed;
  // What it shows is live again.
  await page.waitForEvent("websocket");
  await page.getByText("Connection lost").waitFor({ state: "detached" });
  await heading(page, "Labs").waitFor();

  // Another tab has logged out: this one says so as soon as it asks for anything.
  await logOut(page);
  assert.equal(await token(), "");
  await reload();
  await page.getByLabel("User name").waitFor();
  assert.equal(await button(page, "Log out").count(), 0);
  silent();
});
