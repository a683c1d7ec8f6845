/** A face, and its parts by name. */

import type { Box, Point } from "./geometry";
import type { Schema } from "./settings";

/** A face; coordinates in pixels of the picture, pixel centres on integers. */
export interface Face {
  /** (x, y) of each point, in the order of `schema.point_names`. */
  readonly keypoints: readonly Point[];
  readonly schema: Schema;
  /** The tight box of the points. */
  readonly box: Box;
  /** The box that the points were predicted from. */
  readonly detectionBox: Box | null;
  /** The probability that this is a face; null if the model has no score. */
  readonly score: number | null;
  /** The expected error of each point in pixels; null if the model does not estimate it. */
  readonly uncertainty: readonly number[] | null;
  /** The probability that each point is seen and not hidden; null if the model does not estimate it. */
  readonly visibility: readonly number[] | null;
}

/** The points of a group, such as `group(face, "left_eye")`. */
export function group(face: Face, name: string): Point[] {
  const indices = face.schema.groups[name];
  if (!indices) throw new RangeError(`group '${name}': expected one of ${Object.keys(face.schema.groups).join(", ")}`);
  return indices.map((index) => face.keypoints[index]);
}

/** One point by its name, such as `point(face, "nose_tip")`. */
export function point(face: Face, name: string): Point {
  const index = face.schema.point_names.indexOf(name);
  if (index < 0) throw new RangeError(`point '${name}': the scheme '${face.schema.name}' has no such point`);
  return face.keypoints[index];
}

const CONFIDENT_ERROR = 0.08; // as in kpdetect/detection/face.py

/** The probability of each point to be within 8 % of the eye distance of its true place; null without an uncertainty. */
export function keypointConfidence({ keypoints, schema, uncertainty }: Face): number[] | null {
  if (uncertainty === null || schema.normalizer_points === null) return null;
  const [first, second] = schema.normalizer_points.map((index) => keypoints[index]);
  const limit = CONFIDENT_ERROR * Math.hypot(first[0] - second[0], first[1] - second[1]);
  return uncertainty.map((error) => {
    const ratio = (2 * limit) / Math.max(error, 1e-9);
    return Math.min(Math.max(1 - (1 + ratio) * Math.exp(-Math.min(ratio, 700)), 0), 1);
  });
}

const SEEN = 0.5;

/** Whether each point is guessed: hidden by its visibility, or without one, more likely than not to be off by 8 %. */
export function guessed(face: Face): boolean[] {
  const certain = face.visibility ?? keypointConfidence(face);
  return face.keypoints.map((_, index) => certain !== null && certain[index] < SEEN);
}
