/** Bundles the page into dist/ without external addresses, with separate files for loading on demand. */

import { cpSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin } from "vite";

/** Files that are fetched by name at run time and too large for the bundler: source and target. */
const BESIDE: readonly (readonly [string, string])[] = [
  ...["internal", "compat_internal"].flatMap((build) =>
    ["js", "wasm"].map((suffix): [string, string] => [
      `@litertjs/core/wasm/litert_wasm_${build}.${suffix}`,
      `litert/litert_wasm_${build}.${suffix}`,
    ]),
  ),
  ["@techstark/opencv-js/dist/opencv.js", "opencv/opencv.js"],
  ["@techstark/opencv-js/LICENSE", "opencv/LICENSE"],
];

function copyBeside(): Plugin {
  const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
  return {
    name: "copy-beside",
    apply: "build",
    writeBundle() {
      for (const [from, to] of BESIDE) cpSync(here(`node_modules/${from}`), here(`dist/${to}`));
    },
  };
}

export default defineConfig({
  base: "./", // relative, so that the folder works at any address
  publicDir: false,
  build: {
    target: "es2022",
    modulePreload: false, // its polyfill would be an inline script, which the page's policy forbids
    license: { fileName: "licenses.md" },
    assetsInlineLimit: 0, // icons stay files, as the page's policy requires
  },
  worker: { format: "iife" }, // LiteRT and OpenCV need importScripts, which module workers lack
  plugins: [copyBeside()],
});
