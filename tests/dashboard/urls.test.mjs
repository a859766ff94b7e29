// What a function is reached at, shares with others and is kept ready for; numbers that stay as they are; and a server that does not answer.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { accessible, api, ends, EVIL, freeze, hands, key, launch, looks, unhurt, url } from "./browser.mjs";

const NAME = "reached";
const TELLS = "import json\ndef handler(event, context): return {'statusCode': 200, 'body': 'told ' + json.dumps(event.get('rawPath'))}\n";
/** More digits than a script counts with, and writings that are the same number. */
const LONG = '{"id":12345678901234567890,"cents":1.10,"big":1E400,"order":{"10":1,"2":[]},"list":[{},0]}';
/** A zip with one file, in base64. */
const ZIPPED = "python3 -c 'import base64, io, zipfile; f = io.BytesIO(); z = zipfile.ZipFile(f, \"w\"); z.writestr(\"a.txt\", \"a\"); z.close(); print(base64.b64encode(f.getvalue()).decode())'";
/** What `hearth env` says. */
const ENV = { ...process.env, ...JSON.parse(process.env.TEST_ENV) };

let browser, context, page, complaints, expected;
let open, button, tab, card, write, run, drop;

before(async () => {
  ({ browser, context, page, complaints, expected } = await launch());
  ({ open, button, tab, card, write, run, drop } = hands(page));
  await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: url });
  await open("/dashboard/");
  await page.getByLabel("Key", { exact: true }).fill(key);
  await button("Sign in").click();
  await page.getByRole("heading", { name: "Functions" }).waitFor();
  const made = await api("POST", "/functions/", { name: NAME, language: "python", code: TELLS, max_retries: 0 });
  assert.equal(made.status, 201, made.body);
});
after(async () => {
  await browser?.close();
  await api("DELETE", `/functions/${NAME}`);
  for (const { id } of JSON.parse((await api("GET", "/layers/")).body).items) await api("DELETE", `/layers/${id}`);
});

const dialog = () => page.getByRole("dialog");
const answer = () => page.getByLabel("Answer", { exact: true });
/** Runs what the button beside it copied, in a shell as a person would. */
const copied = async (row) => {
  await row.getByRole("button", { name: "Copy", exact: true }).click();
  await row.getByRole("button", { name: "Copied" }).waitFor();
  const command = await page.evaluate(() => navigator.clipboard.readText());
  return (await promisify(execFile)("bash", ["-c", command], { env: ENV, timeout: 60_000 })).stdout;
};
/** A page as everybody sees it. */
const seen = async (name) => {
  for (const width of [1440, 360]) {
    await page.setViewportSize({ width, height: 900 });
    for (const scheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme: scheme });
      await looks(page, `${name}-${scheme}-${width}`);
      await accessible(page, `${name}, ${scheme}, ${width}`);
    }
  }
  for (const width of [768, 3840]) {
    await page.setViewportSize({ width, height: width / 2 });
    await looks(page, `${name}-dark-${width}`);
  }
  await page.setViewportSize({ width: 1440, height: 900 });
  await page.emulateMedia({ colorScheme: "light" });
};

test("a function URL is made, called as copied, changed and deleted", async () => {
  await open(`/dashboard/functions/${NAME}/urls`);
  const calls = card("How it is called");
  assert.match(await copied(calls), /told null/);
  await calls.getByText("it has none").waitFor();
  await api("PUT", `/functions/${NAME}`, { route: "/reached/{item}" });
  await button("Take it over").click();
  const route = page.getByRole("group", { name: "Call by the route" });
  assert.match(await copied(route.locator("..")), /told "\/reached\/item"/);

  const urls = card("Function URLs");
  await button("Make a URL").click();
  await urls.getByLabel("Who may call").selectOption("NONE");
  await urls.getByText("Everybody who reaches this server").waitFor();
  await urls.getByLabel("Pages from elsewhere may call it").check();
  await urls.getByLabel("Origins").fill(`https://a.example\n${EVIL.replace(/[\s,]/g, "")}`);
  await urls.getByLabel("Methods").fill("GET, PROPFIND");
  // Leaving asks first, and what is wrong is said where it is.
  await page.getByRole("link", { name: "Pool" }).click();
  await dialog().getByText("has changes that are not saved").waitFor();
  await dialog().getByRole("button", { name: "Cancel" }).click();
  expected.push("/urls");
  await button("Make the URL").click();
  await urls.getByText("must be texts of 1 to 6 characters").waitFor();
  expected.length = 0;
  await accessible(page, "a URL that is refused");
  await urls.getByLabel("Methods").fill("GET");
  await urls.getByLabel("Remembered for seconds").fill("60");
  await button("Make the URL").click();
  await page.getByText("The URL is made.").waitFor();
  await urls.getByText("open to everybody").waitFor();
  await urls.getByText("https://a.example, <img").waitFor();
  await unhurt(page);
  const own = urls.getByRole("group", { name: "Call by the URL of the function as it is" }).locator("..");
  assert.match(await copied(own), /told "\/"/);

  // Only for who signs, and as a stream: the address stays.
  const { function_urls: before } = JSON.parse((await api("GET", `/functions/${NAME}`)).body);
  await button("Change the URL of the function as it is").click();
  await urls.getByLabel("Who may call").selectOption("AWS_IAM");
  await urls.getByLabel("Answers", { exact: true }).selectOption("RESPONSE_STREAM");
  await urls.getByLabel("Pages from elsewhere may call it").uncheck();
  await button("Save").click();
  await urls.getByText("signed calls only").waitFor();
  const { function_urls: now } = JSON.parse((await api("GET", `/functions/${NAME}`)).body);
  assert.deepEqual([now[0].url, now[0].auth_type, now[0].invoke_mode, now[0].cors], [before[0].url, "AWS_IAM", "RESPONSE_STREAM", null]);
  assert.equal((await fetch(url + now[0].url)).status, 403);
  // A stream is not read as a status and a body.
  assert.match(await copied(own), /"statusCode"/);

  // An alias has another.
  await api("POST", `/functions/${NAME}/aliases`, { name: "live", version: "$LATEST" });
  await page.reload();
  await button("Make another URL").click();
  await urls.getByLabel("Leads to").selectOption("live");
  await urls.getByLabel("Who may call").selectOption("NONE");
  await button("Make the URL").click();
  const live = urls.getByRole("group", { name: "Call by the URL of alias live" }).locator("..");
  assert.match(await copied(live), /told "\/"/);
  await seen("urls");

  await button("Delete the URL of alias live").click();
  await dialog().getByRole("button", { name: "Cancel" }).click();
  await live.waitFor();
  await button("Delete the URL of alias live").click();
  await dialog().getByRole("button", { name: "Delete URL" }).click();
  await live.waitFor({ state: "detached" });
  const left = JSON.parse((await api("GET", `/functions/${NAME}/urls`)).body).items;
  assert.deepEqual(left.map((one) => one.qualifier), ["$LATEST"]);
});

test("layers are published, taken in an order, and deleted", async () => {
  await open("/dashboard/layers");
  await page.getByText("There is no layer yet").waitFor();
  // What cannot be had is said, and asked for again.
  expected.push("/layers/");
  await page.route("**/layers/**", (route) => route.abort());
  await page.reload();
  await page.getByRole("alert").getByText("That did not work").waitFor();
  await page.unroute("**/layers/**");
  await button("Try again").click();
  await page.getByText("There is no layer yet").waitFor();
  expected.length = 0;
  await looks(page, "no-layers-light-1440");
  const publish = page.getByRole("form", { name: "New layer version" });
  for (const [name, text] of [["first-lib", "first"], ["second-lib", "second"], ["first-lib", "again"]]) {
    await drop(`${name}.zip`, { "python/shared.py": `NAME = "${text}"\n`, [`python/only_${text}.py`]: "" });
    assert.equal(await publish.getByLabel("Layer").inputValue(), name);
    await publish.getByLabel("Description").fill(EVIL);
    await publish.getByRole("button", { name: "Publish" }).click();
    await page.getByText(`${name}:${text === "again" ? 2 : 1} is published.`).waitFor();
  }
  // What is no zip is said to be none.
  await page.locator('input[type="file"]').setInputFiles({ name: "none.zip", mimeType: "application/zip", buffer: Buffer.from("no zip") });
  expected.push("/layers/");
  await publish.getByRole("button", { name: "Publish" }).click();
  await publish.getByRole("alert").getByText("The zip is refused").waitFor();
  expected.length = 0;
  await publish.getByRole("button", { name: "Take another" }).click();
  await card("Layer first-lib").getByText("onerror").first().waitFor();
  await unhurt(page);
  // What others do is seen without being asked for.
  const elsewhere = (await promisify(execFile)("bash", ["-c", ZIPPED])).stdout;
  const published = await api("POST", "/layers/", { name: "third-lib", zip: elsewhere.trim(), description: "made elsewhere" });
  assert.equal(published.status, 201, published.body);
  await card("Layer third-lib").getByText("made elsewhere").waitFor();
  await api("DELETE", "/layers/third-lib:1");
  await card("Layer third-lib").waitFor({ state: "detached" });
  await seen("layers");

  await api("PUT", `/functions/${NAME}`, { code: "import shared\ndef handler(event, context): return shared.NAME\n" });
  await open(`/dashboard/functions/${NAME}/settings`);
  const add = page.getByLabel("Layer to add");
  await add.selectOption("first-lib:1");
  await add.selectOption("second-lib:1");
  const own = page.getByRole("list", { name: "Layers of the function" });
  assert.deepEqual(await own.locator("code").allInnerTexts(), ["first-lib:1", "second-lib:1"]);
  await accessible(page, "a function's layers");
  await button("Save").click();
  await page.getByText("are saved").first().waitFor();
  await tab("Code and test").click();
  await (await run({})).getByText('"second"').waitFor();
  // The order decides, and another version takes the place of one of its layer.
  await tab("Settings").click();
  await button("Move first-lib:1 down").click();
  await page.getByLabel("Layer to add").selectOption("first-lib:2");
  assert.deepEqual(await own.locator("code").allInnerTexts(), ["second-lib:1", "first-lib:2"]);
  await button("Save").click();
  await page.getByText("are saved").first().waitFor();
  await tab("Code and test").click();
  await (await run({})).getByText('"again"').waitFor();

  await open("/dashboard/layers");
  await card("Layer first-lib").getByRole("link", { name: NAME }).waitFor();
  await button("Delete first-lib:2").click();
  await dialog().getByText(`${NAME} keep it`).waitFor();
  await dialog().getByRole("button", { name: "Delete version" }).click();
  await page.getByText("first-lib:2 is deleted.").waitFor();
  await open(`/dashboard/functions/${NAME}/settings`);
  await page.getByText("no longer listed, kept here").waitFor();
  await button("Take first-lib:2 away").click();
  await button("Save").click();
  await page.getByText("are saved").first().waitFor();
  await tab("Code and test").click();
  await (await run({})).getByText('"second"').waitFor();
});

test("workers are kept ready for a version, and no longer", async () => {
  await api("PUT", `/functions/${NAME}`, { code: TELLS, layers: [] });
  await open(`/dashboard/functions/${NAME}/versions`);
  const kept = card("Provisioned concurrency");
  await kept.getByText("Publish a version first").waitFor();
  await button(/^Publish revision/).click();
  await kept.getByLabel("Keep ready for").selectOption("1");
  await kept.getByLabel("Workers", { exact: true }).fill("2");
  await button("Keep ready").click();
  await kept.getByText("2 of 2 ready").waitFor();
  await kept.getByText("Ready", { exact: true }).waitFor();
  const { items } = JSON.parse((await api("GET", `/functions/${NAME}/provisioned-concurrency`)).body);
  assert.deepEqual([items.length, items[0].requested, items[0].available], [1, 2, 2]);
  // More than there may be is refused, with the reason.
  expected.push("/provisioned-concurrency");
  await page.getByLabel("Workers kept ready for 1").fill("100000");
  await button("Set the workers of 1").click();
  await kept.getByRole("alert").getByText("requested must be a whole number").waitFor();
  expected.length = 0;
  await page.getByLabel("Workers kept ready for 1").fill("1");
  await button("Set the workers of 1").click();
  await kept.getByText("1 of 1 ready").waitFor();
  await seen("versions-provisioned");
  await button("Remove the workers of 1").click();
  await dialog().getByRole("button", { name: "Stop keeping them" }).click();
  await kept.getByText("1 of 1 ready").waitFor({ state: "detached" });
  const after = JSON.parse((await api("GET", `/functions/${NAME}/provisioned-concurrency`)).body);
  assert.deepEqual(after.items, []);
});

test("a version has event settings of its own, and no longer", async () => {
  await open(`/dashboard/functions/${NAME}/versions`);
  const events = card("Event settings");
  await events.getByLabel("Own settings for").selectOption("1");
  await events.getByRole("button", { name: "Give it its own" }).click();
  const form = page.getByRole("form", { name: "Event settings of 1" });
  await form.getByLabel("Retries").fill("0");
  // What is wrong is said where it is.
  expected.push("/asynchronous");
  await form.getByLabel("Told of failure").fill("stream:s");
  await form.getByRole("button", { name: "Save" }).click();
  await form.getByText("may be a stream only where the store is a Redis").waitFor();
  expected.length = 0;
  await form.getByLabel("Told of failure").fill(`function:${NAME}`);
  await form.getByRole("button", { name: "Save" }).click();
  await events.getByText(`0 retries, age as the server's, failure to function:${NAME}`).waitFor();
  const own = async () => JSON.parse((await api("GET", `/functions/${NAME}/asynchronous`)).body).items;
  assert.deepEqual(
    (await own()).map(({ qualifier, max_retries, max_event_age, on_failure }) => [qualifier, max_retries, max_event_age, on_failure]),
    [["1", 0, null, `function:${NAME}`]],
  );
  await button("Change the event settings of 1").click();
  await form.getByLabel("Longest age in seconds").fill("90");
  await seen("versions-events");
  await form.getByRole("button", { name: "Save" }).click();
  await events.getByText("for 90 s").waitFor();
  await button("Remove the event settings of 1").click();
  await dialog().getByRole("button", { name: "Take them away" }).click();
  await events.getByText("for 90 s").waitFor({ state: "detached" });
  assert.deepEqual(await own(), []);
});

test("long numbers keep their digits, wherever they are shown", async () => {
  const echo = "def handler(event, context):\n    if event.get('fail'): raise ValueError('asked to')\n    return event\n";
  await api("PUT", `/functions/${NAME}`, { code: echo });
  await open(`/dashboard/functions/${NAME}`);
  const sent = '{"id": 12345678901234567890}';
  await write(card("Test").locator(".cm-content"), sent);
  await run();
  assert.match(await answer().innerText(), /"id": 12345678901234567890\n/);
  await tab("Calls").click();
  await button(/ok/).first().click();
  const again = page.getByRole("region", { name: "Run it again" });
  assert.equal(await again.getByLabel("Payload to run it with").inputValue(), sent);
  await again.getByRole("button", { name: "Run again" }).click();
  await again.getByText("The same answer as back then").waitFor();
  assert.match(await again.getByLabel("Answer", { exact: true }).innerText(), /12345678901234567890/);
  // A dead letter, as it was sent.
  const dead = LONG.replace("{", '{"fail":true,');
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json", "x-amz-invocation-type": "Event" };
  const queued = await fetch(`${url}/functions/${NAME}/execute`, { method: "POST", headers, body: dead });
  const { request_id: id } = await queued.json();
  await ends(id, "failed");
  await open("/dashboard/queue");
  await page.locator("button.letter").filter({ hasText: NAME }).first().click();
  const shown = await page.getByLabel("Payload", { exact: true }).innerText();
  assert.equal(shown.replace(/\s/g, ""), dead);
  assert.match(shown, /\n {2}"cents": 1\.10,\n/);
  await button("Try it in the test panel").click();
  await card("Test").locator(".cm-content").getByText("12345678901234567890").waitFor();
  await api("DELETE", `/dead-letters/${id}`);
});

test("that the server does not answer is told on the page, which goes on by itself", async () => {
  await open("/dashboard/pool");
  await page.getByText("Live", { exact: true }).first().waitFor();
  const told = page.getByRole("alert").getByText("Hearth does not answer.");
  assert.equal(await told.count(), 0);
  // Its connections stay open: nothing but the silence says it.
  expected.push("/");
  freeze();
  try {
    await told.waitFor();
    await page.getByText("Not connected", { exact: true }).first().waitFor();
    await seen("away");
  } finally {
    freeze();
  }
  await told.waitFor({ state: "detached" });
  await page.getByText("Live", { exact: true }).first().waitFor();
  const calls = Number(JSON.parse((await api("GET", "/overview")).body).functions.find((one) => one.name === NAME).calls);
  await api("POST", `/functions/${NAME}/execute`, {});
  await open(`/dashboard/functions/${NAME}/urls`);
  await page.locator(".stats").getByText("Calls").locator("..").getByText(String(calls + 1), { exact: true }).waitFor();
  expected.length = 0;
});

test("thousands of functions are listed a part at a time, and all are found", async () => {
  const many = Array.from({ length: 300 }, (_, at) => `of-many-${String(at).padStart(3, "0")}`);
  const each = async (work) => {
    const left = [...many];
    await Promise.all(Array.from({ length: 8 }, async () => { for (let name = left.pop(); name; name = left.pop()) await work(name); }));
  };
  try {
    await each(async (name) => assert.equal((await api("POST", "/functions/", { name, language: "python", code: TELLS })).status, 201));
    await open("/dashboard/");
    await page.getByRole("row", { name: /of-many-000/ }).waitFor();
    assert.ok((await page.getByRole("row").count()) <= 201);
    await page.getByLabel("Search functions").fill("many-299");
    await page.getByRole("row", { name: /of-many-299/ }).waitFor();
    await page.getByLabel("Search functions").fill("");
    await button("Show more").click();
    await page.getByRole("row", { name: /of-many-299/ }).waitFor();
    await button("Show more").waitFor({ state: "detached" });
  } finally {
    await each((name) => api("DELETE", `/functions/${name}`));
  }
});

test("a flood of lines is shown, the newest of it", async () => {
  const prints = "def handler(event, context):\n    for n in range(event['lines']): print('line', n)\n";
  await api("PUT", `/functions/${NAME}`, { code: prints, timeout: 60 });
  await open(`/dashboard/functions/${NAME}/log`);
  await page.getByText("Following").waitFor();
  const called = await api("POST", `/functions/${NAME}/execute`, { lines: 20_000 });
  assert.equal(called.status, 200, called.body);
  const log = page.getByRole("log");
  await log.getByText("line 19999", { exact: true }).waitFor();
  assert.ok((await log.locator(".log-line").count()) <= 2000);
  assert.ok(await log.evaluate((box) => box.scrollHeight - box.scrollTop - box.clientHeight < 40), "the end is in sight");
  // Who scrolls back is not taken to the end by the next line.
  await log.hover();
  await page.mouse.wheel(0, -600);
  await page.getByText("Paused", { exact: true }).waitFor();
  await api("POST", `/functions/${NAME}/execute`, { lines: 1 });
  await button("Follow").click();
  await log.getByText("line 0", { exact: true }).last().waitFor();
  await page.getByText("Following", { exact: true }).waitFor();
  await page.getByLabel("Search the log").fill("19998");
  await log.getByText("line 19999", { exact: true }).waitFor({ state: "detached" });
  await looks(page, "flood-light-1440");
});

test("nothing was complained about", () => assert.deepEqual(complaints, []));
