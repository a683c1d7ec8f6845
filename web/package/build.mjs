/** Builds dist/ (the module and its types) and assets/ (worker and LiteRT), which a page serves from one folder. */

import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const shared = { bundle: true, minify: true, target: "es2022", legalComments: "none", logLevel: "warning" };

for (const folder of ["dist", "assets"]) rmSync(here(folder), { recursive: true, force: true });
await build({ ...shared, entryPoints: [here("src/index.ts")], outfile: here("dist/index.js"), format: "esm" });
await build({ ...shared, entryPoints: [here("src/worker.ts")], outfile: here("assets/worker.js"), format: "iife" });
execFileSync("node", [here("node_modules/typescript/bin/tsc"), "-p", here("tsconfig.types.json")], { stdio: "inherit" });

mkdirSync(here("assets/litert"), { recursive: true });
for (const build of ["litert_wasm_internal", "litert_wasm_compat_internal"]) {
  const from = here(`node_modules/@litertjs/core/wasm/${build}`);
  cpSync(`${from}.js`, here(`assets/litert/${build}.js`));
  const packed = gzipSync(readFileSync(`${from}.wasm`), { level: 9 });
  packed[9] = 255; // the operating system, which would differ between machines
  writeFileSync(here(`assets/litert/${build}.wasm.gz`), packed);
}
writeFileSync(
  here("assets/litert/NOTICE.txt"),
  "LiteRT.js (https://github.com/google-ai-edge/LiteRT), Apache License 2.0, from the npm package @litertjs/core.\n",
);
