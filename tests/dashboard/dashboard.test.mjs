// A person's way through the dashboard, from signing in to deleting what was made; and what others try.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { zipSync } from "../../dashboard/node_modules/fflate/esm/index.mjs";
import { accessible, api, key, launch, looks, raw, url } from "./browser.mjs";

const NAME = "shown-in-browser";
/** Would be noticed if it ever were more than text. */
const EVIL = `<img src=x onerror="globalThis.evil=1"><script>globalThis.evil=1</script>"'><svg onload=globalThis.evil=1>`;
const CODE = `import json

def handler(event, context):
    print("seen:", event.get("text", "nothing"))
    if "fail" in event:
        raise ValueError(event["fail"])
    return {"greeting": "from the browser", "text": event.get("text")}
`;

let browser, context, page, complaints, expected, requested;

before(async () => {
  ({ browser, context, page, complaints, expected, requested } = await launch());
});
after(async () => {
  await browser?.close();
  for (const name of [NAME, "from-a-zip", "evil"]) await api("DELETE", `/functions/${name}`);
});

const open = async (path) => {
  await page.goto(url + path);
  await page.locator("main").waitFor();
};
const button = (name) => page.getByRole("button", { name, exact: true });
const tab = (name) => page.getByRole("tab", { name });
const card = (name) => page.getByRole("region", { name, exact: true });
const codeEditor = () => card("Code").locator(".cm-content");
const eventEditor = () => card("Test").locator(".cm-content");
const write = async (editor, text) => {
  await editor.click();
  await page.keyboard.press("Control+a");
  await page.keyboard.insertText(text);
};
const run = async (event) => {
  if (event !== undefined) await write(eventEditor(), JSON.stringify(event));
  const answered = page.waitForResponse((response) => response.url().endsWith("/execute"));
  // The answer of the call before it may still be there: the new one has another request id.
  await button("Run").click();
  const id = (await answered).headers()["x-request-id"];
  await page.locator(".answer .request").getByText(id, { exact: true }).waitFor();
  return page.getByLabel("Answer", { exact: true });
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
  assert.equal(await page.evaluate(() => globalThis.evil), undefined);
  assert.equal(await page.locator("img, main script, svg[onload]").count(), 0);
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
  await page.getByRole("link", { name: "Pool" }).click();
  await page.locator(".tile.idle").getByText(NAME).first().waitFor();
  await page.getByText("Live", { exact: true }).first().waitFor();
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
  const pages = {
    functions: ["/dashboard/", () => page.getByRole("row", { name: new RegExp(NAME) }).waitFor()],
    code: [`/dashboard/functions/${NAME}`, () => codeEditor().getByText("def handler").waitFor()],
    log: [`/dashboard/functions/${NAME}/log`, () => page.getByRole("log").getByText("one live line").waitFor()],
    calls: [`/dashboard/functions/${NAME}/calls`, () => button(/ok/).first().waitFor()],
    starts: [`/dashboard/functions/${NAME}/starts`, () => page.getByText("a new version was deployed").first().waitFor()],
    versions: [`/dashboard/functions/${NAME}/versions`, () => page.getByText("Version 1", { exact: true }).waitFor()],
    settings: [`/dashboard/functions/${NAME}/settings`, () => page.getByLabel("Description").waitFor()],
    create: ["/dashboard/create", () => page.getByRole("radio").first().waitFor()],
    pool: ["/dashboard/pool", () => page.locator(".tile").first().waitFor()],
    system: ["/dashboard/system", () => page.getByText("ready", { exact: true }).waitFor()],
    docs: ["/docs", () => page.getByRole("heading", { name: "Create a function" }).waitFor()],
  };
  for (const [name, [path, there]] of Object.entries(pages)) {
    await open(path);
    await there();
    if (name === "code") {
      await run({ text: "for the picture" });
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
