/** The service worker: answers from the kept files, and replaces them when the page's build changes. */

interface Scope {
  readonly registration: { readonly scope: string };
  readonly clients: { claim(): Promise<void> };
  skipWaiting(): Promise<void>;
  addEventListener(type: string, listener: (event: WorkerEvent) => void): void;
}
interface WorkerEvent extends Event {
  readonly request: Request;
  readonly data: { readonly keep: readonly string[] };
  waitUntil(work: Promise<unknown>): void;
  respondWith(answer: Promise<Response>): void;
}

declare const BUILD: string;
const scope = globalThis as unknown as Scope;
const STORE = `kpdetect-${BUILD}`;
const RUNTIME = ["litert/litert_wasm_internal", "litert/litert_wasm_compat_internal"];

scope.addEventListener("install", (event) => event.waitUntil(scope.skipWaiting()));

scope.addEventListener("activate", (event) => {
  const clean = caches.keys().then((names) =>
    Promise.all(names.filter((name) => name.startsWith("kpdetect-") && name !== STORE).map((name) => caches.delete(name))),
  );
  event.waitUntil(clean.then(() => scope.clients.claim()));
});

scope.addEventListener("message", (event) => {
  const supportsRelaxed = RUNTIME[WebAssembly.validate(RELAXED_SIMD) ? 0 : 1];
  const runtime = [".js", ".wasm.gz"].map((suffix) => new URL(supportsRelaxed + suffix, scope.registration.scope).href);
  event.waitUntil(
    caches.open(STORE).then((store) =>
      Promise.all([...event.data.keep, ...runtime].map(async (address) => (await store.match(address)) ?? store.add(address).catch(() => undefined))),
    ),
  );
});

const RELAXED_SIMD = Uint8Array.of(
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15, 253, 128, 2, 11,
);

scope.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || !request.url.startsWith(scope.registration.scope)) return;
  event.respondWith(answer(request));
});

/** From the network, so that a new model is seen; without one, what was kept. */
async function answer(request: Request): Promise<Response> {
  const store = await caches.open(STORE);
  try {
    const response = await fetch(request);
    if (response.ok && response.status === 200) await store.put(request, response.clone());
    return response;
  } catch (error) {
    const kept = await store.match(request, { ignoreSearch: true });
    if (kept) return kept;
    throw error;
  }
}
