// Builds the dashboard into dist/, as the binary embeds it: files named after their content, each plain and compressed, and a list of them.
//
//   node build.mjs          once
//   node build.mjs --watch  again with every change, for work on it (the server has to be built again to show it)
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import * as esbuild from "esbuild";

const here = import.meta.dirname;
const dist = join(here, "dist");
const TYPES = { js: "text/javascript; charset=utf-8", css: "text/css; charset=utf-8", html: "text/html; charset=utf-8", svg: "image/svg+xml" };
// What a browser loads at the first visit, editor included, compressed with gzip.
const TRANSFER_MAX = 300 * 1024;

const options = {
  absWorkingDir: here,
  entryPoints: { app: "src/main.tsx", style: "src/style.css", icon: "src/icon.svg" },
  outdir: "out/assets",
  entryNames: "[name]-[hash]",
  chunkNames: "[name]-[hash]",
  assetNames: "[name]-[hash]",
  bundle: true,
  splitting: true,
  format: "esm",
  target: ["es2022", "chrome123", "firefox120", "safari17.5"],
  minify: true,
  legalComments: "none",
  jsx: "automatic",
  jsxImportSource: "preact",
  loader: { ".svg": "copy" },
  metafile: true,
  write: false,
  logLevel: "warning",
};

const plugin = { name: "pack", setup: (build) => build.onEnd(async (result) => result.errors.length || (await pack(result))) };
if (process.argv.includes("--watch")) {
  await (await esbuild.context({ ...options, plugins: [plugin] })).watch();
} else {
  await pack(await esbuild.build(options));
}

async function pack(result) {
  const files = result.outputFiles.map((file) => [relative(join(here, "out"), file.path), Buffer.from(file.contents)]);
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
