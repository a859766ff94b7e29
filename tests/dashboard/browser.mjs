// What the tests of the dashboard share: the browser, what it complained about, a look at how a page is drawn, and who to ask about
// accessibility.
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { join } from "node:path";
import { inflateSync } from "node:zlib";
import { chromium } from "playwright-core";
import { zipSync } from "../../dashboard/node_modules/fflate/esm/index.mjs";

export const url = process.env.TEST_URL;
export const key = process.env.TEST_KEY;
const shots = process.env.TEST_SHOTS;
const axe = await readFile(join(import.meta.dirname, "node_modules/axe-core/axe.min.js"), "utf8");

/** Whatever is waited for here comes, or something is broken. The machine may be slow. */
const PATIENCE = Number(process.env.TEST_PATIENCE ?? 60_000);

export async function launch() {
  const browser = await chromium.launch({
    executablePath: process.env.TEST_BROWSER,
    args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
    timeout: PATIENCE,
  });
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, reducedMotion: "reduce" });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  const complaints = [];
  /** Answers that a test asks for on purpose; the browser complains about every one. */
  const expected = [];
  page.on("console", (message) => {
    if (message.type() !== "error") return;
    const at = message.location().url;
    const asked = message.text().startsWith("Failed to load resource") && expected.some((part) => at.includes(part));
    if (!asked) complaints.push(`${message.text()} (${at})`);
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  const requested = new Set();
  page.on("request", (request) => requested.add(new URL(request.url()).origin));
  return { browser, context, page, complaints, expected, requested };
}

/** What the machines that check accessibility find. */
export async function accessible(page, where) {
  await page.evaluate(axe);
  const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  const text = found.violations.map(({ id, help, nodes }) => `${id}: ${help}\n    ${nodes.map((node) => `${node.target.join(" ")}: ${node.failureSummary}`).join("\n    ")}`);
  assert.deepEqual(text, [], `${where}: ${text.join("\n")}`);
}

/** Takes a picture, and looks at it: something is drawn, and nothing is wider than the screen. */
export async function looks(page, name) {
  const { wide, screen, widest } = await page.evaluate(() => {
    const root = document.documentElement;
    const over = [...document.body.querySelectorAll("*")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1);
    return { wide: root.scrollWidth, screen: innerWidth, widest: over.slice(0, 5).map((e) => `${e.tagName}.${e.className}`) };
  });
  assert.ok(wide <= screen, `${name}: ${wide} pixels wide on a screen of ${screen}: ${widest.join(", ")}`);
  const png = await page.screenshot({ animations: "disabled" });
  await writeFile(join(shots, `${name}.png`), png);
  const { colours, most } = counted(png);
  assert.ok(colours > 20, `${name}: only ${colours} colours`);
  assert.ok(most < 0.985, `${name}: ${(100 * most).toFixed(1)} % of it is one colour`);
}

/** How many colours are in a picture, and how much of it the most frequent one is. Reads what this browser writes: 8 bits, not interlaced. */
function counted(png) {
  let [at, width, channels] = [8, 0, 3];
  const data = [];
  while (at < png.length) {
    const length = png.readUInt32BE(at);
    const kind = png.toString("latin1", at + 4, at + 8);
    const body = png.subarray(at + 8, at + 8 + length);
    if (kind === "IHDR") {
      width = body.readUInt32BE(0);
      assert.deepEqual([body[8], body[12]], [8, 0], "a picture of another form");
      channels = body[9] === 6 ? 4 : 3;
    } else if (kind === "IDAT") data.push(body);
    at += length + 12;
  }
  const raw = inflateSync(Buffer.concat(data));
  const stride = width * channels;
  const lines = raw.length / (stride + 1);
  let before = new Uint8Array(stride);
  const seen = new Map();
  for (let y = 0; y < lines; y++) {
    const filter = raw[y * (stride + 1)];
    const line = Uint8Array.from(raw.subarray(y * (stride + 1) + 1, (y + 1) * (stride + 1)));
    for (let x = 0; x < stride; x++) {
      const a = x >= channels ? line[x - channels] : 0;
      const b = before[x];
      const c = x >= channels ? before[x - channels] : 0;
      if (filter === 1) line[x] += a;
      else if (filter === 2) line[x] += b;
      else if (filter === 3) line[x] += (a + b) >> 1;
      else if (filter === 4) {
        const [pa, pb, pc] = [Math.abs(b - c), Math.abs(a - c), Math.abs(a + b - 2 * c)];
        line[x] += pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
      }
    }
    for (let x = 0; x < stride; x += channels) {
      const colour = (line[x] << 16) | (line[x + 1] << 8) | line[x + 2];
      seen.set(colour, (seen.get(colour) ?? 0) + 1);
    }
    before = line;
  }
  return { colours: seen.size, most: Math.max(...seen.values()) / (width * lines) };
}

/** Has the server ended and started again, at the same address. */
export const startAgain = () => process.kill(Number(process.env.TEST_RUNNER), "SIGUSR1");

/** Has the server stand still, with its connections open, or go on. */
export const freeze = () => process.kill(Number(process.env.TEST_RUNNER), "SIGUSR2");

/** A request as no browser would send it. */
export function raw(path, { method = "GET", headers = {}, body } = {}) {
  return new Promise((done, failed) => {
    const sent = request(new URL(path, url), { method, headers, agent: false }, (response) => {
      const parts = [];
      response.on("data", (part) => parts.push(part));
      response.on("end", () => done({ status: response.statusCode, headers: response.headers, body: Buffer.concat(parts) }));
    });
    sent.on("error", failed);
    sent.end(body);
  });
}

/** The native API, with the key. */
export async function api(method, path, body, headers = {}) {
  const response = await fetch(url + path, {
    method,
    headers: { authorization: `Bearer ${key}`, ...headers, ...(body === undefined ? {} : { "content-type": "application/json" }) },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  return { status: response.status, body: await response.text() };
}

/** Would be noticed if it ever were more than text. */
export const EVIL = `<img src=x onerror="globalThis.evil=1"><script>globalThis.evil=1</script>"'><svg onload=globalThis.evil=1>`;
/** A function that says what it does, and fails when asked to. */
export const CODE = `import json

def handler(event, context):
    print("seen:", event.get("text", "nothing"))
    if "fail" in event:
        raise ValueError(event["fail"])
    return {"greeting": "from the browser", "text": event.get("text")}
`;

/** What a person does on a page. */
export function hands(page) {
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
  /** Drops a zip of these files on the page. */
  const drop = async (name, files) => {
    const zip = zipSync(Object.fromEntries(Object.entries(files).map(([path, text]) => [path, new TextEncoder().encode(text)])));
    const dataTransfer = await page.evaluateHandle(
      ([name, bytes]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], name, { type: "application/zip" }));
        return data;
      },
      [name, [...zip]],
    );
    await page.dispatchEvent("main", "dragover", { dataTransfer });
    await page.locator(".drop.over").waitFor();
    await page.dispatchEvent("main", "drop", { dataTransfer });
  };
  return { open, button, tab, card, codeEditor, eventEditor, write, run, drop };
}

/** Waits until an asynchronous call stands so. */
export const ends = async (id, state) => {
  for (const from = Date.now(); ; ) {
    const { body } = await api("GET", `/invocations/${id}`);
    const now = JSON.parse(body);
    if (now.state === state) return;
    assert.ok(Date.now() - from < 60_000, body);
    await new Promise((done) => setTimeout(done, 50));
  }
};

/** Nothing of what others wrote became more than text. */
export async function unhurt(page) {
  assert.equal(await page.evaluate(() => globalThis.evil), undefined);
  assert.equal(await page.locator("img, main script, svg[onload]").count(), 0);
}
