/** The messages between page and worker. */

import type { PredictOptions, Predicted, Times } from "./engine";
import type { Accelerator } from "./litert";
import type { Frame } from "./pixels";
import type { Settings, Spec } from "./settings";
import type { RawTracked, TrackerOptions } from "./tracking";

/** A picture as it is sent: a bitmap, which the worker reads, or pixels. */
export type Sent = ImageBitmap | Frame;

export interface Requests {
  load: { readonly base: string; readonly accelerator: "auto" | Accelerator };
  predict: { readonly picture: Sent; readonly options: PredictOptions };
  track: { readonly picture: Sent; readonly tracker: number; readonly timeS: number; readonly options: Partial<TrackerOptions> };
  forget: { readonly tracker: number };
}

export interface Answers {
  load: { readonly spec: Spec; readonly settings: Settings; readonly accelerator: Accelerator };
  predict: Predicted;
  track: { readonly faces: readonly RawTracked[]; readonly times: Times };
  forget: null;
}

export type Kind = keyof Requests;

export interface Request<K extends Kind = Kind> {
  readonly id: number;
  readonly kind: K;
  readonly content: Requests[K];
}

/** An answer, an error's text, or progress while loading. */
export type Reply =
  | { readonly id: number; readonly answer: Answers[Kind] }
  | { readonly id: number; readonly error: string }
  | { readonly id: number; readonly progress: { readonly loaded: number; readonly total: number } };
