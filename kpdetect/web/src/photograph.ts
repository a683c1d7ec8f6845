/**
 * Faces of a photograph: detect, predict, and drop those with a low score. If none is left, the model searches for
 * large faces itself.
 */

import type { Engine } from "./engine";
import type { Box } from "./geometry";
import type { Spent } from "./marking";
import type { Marked } from "./model.worker";
import type { Frame } from "./pixels";
import { bestOfOverlapping, likelyBoxes, windows } from "./scanning";
import type { Face } from "./spec";

const SMALLEST_FACE = 0.05; // fraction of the photograph's longer side, as in kpdetect predict

export interface PhotographMarks {
  readonly faces: readonly Face[];
  readonly spent: Spent;
  /** null for models of whole pictures, which need no detector. */
  readonly detectMs: number | null;
}

export async function markPhotograph(engine: Engine, frame: Frame): Promise<PhotographMarks> {
  if (engine.spec.crop.around === "image") return { ...(await engine.markWhole(frame)), detectMs: null };
  const { boxes, ms } = await engine.find(frame, SMALLEST_FACE);
  const found = await judged(engine, frame, boxes);
  if (found.faces.length > 0 || engine.spec.face_score === null) return { ...found, detectMs: ms };
  const start = performance.now();
  const seen = await engine.markBoxes(frame, windows(frame.width, frame.height, engine.settings.scan), false);
  const searchMs = ms + performance.now() - start; // includes the predictions of the windows
  return { ...(await judged(engine, frame, likelyBoxes(seen.faces, engine.settings.scan))), detectMs: searchMs };
}

/** The faces in these boxes that pass the model's score, without duplicates; all of them for a model without a score. */
async function judged(engine: Engine, frame: Frame, boxes: readonly Box[]): Promise<Marked> {
  const marked = await engine.markBoxes(frame, boxes, true);
  if (engine.spec.face_score === null) return marked;
  const { min_score, scan } = engine.settings;
  const likely = marked.faces.filter(({ score }) => (score ?? 1) >= min_score);
  return { ...marked, faces: bestOfOverlapping(likely, scan.same_face) };
}
