// What the scripts share: a browser with people in it, what it complains of, looking at a view, and typing into terminals.
// Every wait is for something that comes, and fails after a while if it doesn't.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

// Where the server is, who may log in, and where things are kept: `tests/e2e/browser.rs` has the list.
export const given = JSON.parse(process.argv[2]);

const LIMIT = 60_000;
const SCREENSHOTS = `${given.kept}/screenshots`;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export const wide = { width: 1440, height: 900 };
export const narrow = { width: 375, height: 800 };

// Has the test do what only it can, such as to start the server anew.
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
export const ask = async (what) => {
  console.log(JSON.stringify({ ask: what }));
  assert.equal((await answers.next()).value, "done");
};

// The browser with what is done in it. What it shows when that fails is kept.
export const act = async (name, play) => {
  mkdirSync(SCREENSHOTS, { recursive: true });
  // As root, as in CI, it has no sandbox of its own.
  const browser = await chromium.launch({
    executablePath: given.chromium,
    args: process.getuid() === 0 ? ["--no-sandbox"] : [],
  });
  try {
    await play(browser);
  } catch (error) {
    const pages = browser.contexts().flatMap((context) => context.pages());
    for (const [index, page] of pages.entries()) {
      await page.screenshot({ path: `${given.kept}/failed-${name}-${index}.png` }).catch(() => {});
      console.error(`${name}: page ${index} is at ${page.url()}`);
    }
    console.error(error.stack);
    process.exitCode = 1;
  } finally {
    await browser.close();
    process.stdin.destroy();
  }
};

// Somebody with a browser window of their own, and with everything that the browser complained of in it.
export const visitor = async (browser, options = {}) => {
  const context = await browser.newContext({
    viewport: wide,
    colorScheme: "dark",
    reducedMotion: "reduce",
    acceptDownloads: true,
    ...options,
  });
  context.setDefaultTimeout(Number(process.env.PATIENCE ?? LIMIT));
  const watch = await watched(context);
  const page = await context.newPage();
  const look = async (name) => (await seen(page, name)).forEach(([text, where]) => watch.complain(text, where));
  // What is being fetched at that moment isn't any more.
  const reload = () => watch.tolerating([/^request: .*ERR_ABORTED/], () => page.reload());
  return { context, page, look, reload, ...watch };
};

const watched = async (context) => {
  // Each once, with the places where it was so.
  const complaints = new Map();
  let expected = [];
  const complain = (text, where = "") => {
    const matching = expected.find(({ pattern }) => pattern.test(text));
    if (matching) matching.seen += 1;
    else complaints.set(text, [...(complaints.get(text) ?? []), where]);
  };
  context.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning")
      complain(`console: ${message.text()} (${message.location().url})`);
  });
  context.on("weberror", (error) => complain(`uncaught: ${error.error()?.stack ?? error.error()}`));
  context.on("requestfailed", (request) =>
    complain(`request: ${request.method()} ${request.url()}: ${request.failure()?.errorText}`),
  );
  context.on("request", (request) => {
    const url = new URL(request.url());
    if (url.protocol !== "data:" && url.protocol !== "blob:" && url.origin !== given.url)
      complain(`elsewhere: ${request.url()}`);
  });
  context.on("response", (response) => {
    if (response.status() >= 400) complain(`answer: ${response.status()} ${response.request().method()} ${response.url()}`);
  });
  await context.exposeBinding("antimonyPolicyViolated", (_, text) => complain(`policy: ${text}`));
  await context.addInitScript(() =>
    addEventListener("securitypolicyviolation", (event) =>
      window.antimonyPolicyViolated(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`),
    ),
  );
  // While `step` goes on, complaints like these are as they should be, and each has to come.
  const expecting = async (patterns, step) => {
    const these = patterns.map((pattern) => ({ pattern, seen: 0 }));
    expected = [...expected, ...these];
    const result = await step();
    expected = expected.filter((each) => !these.includes(each));
    for (const { pattern, seen } of these) assert.ok(seen > 0, `nothing came like ${pattern}`);
    return result;
  };
  // The same where it depends on the moment whether there are any.
  const tolerating = async (patterns, step) => {
    const these = patterns.map((pattern) => ({ pattern, seen: 0 }));
    expected = [...expected, ...these];
    const result = await step();
    expected = expected.filter((each) => !these.includes(each));
    return result;
  };
  // At the end: there was nothing to complain of.
  const silent = () => {
    const all = [...complaints].map(([text, places]) => [text, ...new Set(places)].join("\n    "));
    if (all.length > 0) throw new Error(`complaints:\n\n${all.join("\n\n")}`);
  };
  return { complain, expecting, tolerating, silent };
};

// Everything that axe finds wrong with what is on the screen, in words.
const violations = async (page) => {
  // Not a script of the page, so that its policy has no say.
  await page.evaluate(`window.axe || (() => { ${axe} })()`);
  const { violations } = await page.evaluate(() =>
    window.axe.run(document, {
      runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
      resultTypes: ["violations"],
    }),
  );
  return violations.flatMap(({ id, help, nodes }) =>
    nodes.map((node) => `${id}: ${help}: ${node.target.join(" ")}: ${node.failureSummary}`),
  );
};

// Looks at a view in every size and colour, and keeps how it looks. Answers what is wrong: axe finds something, or all of the
// page has to be scrolled sideways.
const seen = async (page, name) => {
  const found = [];
  for (const [sizeName, size] of Object.entries({ wide, narrow })) {
    for (const colorScheme of ["dark", "light"]) {
      await page.setViewportSize(size);
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      await page.evaluate(async () => {
        await document.fonts.ready;
        await Promise.allSettled(
          document.getAnimations().filter((each) => each.effect.getComputedTiming().iterations !== Infinity).map((each) => each.finished),
        );
        await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
      });
      const where = `${name}, ${sizeName}, ${colorScheme}`;
      await page.screenshot({ path: `${SCREENSHOTS}/${name}-${sizeName}-${colorScheme}.png`, animations: "disabled" });
      found.push(...(await violations(page)).map((each) => [each, where]));
      const beyond = await page.evaluate(() => {
        const boxes = [document.documentElement, ...document.querySelectorAll("body, main, main > *, .lab-body, .side")];
        return Math.max(...boxes.map((box) => box.scrollWidth - box.clientWidth));
      });
      if (beyond > 0) found.push(["it is wider than the window", `${where}: ${beyond} pixels`]);
    }
  }
  await page.setViewportSize(wide);
  await page.emulateMedia({ colorScheme: "dark", reducedMotion: "reduce" });
  return found;
};

// A token that says the same until another time, in seconds since 1970, signed with the server's own key.
export const tokenUntil = (token, exp) => {
  const [head, claims] = token.split(".");
  const body = { ...JSON.parse(Buffer.from(claims, "base64url")), exp };
  const signed = `${head}.${Buffer.from(JSON.stringify(body)).toString("base64url")}`;
  const signature = createHmac("sha256", readFileSync(given.signingKey)).update(signed).digest("base64url");
  return `${signed}.${signature}`;
};
