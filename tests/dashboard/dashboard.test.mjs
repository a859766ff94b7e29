// A person's way through the dashboard, from signing in to deleting what was made; and what others try.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { zipSync } from "../../dashboard/node_modules/fflate/esm/index.mjs";
import { accessible, api, CODE, ends, EVIL, hands, key, launch, looks, raw, startAgain, unhurt, url } from "./browser.mjs";

const NAME = "shown-in-browser";
/** A function that is an image. */
const IMAGE = "of-an-image";
/** Milliseconds to the first contentful paint, by the browser's own clock. */
const PAINT_MAX = 1000;
/** A function whose events end as dead letters. */
const FAILS = "fails-for-good";
const RAISES = "def handler(event, context): raise ValueError(event['why'])\n";

let browser, context, page, complaints, expected, requested;
let open, button, tab, card, codeEditor, eventEditor, write, run, drop;

before(async () => {
  ({ browser, context, page, complaints, expected, requested } = await launch());
  ({ open, button, tab, card, codeEditor, eventEditor, write, run, drop } = hands(page));
});
after(async () => {
  await browser?.close();
  for (const name of [NAME, FAILS, IMAGE, "from-a-zip", "dropped"]) await api("DELETE", `/functions/${name}`);
});

/** An event that is a dead letter when this returns; its id. */
const dies = async (why) => {
  const { status, body } = await api("POST", `/functions/${FAILS}/execute`, { why }, { "x-amz-invocation-type": "Event" });
  assert.equal(status, 202, body);
  const id = JSON.parse(body).request_id;
  await ends(id, "failed");
  return id;
};

test("the pages are small, compressed, kept, and allow nothing", async () => {
  const index = await raw("/dashboard/", { headers: { "accept-encoding": "gzip" } });
  assert.equal(index.status, 200);
  assert.equal(index.headers["content-encoding"], "gzip");
  assert.equal(index.headers["x-content-type-options"], "nosniff");
  const policy = index.headers["content-security-policy"];
  assert.match(policy, /default-src 'none'/);
  assert.match(policy, /script-src 'self';/);
  assert.match(policy, /style-src 'self';/);
  assert.match(policy, /frame-ancestors 'none'/);
  const text = (await raw("/dashboard/")).body.toString();
  assert.doesNotMatch(text, /<script(?![^>]*src=)/);
  const script = /src="([^"]+)"/.exec(text)[1];
  for (const encoding of ["br", "gzip", "identity"]) {
    const first = await raw(script, { headers: { "accept-encoding": encoding } });
    assert.equal(first.status, 200);
    assert.match(first.headers["cache-control"], /immutable/);
    const again = await raw(script, { headers: { "accept-encoding": encoding, "if-none-match": first.headers.etag } });
    assert.equal(again.status, 304);
    assert.equal(again.body.length, 0);
  }
  // Everything there is, the editor and what no page may need included, as the least able browser would get it.
  const list = await readFile(new URL("../../dashboard/dist/assets.txt", import.meta.url), "utf8");
  let all = index.body.length;
  for (const path of list.trim().split("\n").map((line) => line.split("\t")[0]).filter((path) => path !== "index.html")) {
    const { status, headers, body } = await raw(`/dashboard/${path}`, { headers: { "accept-encoding": "gzip" } });
    assert.deepEqual([status, headers["content-encoding"]], [200, "gzip"], path);
    all += body.length;
  }
  console.log(`to transfer, with gzip: ${Math.ceil(all / 1024)} KiB`);
  assert.ok(all > 50_000 && all <= 300 * 1024, `${all} bytes`);
  assert.equal((await raw("/dashboard/assets/none.js")).status, 404);
  assert.equal((await raw("/dashboard/", { method: "POST", headers: { "content-length": 0 } })).status, 405);
});

test("a key opens a session, a wrong one does not", async () => {
  expected.push("/dashboard/session");
  await open("/dashboard/");
  const field = page.getByLabel("Key", { exact: true });
  await field.fill("hearth_wrong");
  await page.keyboard.press("Enter");
  await page.getByText("This key does not open anything here.").waitFor();
  await accessible(page, "signing in");
  for (const [scheme, width] of [["light", 360], ["dark", 1440]]) {
    await page.emulateMedia({ colorScheme: scheme });
    await page.setViewportSize({ width, height: 800 });
    await looks(page, `signin-${scheme}-${width}`);
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 1440, height: 900 });
  await field.fill(key);
  await button("Sign in").click();
  await page.getByRole("heading", { name: "Functions" }).waitFor();
  const cookies = await context.cookies();
  assert.equal(cookies.length, 1);
  assert.ok(cookies[0].httpOnly);
  assert.equal(cookies[0].sameSite, "Strict");
  assert.ok(!cookies[0].value.includes(key.slice(-10)));
  assert.equal(await page.evaluate(() => document.cookie), "");
  assert.equal(await page.evaluate(() => JSON.stringify(localStorage)).then((text) => text.includes(key)), false);
  expected.length = 0;
});

test("the first paint is there within a second", async () => {
  const paints = [];
  // The best of a few: others use this machine too.
  for (let load = 0; load < 8 && !(paints.at(-1) < PAINT_MAX); load++) {
    await open("/dashboard/");
    await page.getByRole("heading", { name: "Functions" }).waitFor();
    paints.push(
      await page.evaluate(
        () =>
          new Promise((done) => {
            const tell = (list) => list.getEntriesByName("first-contentful-paint").forEach(({ startTime }) => done(startTime));
            new PerformanceObserver(tell).observe({ type: "paint", buffered: true });
          }),
      ),
    );
  }
  console.log(`first contentful paint ${paints.map(Math.round).join(", ")} ms`);
  assert.ok(Math.min(...paints) < PAINT_MAX, paints.join(", "));
});

test("another page begins at its heading", async () => {
  await open("/dashboard/");
  for (const name of ["Layers", "Events", "Pool", "System", "Functions"]) {
    await page.getByRole("link", { name, exact: true }).click();
    await page.locator("main h1:focus").getByText(name, { exact: true }).waitFor();
  }
});

test("a session is the dashboard's alone", async () => {
  const [{ name, value }] = await context.cookies();
  const cookie = `${name}=${value}`;
  const host = new URL(url).host;
  const mark = { "x-hearth-dashboard": "1" };
  const functions = async (headers) => (await raw("/functions/", { headers })).status;
  assert.equal(await functions({ cookie, ...mark, "sec-fetch-site": "same-origin" }), 200);
  // Without the mark, from elsewhere, or under a name that is led here: nothing.
  assert.equal(await functions({ cookie }), 401);
  assert.equal(await functions({ cookie, "sec-fetch-site": "same-origin" }), 401);
  assert.equal(await functions({ cookie, ...mark, "sec-fetch-site": "cross-site" }), 401);
  assert.equal(await functions({ cookie, ...mark, "sec-fetch-site": "same-site" }), 401);
  assert.equal(await functions({ cookie, ...mark, origin: "http://evil.example" }), 401);
  const port = host.split(":")[1];
  assert.equal(await functions({ cookie, ...mark, host: `evil.example:${port}` }), 401);
  assert.equal((await raw("/dashboard/", { headers: { host: `evil.example:${port}` } })).status, 421);
  const create = { method: "POST", body: "{}", headers: { cookie, "content-type": "application/json" } };
  assert.equal((await raw("/functions/", create)).status, 401);
  for (const headers of [{}, { origin: "http://evil.example" }, { ...mark, origin: "http://evil.example" }, { ...mark, "sec-fetch-site": "cross-site" }]) {
    const sent = { method: "POST", body: JSON.stringify({ key }), headers };
    assert.equal((await raw("/dashboard/session", sent)).status, 403, JSON.stringify(headers));
  }
  const elsewhere = { method: "POST", body: JSON.stringify({ key }), headers: { ...mark, host: `evil.example:${port}` } };
  assert.equal((await raw("/dashboard/session", elsewhere)).status, 421);
  // A leave for other origins is never given.
  const asked = await raw("/functions/", { method: "OPTIONS", headers: { origin: "http://evil.example", "access-control-request-headers": "x-hearth-dashboard" } });
  assert.equal(asked.headers["access-control-allow-origin"], undefined);
  // A browser that asked for a password too would be in the dashboard's way.
  assert.equal((await raw("/functions/", { headers: mark })).headers["www-authenticate"], "Bearer");
});

test("a function is made from a template and answers", async () => {
  await open("/dashboard/");
  await page.getByRole("link", { name: /New function|Make the first one/ }).first().click();
  await page.getByRole("radio", { name: /python/i }).check();
  await page.getByLabel("Name", { exact: true }).fill(NAME);
  await button("Create function").click();
  await page.getByRole("heading", { name: NAME }).waitFor();
  await codeEditor().getByText("def handler").waitFor();
  const answer = await run({ name: "Grace" });
  await answer.getByText("Hello, Grace").waitFor();
  await page.locator(".answer").getByText("Ran the handler").waitFor();
  // The editor came with it, and everything so far was this much.
  const transferred = await page.evaluate(() =>
    [...performance.getEntriesByType("resource"), ...performance.getEntriesByType("navigation")]
      .filter((entry) => new URL(entry.name).pathname.startsWith("/dashboard/") && !entry.name.endsWith("/events"))
      .reduce((sum, entry) => sum + entry.encodedBodySize, 0),
  );
  assert.ok(transferred > 50_000 && transferred <= 300 * 1024, `${transferred} bytes`);
});

test("code is edited, compared and deployed", async () => {
  await write(codeEditor(), CODE);
  await card("Code").getByText("Not deployed").waitFor();
  await page.getByLabel("Show changes").check();
  await card("Code").locator(".cm-deletedChunk").first().waitFor();
  // Leaving asks first.
  await page.getByRole("link", { name: "Pool" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText("has changes that are not deployed").waitFor();
  await accessible(page, "a question");
  await dialog.getByRole("button", { name: "Cancel" }).click();
  assert.match(page.url(), /functions/);
  await codeEditor().click();
  await page.keyboard.press("Control+s");
  await page.getByText("deployed as revision 2").waitFor();
  await card("Code").getByText("Deployed", { exact: true }).waitFor();
  await (await run({ text: "new" })).getByText("from the browser").waitFor();
  // What another deploys meanwhile is not overwritten by accident.
  await api("PUT", `/functions/${NAME}`, { description: "changed elsewhere" });
  await page.getByText("Somebody deployed revision 3 meanwhile").waitFor();
  expected.push(`/functions/`);
  await write(codeEditor(), `${CODE}# more\n`);
  await button("Deploy").click();
  await dialog.getByText("Somebody else deployed meanwhile").waitFor();
  await dialog.getByRole("button", { name: "Deploy all the same" }).click();
  await page.getByText("deployed as revision 4").waitFor();
  expected.length = 0;
});

test("what functions say is never more than text", async () => {
  const answer = await run({ text: EVIL });
  await answer.getByText("onerror").waitFor();
  await page.getByLabel("What the call printed").getByText("<script>").waitFor();
  expected.push("/execute");
  await (await run({ fail: EVIL })).getByText("ValueError: <img src=x").waitFor();
  await card("Test").getByText("502 function_error").waitFor();
  expected.length = 0;
  const described = await api("PUT", `/functions/${NAME}`, { description: EVIL, tags: { team: "shop" } });
  assert.equal(described.status, 200, described.body);
  await open(`/dashboard/functions/${NAME}/settings`);
  await page.getByText(EVIL).first().waitFor();
  expected.push("/functions/%3C");
  await open(`/dashboard/functions/${encodeURIComponent(EVIL)}`);
  await page.getByText("There is no function").waitFor();
  expected.length = 0;
  await open(`/dashboard/functions/${NAME}/log`);
  await page.getByRole("log").getByText("<script>").first().waitFor();
  await open(`/dashboard/functions/${NAME}/calls`);
  await button(/function_error/).first().click();
  await page.locator(".opened").getByText("seen: nothing").waitFor();
  await unhurt(page);
});

test("events are checked and saved", async () => {
  await open(`/dashboard/functions/${NAME}`);
  await write(eventEditor(), "{ not json");
  await card("Test").getByRole("alert").waitFor();
  assert.ok(await button("Run").isDisabled());
  await write(eventEditor(), '{"text": "saved one"}');
  await page.getByLabel("Name of the event").fill("One of mine");
  await button("Save").click();
  await page.reload();
  await button("One of mine").waitFor();
  await write(eventEditor(), '{"text": "another"}');
  await button("One of mine").click();
  await eventEditor().getByText("saved one").waitFor();
  await (await run()).getByText("saved one").waitFor();
  await button("Forget One of mine").click();
  await page.getByRole("dialog").getByRole("button", { name: "Forget event" }).click();
  await button("One of mine").waitFor({ state: "detached" });
});

test("the log follows, stops and is searched", async () => {
  await open(`/dashboard/functions/${NAME}/log`);
  const log = page.getByRole("log");
  await page.getByText("Following").waitFor();
  const call = (text) => api("POST", `/functions/${NAME}/execute`, { text });
  await call("one live line");
  await log.getByText("seen: one live line").waitFor();
  await button("Pause").click();
  await call("while it stands");
  await call("the last of them");
  await page.getByText("Paused").waitFor();
  assert.equal(await log.getByText("while it stands").count(), 0);
  await button("Follow").click();
  await log.getByText("while it stands").waitFor();
  await log.getByText("the last of them").waitFor();
  await page.getByLabel("Search the log").fill("ONE LIVE");
  await log.getByText("the last of them").waitFor({ state: "detached" });
  await log.getByText("seen: one live line").waitFor();
});

test("settings are checked and saved", async () => {
  await open(`/dashboard/functions/${NAME}/settings`);
  await page.getByLabel("Description").fill("says what it is told");
  await page.getByLabel("Name of tag 1").waitFor();
  await button("Remove tag 1").click();
  await button("Add variable").click();
  await page.getByLabel("Name of variable 1").fill("GREETING");
  await page.getByLabel("Value of variable 1").fill("hello");
  await page.getByLabel("Route").fill("/dashboard/mine");
  expected.push("/functions/");
  await button("Save").click();
  await page.getByText("is reserved").first().waitFor();
  expected.length = 0;
  await page.getByLabel("Route").fill("");
  await page.getByLabel("Memory in MiB").fill("256");
  await button("Save").click();
  await page.getByText(`The settings of ${NAME} are saved.`).waitFor();
  const now = JSON.parse((await api("GET", `/functions/${NAME}`)).body);
  assert.deepEqual([now.memory, now.description, now.environment, now.tags], [256, "says what it is told", { GREETING: "****" }, {}]);
});

test("versions are published, an alias is shifted and goes back", async () => {
  await open(`/dashboard/functions/${NAME}/versions`);
  await button(/^Publish revision/).click();
  await page.getByText("Version 1", { exact: true }).waitFor();
  await page.getByRole("textbox", { name: "New alias" }).fill("live");
  await button("Add alias").click();
  await page.getByLabel("Version of live", { exact: true }).waitFor();
  await api("PUT", `/functions/${NAME}`, { code: "def handler(event, context): return 'second'\n" });
  await page.getByText("Somebody deployed revision").waitFor();
  await button("Take it over").click();
  await button(/^Publish revision/).click();
  await page.getByText("Version 2", { exact: true }).waitFor();
  const called = async () => (await api("POST", `/functions/${NAME}/execute?qualifier=live`, {})).body;
  assert.doesNotMatch(await called(), /second/);
  // All calls go to the second version, and then none.
  await page.getByLabel("Second version of live").selectOption("2");
  await page.getByLabel("Share of version 2 in live").fill("100");
  await button("Move live").click();
  await page.getByText("live is moved.").first().waitFor();
  assert.match(await called(), /second/);
  await page.getByLabel("Second version of live").selectOption("");
  await button("Move live").click();
  await button("Delete version 2").click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete version" }).click();
  await page.getByText("Version 2", { exact: true }).waitFor({ state: "detached" });
  assert.doesNotMatch(await called(), /second/);
  await api("PUT", `/functions/${NAME}`, { code: CODE });
  await open(`/dashboard/functions/${NAME}/starts`);
  await page.getByText("a new version was deployed").first().waitFor();
});

test("the code of a version is rolled back to", async () => {
  await api("PUT", `/functions/${NAME}`, { code: "def handler(event, context): return 'a mistake'\n" });
  await open(`/dashboard/functions/${NAME}/versions`);
  await button("Roll back to version 1").click();
  const dialog = page.getByRole("dialog");
  await accessible(page, "rolling back");
  await dialog.getByRole("button", { name: "Roll back" }).click();
  await page.getByText("has the code of version 1 again").waitFor();
  await page.getByText("is deployed", { exact: true }).waitFor();
  await tab("Code and test").click();
  await codeEditor().getByText("from the browser").waitFor();
  await (await run({ text: "rolled" })).getByText("rolled").waitFor();
  const { code } = JSON.parse((await api("GET", `/functions/${NAME}`)).body);
  assert.equal(code.origin, "inline", "it can still be written here");
});

test("a function that is an image says which, and goes back to it", async () => {
  const image = { uri: process.env.TEST_IMAGE, command: ["app.handler"], working_dir: "/tmp" };
  const made = await api("POST", "/functions/", { name: IMAGE, image });
  assert.equal(made.status, 201, made.body);
  await api("POST", `/functions/${IMAGE}/versions`, {});
  const changed = await api("PUT", `/functions/${IMAGE}`, { image: image.uri });
  assert.equal(changed.status, 200, changed.body);
  await open(`/dashboard/functions/${IMAGE}`);
  await card("Code").getByText(image.uri, { exact: true }).waitFor();
  await accessible(page, "a function that is an image");
  await tab("Versions").click();
  await button("Roll back to version 1").click();
  await page.getByRole("dialog").getByRole("button", { name: "Roll back" }).click();
  await page.getByText("has the code of version 1 again").waitFor();
  await tab("Code and test").click();
  await card("Code").getByText('["app.handler"]').waitFor();
  await card("Code").getByText("/tmp", { exact: true }).waitFor();
  await button("Deploy what the name stands for now").click();
  await page.getByText(`${image.uri} is still the same image.`).waitFor();
  // What is the image's affair is not asked for, and keeps nothing from being saved.
  await tab("Settings").click();
  assert.equal(await page.getByLabel("Handler").count(), 0);
  await page.getByLabel("Description").fill("an image");
  await button("Save").click();
  await page.getByText(`The settings of ${IMAGE} are saved.`).waitFor();
});

test("a call is run again on any version, and the answers are compared", async () => {
  await open(`/dashboard/functions/${NAME}`);
  await codeEditor().getByText("from the browser").waitFor();
  await (await run({ text: EVIL })).getByText("onerror").waitFor();
  const changed = await api("PUT", `/functions/${NAME}`, { code: CODE.replace("from the browser", "from another revision") });
  assert.equal(changed.status, 200, changed.body);
  await tab("Calls").click();
  await button(/ok/).first().click();
  const again = page.getByRole("region", { name: "Run it again" });
  const payload = again.getByLabel("Payload to run it with");
  assert.deepEqual(JSON.parse(await payload.inputValue()), { text: EVIL }, "what it was called with");
  await again.getByText("With what it was given").waitFor();
  await again.getByRole("button", { name: "Run again" }).click();
  await again.getByText("Another answer than back then").waitFor();
  const difference = again.getByRole("group", { name: "Answers" });
  await difference.locator(".cm-deletedChunk").getByText("from the browser").waitFor();
  await difference.locator(".cm-changedLine").getByText("from another revision").waitFor();
  await accessible(page, "what is different");
  // The version that was published before answers as it did.
  await again.getByLabel("Run it on").selectOption("1");
  await again.getByRole("button", { name: "Run again" }).click();
  await again.getByText("The same answer as back then").waitFor();
  // Two against each other: an alias and the function as it is.
  await again.getByLabel("Run it on").selectOption("live");
  await again.getByLabel("Compare with").selectOption("$LATEST");
  await again.getByRole("button", { name: "Run again" }).click();
  await again.getByText("Another answer than the function as it is").waitFor();
  await payload.fill("{ not json");
  await again.getByRole("alert").waitFor();
  assert.ok(await again.getByRole("button", { name: "Run again" }).isDisabled());
  assert.equal(await page.evaluate(() => globalThis.evil), undefined);
  await api("PUT", `/functions/${NAME}`, { code: CODE });
});

test("dead letters are looked into, redriven and deleted", async () => {
  const made = await api("POST", "/functions/", { name: FAILS, language: "python", code: RAISES, max_retries: 0 });
  assert.equal(made.status, 201, made.body);
  await open("/dashboard/queue");
  const letters = card("Dead letters");
  await letters.getByText("None. An event that failed for good").waitFor();
  const ids = [];
  for (const why of [EVIL, "second", "third", "fourth"]) ids.push(await dies(why));
  // They show up by themselves, the last that failed first.
  const row = (why) => letters.locator("button.letter").filter({ hasText: why });
  await row("fourth").waitFor();
  assert.equal(await letters.locator("button.letter").count(), 4);
  await page.getByLabel("Queue", { exact: true }).getByText("not at all").waitFor();
  await row("onerror").click();
  const opened = letters.getByRole("group", { name: "Dead letter" });
  await opened.getByText("function_error: ").waitFor();
  assert.deepEqual(JSON.parse(await opened.getByLabel("Payload").innerText()), { why: EVIL });
  await accessible(page, "a dead letter");
  assert.equal(await page.locator("img, main script, svg[onload]").count(), 0);
  // What it failed with is mended; then it is run again and ends well.
  await api("PUT", `/functions/${FAILS}`, { code: "def handler(event, context): return event['why']\n" });
  await opened.getByRole("button", { name: "Redrive" }).click();
  await page.getByText("It is queued again.").waitFor();
  await row("onerror").waitFor({ state: "detached" });
  await ends(ids[0], "succeeded");
  await page.getByRole("textbox", { name: "Find an event" }).fill(ids[0]);
  await button("Find").click();
  await card("Find an event").getByText("succeeded").waitFor();
  // Deleting asks.
  await row("second").click();
  await opened.getByRole("button", { name: "Delete" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("button", { name: "Cancel" }).click();
  assert.equal((await api("GET", `/dead-letters/${ids[1]}`)).status, 200);
  await opened.getByRole("button", { name: "Delete" }).click();
  await dialog.getByRole("button", { name: "Delete dead letter" }).click();
  await page.getByText("The dead letter is deleted.").waitFor();
  await row("second").waitFor({ state: "detached" });
  assert.equal((await api("GET", `/dead-letters/${ids[1]}`)).status, 404);
  // One can be tried before that.
  await row("third").click();
  await opened.getByRole("button", { name: "Try it in the test panel" }).click();
  await eventEditor().getByText('"third"').waitFor();
  await page.goBack();
  // The rest together.
  await letters.getByLabel("Of which function").selectOption(FAILS);
  await row("fourth").waitFor();
  await button("Redrive all").click();
  await dialog.getByRole("button", { name: "Redrive all" }).click();
  await page.getByText("2 events are queued again.").waitFor();
  await letters.getByText(`None of ${FAILS}.`).waitFor();
  for (const id of ids.slice(2)) await ends(id, "succeeded");
  assert.equal(await page.evaluate(() => globalThis.evil), undefined);
  // What cannot be had is said, and asked for again.
  expected.push("/dead-letters/", "/invocations/");
  await page.route(/\/(dead-letters|invocations)\//, (route) => route.abort());
  await open("/dashboard/queue");
  await letters.getByText("That did not work").waitFor();
  await page.getByText("What is shown is not up to date").waitFor();
  await page.unroute(/\/(dead-letters|invocations)\//);
  await letters.getByRole("button", { name: "Try again" }).click();
  await letters.getByText("None. An event").waitFor();
  expected.length = 0;
});

test("an event is queued from the test panel", async () => {
  await open(`/dashboard/functions/${NAME}`);
  await write(eventEditor(), '{"text": "for later"}');
  await button("Queue").click();
  await page.getByText("It is queued as").waitFor();
  const id = await page.locator("code.request").innerText();
  await ends(id, "succeeded");
});

test("a zip that is dropped on the page is deployed", async () => {
  await open("/dashboard/create");
  await page.getByRole("radio", { name: /python/i }).check();
  await drop("dropped.zip", { "app.py": "def handler(event, context): return 'dropped here'\n" });
  await page.getByText("dropped.zip").waitFor();
  await page.getByRole("textbox", { name: "Handler" }).fill("app.handler");
  await button("Create function").click();
  await page.getByRole("heading", { name: "dropped" }).waitFor();
  await (await run({})).getByText("dropped here").waitFor();
});

test("a zip is deployed and stays what it is", async () => {
  await open("/dashboard/create");
  await page.getByRole("radio", { name: /python/i }).check();
  const file = (text) => new TextEncoder().encode(text);
  const zip = zipSync({ "main.py": file("import part\ndef go(event, context): return part.NAME\n"), "part.py": file('NAME = "zipped"\n') });
  await page.locator('input[type="file"]').setInputFiles({ name: "from-a-zip.zip", mimeType: "application/zip", buffer: Buffer.from(zip) });
  await page.getByRole("textbox", { name: "Handler" }).fill("main.go");
  await button("Create function").click();
  await page.getByRole("heading", { name: "from-a-zip" }).waitFor();
  await codeEditor().getByText("import part").waitFor();
  await (await run({})).getByText('"zipped"').waitFor();
  await page.getByLabel("File", { exact: true }).selectOption("part.py");
  await codeEditor().getByText("zipped").waitFor();
  await write(codeEditor(), 'NAME = "edited"\n');
  await button("Deploy").click();
  await page.getByText("deployed as revision 2").waitFor();
  await (await run({})).getByText('"edited"').waitFor();
});

test("functions are found, and the pool shows who works", async () => {
  await open("/dashboard/");
  await page.getByRole("row", { name: /from-a-zip/ }).waitFor();
  await page.keyboard.press("/");
  await page.keyboard.type("browser");
  await page.getByRole("row", { name: new RegExp(NAME) }).waitFor();
  await page.getByRole("row", { name: /from-a-zip/ }).waitFor({ state: "detached" });
  await page.getByLabel("Search functions").fill("");
  await page.getByRole("row", { name: /from-a-zip/ }).waitFor();
  await button(/^Calls/).click();
  const column = page.getByRole("columnheader", { name: /Calls/ });
  assert.equal(await column.getAttribute("aria-sort"), "descending");
  await page.getByRole("row", { name: new RegExp(NAME) }).getByText(/^(warm|busy|failing)$/).waitFor();
  await page.getByRole("link", { name: "Pool" }).click();
  await page.locator(".tile.idle").getByText(NAME).first().waitFor();
  await page.getByText("Live", { exact: true }).first().waitFor();
});

test("everything is reached without a mouse", async () => {
  await open("/dashboard/");
  await page.getByRole("row", { name: new RegExp(NAME) }).waitFor();
  await page.keyboard.press("Tab");
  await page.getByRole("link", { name: "Skip to the page" }).and(page.locator(":focus")).waitFor();
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  await page.getByLabel("Search functions").and(page.locator(":focus")).waitFor();
  await page.keyboard.type(NAME);
  await page.getByRole("row", { name: /from-a-zip/ }).waitFor({ state: "detached" });
  // Whatever is between, the function itself is one of the next stops.
  const link = page.getByRole("link", { name: NAME, exact: true }).and(page.locator(":focus"));
  for (let stop = 0; stop < 20 && !(await link.count()); stop++) await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: NAME }).waitFor();
  // The editor takes the tabulator for itself, unless it is asked not to.
  const within = codeEditor().and(page.locator(":focus"));
  await codeEditor().focus();
  await page.keyboard.press("Tab");
  await within.waitFor();
  await page.keyboard.press("Control+z");
  await page.keyboard.press("Escape");
  await page.keyboard.press("Tab");
  await within.waitFor({ state: "detached" });
  await tab("Code and test").focus();
  await page.keyboard.press("ArrowRight");
  await page.getByRole("log").waitFor();
  await tab("Log").and(page.locator(":focus")).waitFor();
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("ArrowLeft");
  const remove = button("Delete function");
  await remove.focus();
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  await remove.and(page.locator(":focus")).waitFor();
});

test("the page is live again when Hearth was started again, and nothing on it is lost", async () => {
  const follows = await context.newPage();
  try {
    await follows.goto(`${url}/dashboard/functions/${NAME}/log`);
    await follows.getByText("Following").waitFor();
    await open(`/dashboard/functions/${NAME}`);
    await page.getByText("Live", { exact: true }).first().waitFor();
    await write(codeEditor(), `${CODE}# not deployed yet\n`);
    await card("Code").getByText("Not deployed", { exact: true }).waitFor();
    // Nothing answers for a while, and then the session is unknown.
    expected.push("/");
    startAgain();
    await page.getByText("Your session is over, or Hearth was started again").waitFor();
    await page.getByLabel("Key", { exact: true }).fill(key);
    await button("Sign in").click();
    await page.getByText("Live", { exact: true }).first().waitFor();
    await codeEditor().getByText("# not deployed yet").waitFor();
    await card("Code").getByText("Not deployed", { exact: true }).waitFor();
    // It counts what the new process serves.
    await (await run({ text: "after the restart" })).getByText("after the restart").waitFor();
    const calls = page.locator(".stats").getByText("Calls").locator("..");
    await calls.getByText("1", { exact: true }).waitFor();
    await card("Code").getByRole("button", { name: "Discard" }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Discard changes" }).click();
    // A page that was only looked at goes on too, with what is printed from now on.
    const late = follows.getByLabel("Key", { exact: true });
    await follows.getByText("Your session is over").or(follows.getByText("Following")).first().waitFor();
    if (await late.isVisible()) {
      await late.fill(key);
      await follows.getByRole("button", { name: "Sign in" }).click();
    }
    await follows.getByText("Following").waitFor();
    await api("POST", `/functions/${NAME}/execute`, { text: "printed after it" });
    await follows.getByRole("log").getByText("seen: printed after it").waitFor();
  } finally {
    await follows.close();
    expected.length = 0;
  }
});

test("the system page tells limits and what the doctor finds", async () => {
  await api("PUT", `/functions/${NAME}`, { max_concurrency: 7 });
  await open("/dashboard/system");
  await card("Limits").getByText("at most 7 at once").waitFor();
  await card("Limits").getByText("of which 0 are under way").waitFor();
  await button("Check the machine").click();
  await card("Doctor").getByText("engine version").waitFor();
  await card("Doctor").getByText(url).first().waitFor();
  await button("Check again").waitFor();
  await accessible(page, "the doctor");
  await api("PUT", `/functions/${NAME}`, { max_concurrency: null });
});

test("keys are made for less, shown once, and revoked", async () => {
  await open("/dashboard/system");
  await button("New key").click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Name", { exact: true }).fill("for-the-test");
  await dialog.getByRole("textbox", { name: "Functions" }).fill("shown-*");
  await accessible(page, "a new key");
  await dialog.getByRole("button", { name: "Make key" }).click();
  const made = (await dialog.locator("pre").innerText()).trim();
  await dialog.getByRole("button", { name: "Done" }).click();
  const call = (name) => raw(`/functions/${name}/execute`, { method: "POST", body: "{}", headers: { authorization: `Bearer ${made}` } });
  assert.equal((await call(NAME)).status, 200);
  assert.equal((await call("from-a-zip")).status, 403);
  await button("Revoke for-the-test").click();
  await dialog.getByRole("button", { name: "Revoke key" }).click();
  await button("Revoke for-the-test").waitFor({ state: "detached" });
  assert.equal((await call(NAME)).status, 401);
});

test("every page can be used by everybody, on a phone and on a desk", async () => {
  await api("PUT", `/functions/${FAILS}`, { code: RAISES });
  await dies("for the picture");
  await api("PUT", `/functions/${NAME}`, { code: `${CODE}# What it prints is in the log.\n`, description: "Says what it is told" });
  await api("POST", `/functions/${NAME}/execute`, { text: "one live line" });
  const pages = {
    functions: ["/dashboard/", () => page.getByRole("row", { name: new RegExp(NAME) }).waitFor()],
    code: [`/dashboard/functions/${NAME}`, () => codeEditor().getByText("def handler").waitFor()],
    log: [`/dashboard/functions/${NAME}/log`, () => page.getByRole("log").getByText("one live line").waitFor()],
    calls: [`/dashboard/functions/${NAME}/calls`, () => button(/ok/).first().waitFor()],
    starts: [`/dashboard/functions/${NAME}/starts`, () => page.getByText("a new version was deployed").first().waitFor()],
    versions: [`/dashboard/functions/${NAME}/versions`, () => page.getByText("Version 1", { exact: true }).waitFor()],
    settings: [`/dashboard/functions/${NAME}/settings`, () => page.getByLabel("Description").waitFor()],
    create: ["/dashboard/create", () => page.getByRole("radio").first().waitFor()],
    events: ["/dashboard/queue", () => page.getByText("for the picture").first().waitFor()],
    pool: ["/dashboard/pool", () => page.locator(".tile").first().waitFor()],
    system: ["/dashboard/system", () => page.getByText("ready", { exact: true }).waitFor()],
    docs: ["/docs", () => page.getByRole("heading", { name: "Create a function" }).waitFor()],
  };
  for (const [name, [path, there]] of Object.entries(pages)) {
    await open(path);
    await there();
    if (name === "calls") await button(/ok/).first().click();
    if (name === "events") {
      await page.locator("button.letter").first().click();
      await page.getByRole("group", { name: "Dead letter" }).waitFor();
    }
    if (name === "code") {
      await run({ text: "Good day" });
      await page.locator(".waterfall").waitFor();
    }
    for (const width of [1440, 360]) {
      await page.setViewportSize({ width, height: 900 });
      for (const scheme of ["light", "dark"]) {
        await page.emulateMedia({ colorScheme: scheme });
        await looks(page, `${name}-${scheme}-${width}`);
        await accessible(page, `${name}, ${scheme}, ${width}`);
      }
    }
    await page.setViewportSize({ width: 768, height: 1000 });
    await looks(page, `${name}-dark-768`);
    await page.setViewportSize({ width: 3840, height: 2000 });
    await looks(page, `${name}-dark-3840`);
    await page.setViewportSize({ width: 1440, height: 900 });
  }
  await page.emulateMedia({ colorScheme: "light" });
});

test("deleting asks, and deletes", async () => {
  await open(`/dashboard/functions/${NAME}/settings`);
  await button("Delete function").click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("button", { name: "Cancel" }).click();
  assert.equal((await api("GET", `/functions/${NAME}`)).status, 200);
  await button("Delete function").click();
  await dialog.getByRole("button", { name: "Delete function" }).click();
  await page.getByText(`${NAME} is deleted.`).waitFor();
  await page.getByRole("row", { name: new RegExp(NAME) }).waitFor({ state: "detached" });
  assert.equal((await api("GET", `/functions/${NAME}`)).status, 404);
});

test("who signs out is out", async () => {
  const [{ name, value }] = await context.cookies();
  await button("Sign out").click();
  await button("Sign in").waitFor();
  const headers = { cookie: `${name}=${value}`, "x-hearth-dashboard": "1" };
  assert.equal((await raw("/functions/", { headers })).status, 401);
});

test("nothing was complained about, and nobody else was asked", () => {
  assert.deepEqual(complaints, []);
  assert.deepEqual([...requested], [new URL(url).origin]);
});
