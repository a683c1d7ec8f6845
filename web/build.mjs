/** Builds the package and the page into web/built, which is packaged with kpdetect. Run `npm ci` in web/package first. */

import { createHash } from "node:crypto";
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import "./package/build.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const { build } = createRequire(here("package/package.json"))("esbuild");
const out = here("built");

rmSync(out, { recursive: true, force: true });
mkdirSync(out);
cpSync(here("package/assets"), out, { recursive: true });
for (const name of ["index.html", "manifest.webmanifest", "icon.svg", "icon-192.png", "icon-512.png", "samples"]) {
  cpSync(here(`page/${name}`), `${out}/${name}`, { recursive: true });
}
cpSync(here("package/dist/index.js"), `${out}/kpdetect.js`); // the package itself, for pages without a bundler
const shared = { bundle: true, minify: true, target: "es2022", legalComments: "none", logLevel: "warning" };
await build({ ...shared, entryPoints: [here("page/src/main.ts")], outfile: `${out}/page.js`, format: "esm" });
await build({ ...shared, entryPoints: [here("page/page.css")], outfile: `${out}/page.css` });
const digest = createHash("sha256");
for (const name of readdirSync(out, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map((entry) => `${entry.parentPath}/${entry.name}`)
  .sort()) {
  digest.update(readFileSync(name));
}
const BUILD = JSON.stringify(digest.digest("hex").slice(0, 12));
await build({ ...shared, entryPoints: [here("page/src/sw.ts")], outfile: `${out}/sw.js`, format: "iife", define: { BUILD } });
writeFileSync(`${out}/sources.sha256`, `${sourcesDigest()}\n`);

/** A digest of the sources, by which a test without Node.js sees that the build is theirs. */
function sourcesDigest() {
  const hash = createHash("sha256");
  const files = ["package/src", "page"].flatMap((folder) =>
    readdirSync(here(folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => `${entry.parentPath}/${entry.name}`.slice(here("./").length)),
  );
  for (const name of [...files, "package/package.json"].sort()) hash.update(`${name}\0`).update(readFileSync(here(name))).update("\0");
  return hash.digest("hex");
}
