/** From boxes to faces: crop, model, back to the photograph, second prediction and score, as in kpdetect/inference. */

import { warpCrop } from "./crop";
import { apply, cropMatrix, invert, tightBox, toPixels, uprightMatrix, type Box, type Matrix, type Point } from "./geometry";
import type { Plane } from "./pixels";
import type { Face, Spec } from "./spec";

/** A model's output for one crop: points relative to the crop, and the expected error of each. */
export interface Marks {
  readonly keypoints: Float32Array;
  readonly uncertainty: Float32Array | null;
}

/** One crop (height, width, channels) of raw pixels, 0 to 255. */
export type Model = (crop: Uint8ClampedArray) => Promise<Marks>;

/** Time of each step, in milliseconds. */
export interface Spent {
  crop: number;
  model: number;
}

/** Predicts the faces of one photograph with one model, and sums the times. */
export class Marker {
  readonly spent: Spent = { crop: 0, model: 0 };

  constructor(
    private readonly model: Model,
    private readonly spec: Spec,
    private readonly plane: Plane,
  ) {}

  /** The face in a box; with `again`, predicted a second time in an upright crop around its first points. */
  async ofBox(box: Box, again: boolean): Promise<Face> {
    const first = await this.look(box, cropMatrix(this.spec.crop, box));
    return again && canBeTurned(this.spec, first.keypoints) ? this.ofPoints(first.keypoints, box) : first;
  }

  /** The face near given points: one prediction, in an upright crop. */
  async ofPoints(points: readonly Point[], box: Box = tightBox(points)): Promise<Face> {
    if (!canBeTurned(this.spec, points)) return this.look(box, cropMatrix(this.spec.crop, box));
    return this.look(box, uprightMatrix(this.spec.crop, points, acrossEyes(this.spec, points)));
  }

  private async look(box: Box, matrix: Matrix): Promise<Face> {
    const start = performance.now();
    const crop = warpCrop(this.plane, matrix, this.spec.crop.size_hw);
    const cropped = performance.now();
    const { keypoints, uncertainty } = await this.model(crop);
    this.spent.crop += cropped - start;
    this.spent.model += performance.now() - cropped;
    if (![...keypoints, ...(uncertainty ?? [])].every(Number.isFinite)) {
      throw new Error("the model output is not finite; its file is damaged");
    }
    return toFace(this.spec, box, matrix, keypoints, uncertainty);
  }
}

function toFace(spec: Spec, box: Box, matrix: Matrix, relative: Float32Array, uncertainty: Float32Array | null): Face {
  const back = invert(matrix);
  const keypoints = spec.schema.point_names.map((_, i) =>
    apply(back, toPixels([relative[2 * i], relative[2 * i + 1]], spec.crop.size_hw)),
  );
  const sidePx = Math.max(...spec.crop.size_hw) * Math.hypot(back[0], back[3]);
  return {
    box,
    keypoints,
    uncertainty: uncertainty && Array.from(uncertainty, (share) => share * sidePx),
    score: uncertainty && faceScore(uncertainty, spec.face_score),
  };
}

/** The face score, 0 to 1, from the mean uncertainty; null for models without one. */
export function faceScore(uncertainty: ArrayLike<number>, rule: Spec["face_score"]): number | null {
  if (rule === null) return null;
  const mean = Array.from(uncertainty).reduce((total, one) => total + one, 0) / uncertainty.length;
  const exponent = rule.slope * (Math.log(Math.max(mean, 1e-9)) - rule.middle);
  return 1 / (1 + Math.exp(Math.min(Math.max(exponent, -50), 50)));
}

/** Whether a face's points define a crop, that is, span an area. */
function canBeTurned(spec: Spec, points: readonly Point[]): boolean {
  const [x0, y0, x1, y1] = tightBox(points);
  return spec.crop.around === "face" && Math.min(x1 - x0, y1 - y0) > 1 && Math.hypot(...acrossEyes(spec, points)) > 0;
}

/** From eye to eye towards the right of the picture, by the two normaliser points; or horizontal. */
function acrossEyes({ schema }: Spec, points: readonly Point[]): Point {
  if (schema.normalizer_points === null) return [1, 0];
  const [first, second] = schema.normalizer_points.map((index) => points[index]);
  const across: Point = [second[0] - first[0], second[1] - first[1]];
  return across[0] < 0 ? [-across[0], -across[1]] : across;
}
