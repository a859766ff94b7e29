// Calls that others made, looked into and run again; and workers that had to go for others.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { accessible, api, CODE, ends, EVIL, hands, key, launch, raw, unhurt } from "./browser.mjs";

const NAME = "called-elsewhere";

let browser, page, complaints, expected;
let open, button, card;

before(async () => {
  ({ browser, page, complaints, expected } = await launch());
  ({ open, button, card } = hands(page));
  await open("/dashboard/");
  await page.getByLabel("Key", { exact: true }).fill(key);
  await button("Sign in").click();
  await page.getByRole("heading", { name: "Functions" }).waitFor();
  const made = await api("POST", "/functions/", { name: NAME, language: "python", code: CODE, max_retries: 0 });
  assert.equal(made.status, 201, made.body);
  const published = await api("POST", `/functions/${NAME}/versions`, {});
  assert.equal(published.status, 201, published.body);
});
after(async () => {
  await browser?.close();
  await api("DELETE", `/functions/${NAME}`);
});

test("a call that was made elsewhere is looked into and run again on another version", async () => {
  await open(`/dashboard/functions/${NAME}/calls`);
  const again = page.getByRole("region", { name: "Run it again" });
  const payload = again.getByLabel("Payload to run it with");
  const part = (name) => page.getByRole("region", { name, exact: true });
  const elsewhere = async (body, headers = {}, path = `/functions/${NAME}/execute`) => {
    const called = await raw(path, { method: "POST", body, headers: { authorization: `Bearer ${key}`, ...headers } });
    return called.headers["x-request-id"];
  };
  const look = async (id) => {
    await page.getByLabel("Search calls").fill(id);
    await page.getByRole("button", { name: id }).click();
    await part("What it was given").waitFor();
  };
  // On the function as it is, and then on the version that says something else.
  await api("PUT", `/functions/${NAME}`, { code: CODE.replace("from the browser", "from now") });
  await look(await elsewhere(`{"text":${JSON.stringify(EVIL)},"number":12345678901234567890}`));
  await part("What it was given").getByText("12345678901234567890").waitFor();
  await part("What it was given").getByText("onerror").waitFor();
  await part("What it answered").getByText("from now").waitFor();
  await accessible(page, "a call that was made elsewhere");
  assert.deepEqual(JSON.parse(await payload.inputValue()).text, EVIL);
  await again.getByLabel("Run it on").selectOption("1");
  await again.getByRole("button", { name: "Run again" }).click();
  await again.getByText("Another answer than back then").waitFor();
  const difference = again.getByRole("group", { name: "Answers" });
  await difference.locator(".cm-deletedChunk").getByText("from now").waitFor();
  await difference.locator(".cm-changedLine").getByText("from the browser").waitFor();
  await again.getByLabel("Run it on").selectOption("$LATEST");
  await again.getByRole("button", { name: "Run again" }).click();
  await again.getByText("The same answer as back then").waitFor();
  // One that was queued, and one that failed: what it raised is its answer.
  const queued = await elsewhere('{"text":"later"}', { "x-amz-invocation-type": "Event" });
  await ends(queued, "succeeded");
  await look(queued);
  assert.equal(await payload.inputValue(), '{"text":"later"}');
  expected.push("/execute");
  await look(await elsewhere('{"fail":"as it was told"}'));
  await part("What it answered").getByText("ValueError: as it was told").waitFor();
  await again.getByRole("button", { name: "Run again" }).click();
  await again.getByText("The same answer as back then").waitFor();
  // Bytes are given again as they were, and need not be text.
  await look(await elsewhere(Buffer.from([0, 255, 254]), { "content-type": "application/octet-stream" }));
  await part("What it was given").getByText("AP/+").waitFor();
  await again.getByRole("button", { name: "Run again" }).click();
  await again.getByText("The same answer as back then").waitFor();
  expected.length = 0;
  // What is too much to be kept is said to be.
  await look(await elsewhere(JSON.stringify({ text: "x".repeat(20_000) })));
  await part("What it was given").getByText("more than Hearth keeps").waitFor();
  await again.getByText("With a payload of yours").waitFor();
  await page.getByLabel("Search calls").fill("no such call");
  await page.getByText(/None of the latest/).waitFor();
  await unhurt(page);
});

test("who had to make room is told, and for whom", async () => {
  const { pool } = JSON.parse((await api("GET", "/overview")).body);
  // One more than there is room for, each as large as may be.
  const memory = 10_240;
  const roomy = Array.from({ length: Math.floor(pool.memory_total / (memory * 2 ** 20)) + 1 }, (_, n) => `roomy-${n}`);
  for (const name of roomy) {
    const made = await api("POST", "/functions/", { name, language: "python", code: CODE, memory });
    assert.equal(made.status, 201, made.body);
    const called = await api("POST", `/functions/${name}/execute`, {});
    assert.equal(called.status, 200, called.body);
  }
  await open("/dashboard/pool");
  const told = card("Evictions").getByRole("listitem").filter({ hasText: `in favour of ${roomy.at(-1)} by pool.memory_budget_mb` });
  await told.filter({ has: page.locator("b", { hasText: "roomy-" }) }).first().waitFor();
  await accessible(page, "the pool with evictions");
  for (const name of roomy) await api("DELETE", `/functions/${name}`);
});

test("nothing was complained about", () => assert.deepEqual(complaints, []));
