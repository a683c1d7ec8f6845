/** Keeps the files of the page for visits without a network. */

import type { Predictor } from "../../package/src/index";

/** Starts the service worker, and tells it what this visit loaded before it ran. */
export function keepForOffline({ base, settings, accelerator }: Predictor): void {
  if (!("serviceWorker" in navigator)) return;
  const model = accelerator === "webgpu" ? (settings.models.webgpu ?? settings.models.wasm) : settings.models.wasm;
  const loaded = performance.getEntriesByType("resource").map(({ name }) => name);
  const own = ["./", "worker.js", "spec.json", "settings.json", "manifest.webmanifest", "icon.svg", model, settings.finder ?? "./"];
  const addresses = [...own.map((name) => new URL(name, base).href), ...loaded].filter((address) => address.startsWith(base));
  navigator.serviceWorker
    .register("sw.js")
    .then(() => navigator.serviceWorker.ready)
    .then(({ active }) => active?.postMessage({ keep: [...new Set(addresses)] }))
    .catch(() => undefined); // such as in private windows; the page works without
}
