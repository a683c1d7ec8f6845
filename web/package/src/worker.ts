/** The worker: finder and model in one place, so that the page stays responsive. Requests run one after the other. */

import { Engine, Picture } from "./engine";
import type { Answers, Kind, Reply, Request, Requests, Sent } from "./messages";
import type { Frame } from "./pixels";
import { FaceTracker } from "./tracking";

interface WorkerScope {
  postMessage(reply: Reply): void;
  addEventListener(type: "message", listener: (event: MessageEvent<Request>) => void): void;
}

const scope = globalThis as unknown as WorkerScope;
const trackers = new Map<number, FaceTracker>();
let engine: Engine | undefined;
let canvas: OffscreenCanvas | undefined;
let queue: Promise<unknown> = Promise.resolve();

function loaded(): Engine {
  if (!engine) throw new Error("the model is not loaded");
  return engine;
}

const handlers: { readonly [K in Kind]: (content: Requests[K], id: number) => Promise<Answers[K]> } = {
  async load({ base, accelerator }, id) {
    engine = await Engine.load(base, accelerator, (progress) => scope.postMessage({ id, progress }));
    return { spec: engine.spec, settings: engine.settings, accelerator: engine.accelerator };
  },
  async predict({ picture, options }) {
    return loaded().predict(new Picture(read(picture)), options);
  },
  async track({ picture, tracker, timeS, options }) {
    const known = trackers.get(tracker) ?? new FaceTracker(loaded(), options);
    trackers.set(tracker, known);
    const times = { detect: 0, crop: 0, model: 0 };
    const faces = await known.next(new Picture(read(picture)), timeS, times);
    return { faces, times };
  },
  async forget({ tracker }) {
    trackers.delete(tracker);
    return null;
  },
};

/** The pixels of a picture; a bitmap is drawn on a canvas that is reused. */
function read(picture: Sent): Frame {
  if (!(picture instanceof ImageBitmap)) return picture;
  const { width, height } = picture;
  canvas ??= new OffscreenCanvas(width, height);
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (context === null) throw new Error("this browser has no canvas in workers");
  context.clearRect(0, 0, width, height);
  context.drawImage(picture, 0, 0);
  picture.close();
  return { width, height, rgba: context.getImageData(0, 0, width, height).data };
}

async function answer<K extends Kind>({ id, kind, content }: Request<K>): Promise<void> {
  try {
    scope.postMessage({ id, answer: await handlers[kind](content, id) });
  } catch (error) {
    scope.postMessage({ id, error: error instanceof Error ? error.message : String(error) });
  }
}

scope.addEventListener("message", ({ data }) => {
  queue = queue.then(() => answer(data));
});
