// Builds the dashboard into dist/, as the binary embeds it: files named after their content, each plain and compressed, and a list of them.
//
//   node build.mjs          once
//   node build.mjs --watch  again with every change, for work on it (the server has to be built again to show it)
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { build } from "vite";

const here = import.meta.dirname;
const dist = join(here, "dist");
const TYPES = { js: "text/javascript; charset=utf-8", css: "text/css; charset=utf-8", html: "text/html; charset=utf-8", svg: "image/svg+xml" };
// What a browser loads at the first visit, editor included, compressed with gzip.
const TRANSFER_MAX = 300 * 1024;

await build({
  root: here,
  configFile: false,
  base: "/dashboard/",
  logLevel: "warn",
  publicDir: false,
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  plugins: [{ name: "pack", enforce: "post", generateBundle: { order: "post", handler: (_, bundle) => pack(Object.values(bundle)) } }],
  build: {
    write: false,
    watch: process.argv.includes("--watch") ? {} : null,
    target: ["es2022", "chrome123", "firefox120", "safari17.5"],
    // Everything that is needed at first is in the page.
    modulePreload: false,
    chunkSizeWarningLimit: 1000,
    rolldownOptions: {
      input: { app: "src/main.tsx", style: "src/style.css", icon: "src/icon.svg?no-inline" },
      output: {
        entryFileNames: "assets/[name]-[hash].js",
        chunkFileNames: "assets/[name]-[hash].js",
        assetFileNames: "assets/[name]-[hash][extname]",
      },
    },
  },
});

async function pack(output) {
  const files = output.map((file) => [file.fileName, Buffer.from(file.code ?? file.source)]);
  const named = (name) => files.map(([path]) => path).find((path) => path.startsWith(`assets/${name}-`));
  const page = (await readFile(join(here, "src/index.html"), "utf8"))
    .replace("STYLE", `/dashboard/${named("style")}`)
    .replace("ICON", `/dashboard/${named("icon")}`)
    .replace("SCRIPT", `/dashboard/${files.map(([path]) => path).find((path) => /assets\/app-.*\.js$/.test(path))}`);
  files.push(["index.html", Buffer.from(page)]);
  // What is in the list is there: it is written last, and what was there before goes first.
  for (const old of await readdir(dist)) if (old !== ".gitignore") await rm(join(dist, old), { recursive: true });
  let transfer = 0;
  const list = [];
  for (const [path, content] of files.sort(([a], [b]) => (a < b ? -1 : 1))) {
    const gzip = gzipSync(content, { level: 9 });
    const brotli = brotliCompressSync(content, { params: { [constants.BROTLI_PARAM_SIZE_HINT]: content.length } });
    const to = join(dist, path);
    await mkdir(dirname(to), { recursive: true });
    await Promise.all([writeFile(to, content), writeFile(`${to}.gz`, gzip), writeFile(`${to}.br`, brotli)]);
    const tag = createHash("sha256").update(content).digest("hex").slice(0, 16);
    list.push([path, TYPES[path.split(".").pop()], tag, path !== "index.html"].join("\t"));
    transfer += gzip.length;
  }
  await writeFile(join(dist, "assets.txt"), `${list.join("\n")}\n`);
  console.log(`dashboard: ${files.length} files, ${Math.ceil(transfer / 1024)} KiB to transfer`);
  if (transfer > TRANSFER_MAX) throw new Error(`more than ${TRANSFER_MAX / 1024} KiB to transfer`);
}
