/** `Predictor` and `Tracker`: from pictures to faces, in a worker. */

import type { Progress } from "./assets";
import type { PredictOptions, RawFace, Times } from "./engine";
import type { Face } from "./face";
import { tightBox, type Box, type Point } from "./geometry";
import type { Accelerator } from "./litert";
import type { Answers, Kind, Reply, Requests, Sent } from "./messages";
import type { Schema, Settings, Spec } from "./settings";
import type { TrackerOptions } from "./tracking";

const GREATEST_SIDE = 4096; // pixels; larger canvases may fail in browsers of phones

/** A picture: a file, an element of the page, a canvas, a bitmap or pixels. */
export type Image =
  | Blob | HTMLImageElement | HTMLVideoElement | HTMLCanvasElement | OffscreenCanvas | ImageBitmap | ImageData;

/** Options of `Predictor.load`. */
export interface LoadOptions {
  /** The address of the folder with the model, the runtime and the worker; by default `kpdetect/` beside the page. */
  readonly base?: string | URL;
  /** `auto` uses WebGPU if there is an adapter, and otherwise the processor. */
  readonly accelerator?: "auto" | Accelerator;
  /** Called while files are loaded, with bytes. */
  readonly onProgress?: (progress: Progress) => void;
}

/** A loaded model. Call it with a picture: `const faces = await predictor(picture)`. */
export interface Predictor {
  /**
   * Predicts the faces of a picture.
   *
   * @returns the faces, largest first, or in the order of `options.boxes`
   * @throws Error if the picture cannot be read
   */
  (image: Image, options?: PredictOptions): Promise<Face[]>;
  readonly spec: Spec;
  readonly schema: Schema;
  readonly settings: Settings;
  /** The address of the model's folder. */
  readonly base: string;
  readonly accelerator: Accelerator;
  /** Milliseconds of the last call's steps. */
  readonly times: Times;
  /** Stops the worker and frees its memory. */
  close(): void;
  /** @internal */
  readonly connection: Connection;
}

/** Loads models. */
export const Predictor = {
  /**
   * Loads the model of a folder.
   *
   * @example
   * const predictor = await Predictor.load({ base: "kpdetect/" });
   * const [face] = await predictor(document.querySelector("img"));
   */
  async load(options: LoadOptions = {}): Promise<Predictor> {
    const base = folderAddress(options.base ?? "kpdetect/");
    const connection = new Connection(new URL("worker.js", base).href);
    try {
      const content = { base, accelerator: options.accelerator ?? "auto" };
      const loaded = await connection.ask("load", content, [], options.onProgress);
      return asPredictor(connection, base, loaded);
    } catch (error) {
      connection.close();
      throw error;
    }
  },
};

function asPredictor(connection: Connection, base: string, { spec, settings, accelerator }: Answers["load"]): Predictor {
  let times: Times = { detect: 0, crop: 0, model: 0 };
  async function predict(image: Image, options: PredictOptions = {}): Promise<Face[]> {
    const { picture, scale } = await toSend(image);
    const boxes = options.boxes?.map((box) => scaledBox(box, 1 / scale));
    const content = { picture, options: boxes ? { ...options, boxes } : options };
    const answer = await connection.ask("predict", content, transferable(picture));
    times = answer.times;
    return answer.faces.map((face) => toFace(face, spec.schema, scale));
  }
  return Object.defineProperties(predict, {
    spec: { value: spec },
    schema: { value: spec.schema },
    settings: { value: settings },
    base: { value: base },
    accelerator: { value: accelerator },
    times: { get: () => times },
    close: { value: () => connection.close() },
    connection: { value: connection },
  }) as unknown as Predictor;
}

/** A tracked face: its number, from 1, which is the same in every frame, and the face with smoothed points. */
export interface TrackedFace {
  readonly id: number;
  readonly face: Face;
}

/**
 * Tracks the faces of one video.
 *
 * @example
 * const tracker = new Tracker(predictor);
 * const tracked = await tracker.next(video, video.currentTime);
 */
export class Tracker {
  private static made = 0;
  private readonly number = ++Tracker.made;
  private last: Times = { detect: 0, crop: 0, model: 0 };

  constructor(
    private readonly predictor: Predictor,
    private readonly options: Partial<TrackerOptions> = {},
  ) {}

  /** Milliseconds of the last frame's steps. */
  get times(): Times {
    return this.last;
  }

  /**
   * Tracks the faces into the next frame.
   *
   * @param timeS the time of the frame in seconds, rising
   */
  async next(image: Image, timeS: number): Promise<TrackedFace[]> {
    const { connection, schema } = this.predictor;
    const { picture, scale } = await toSend(image);
    const content = { picture, tracker: this.number, timeS, options: this.options };
    const answer = await connection.ask("track", content, transferable(picture));
    this.last = answer.times;
    return answer.faces.map(({ id, face }) => ({ id, face: toFace(face, schema, scale) }));
  }

  /** Frees the tracker. */
  close(): void {
    void this.predictor.connection.ask("forget", { tracker: this.number }).catch(() => undefined);
  }
}

/** Asks the worker, and matches its answers to the questions. */
export class Connection {
  private readonly worker: Worker;
  private readonly waiting = new Map<number, { done(reply: Reply): void; fail(error: Error): void }>();
  private asked = 0;
  private failure: Error | null = null;

  constructor(script: string) {
    this.worker = startWorker(script);
    this.worker.addEventListener("message", ({ data }: MessageEvent<Reply>) => this.waiting.get(data.id)?.done(data));
    this.worker.addEventListener("error", (event) => this.fail(new Error(event.message || `${script}: cannot be loaded`)));
  }

  ask<K extends Kind>(
    kind: K, content: Requests[K], transfer: Transferable[] = [], onProgress?: (progress: Progress) => void,
  ): Promise<Answers[K]> {
    if (this.failure) return Promise.reject(this.failure);
    const id = ++this.asked;
    return new Promise((resolve, reject) => {
      const done = (reply: Reply) => {
        if ("progress" in reply) {
          onProgress?.(reply.progress);
          return;
        }
        this.waiting.delete(id);
        if ("error" in reply) reject(new Error(reply.error));
        else resolve(reply.answer as Answers[K]);
      };
      this.waiting.set(id, { done, fail: reject });
      this.worker.postMessage({ id, kind, content }, transfer);
    });
  }

  close(): void {
    this.worker.terminate();
    this.fail(new Error("the predictor was closed"));
  }

  private fail(error: Error): void {
    this.failure = error;
    for (const { fail } of this.waiting.values()) fail(error);
    this.waiting.clear();
  }
}

/** A classic worker, because LiteRT loads its script with importScripts. One of another origin needs a local stub. */
function startWorker(script: string): Worker {
  if (new URL(script).origin === location.origin) return new Worker(script, { name: "kpdetect" });
  const stub = URL.createObjectURL(new Blob([`importScripts(${JSON.stringify(script)})`], { type: "text/javascript" }));
  return new Worker(stub, { name: "kpdetect" });
}

function folderAddress(base: string | URL): string {
  const address = new URL(base, document.baseURI).href;
  return address.endsWith("/") ? address : `${address}/`;
}

/** A picture to send, and pixels of the original per pixel of it. */
async function toSend(image: Image): Promise<{ picture: Sent; scale: number }> {
  if (image instanceof ImageData) return { picture: { width: image.width, height: image.height, rgba: image.data }, scale: 1 };
  const whole = await createImageBitmap(image, image instanceof Blob ? { imageOrientation: "from-image" } : {});
  const scale = Math.max(Math.max(whole.width, whole.height) / GREATEST_SIDE, 1);
  let bitmap = whole;
  if (scale > 1) {
    const [resizeWidth, resizeHeight] = [Math.round(whole.width / scale), Math.round(whole.height / scale)];
    bitmap = await createImageBitmap(whole, { resizeWidth, resizeHeight, resizeQuality: "high" });
    whole.close();
  }
  return { picture: typeof OffscreenCanvas === "undefined" ? pixelsOf(bitmap) : bitmap, scale };
}

/** For browsers without canvases in workers. */
function pixelsOf(bitmap: ImageBitmap): Sent {
  const { width, height } = bitmap;
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (context === null) throw new Error("this browser has no canvas");
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { width, height, rgba: context.getImageData(0, 0, width, height).data };
}

function transferable(picture: Sent): Transferable[] {
  return "rgba" in picture ? [] : [picture];
}

function toFace(raw: RawFace, schema: Schema, scale: number): Face {
  const keypoints = scale === 1 ? raw.keypoints : raw.keypoints.map(([x, y]): Point => [scaled(x, scale), scaled(y, scale)]);
  return {
    keypoints,
    schema,
    box: tightBox(keypoints),
    detectionBox: scaledBox(raw.detectionBox, scale),
    score: raw.score,
    uncertainty: raw.uncertainty && raw.uncertainty.map((error) => error * scale),
    visibility: raw.visibility,
  };
}

function scaledBox([x0, y0, x1, y1]: Box, scale: number): Box {
  return [scaled(x0, scale), scaled(y0, scale), scaled(x1, scale), scaled(y1, scale)];
}

/** A coordinate in a picture that is `scale` times as large; pixel centres are integers. */
function scaled(value: number, scale: number): number {
  return (value + 0.5) * scale - 0.5;
}
