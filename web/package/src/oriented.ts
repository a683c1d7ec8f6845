/** Oriented face boxes: centre, size in the face's own upright frame, and rotation (kpdetect/detection/oriented.py). */

import { apply, compose, cropMatrix, tightBox, type Box, type CropRule, type Matrix, type Point } from "./geometry";
import type { Schema } from "./settings";

/** Groups of a scheme whose points are a mouth. */
const MOUTH_GROUPS = ["outer_lip", "inner_lip", "mouth"];

/** Pixels, and the roll in radians: positive if the head leans clockwise in the picture. */
export interface Oriented {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  readonly roll: number;
}

/** The parts of a scheme that give a face its direction. */
export type Directions = Pick<Schema, "normalizer_points" | "groups">;

const HALF_OUTLINE: readonly Point[] = [
  [0.26, -0.5], [0.34, -0.48], [0.4, -0.43], [0.5, -0.32], [0.5, -0.19], [0.48, -0.05], [0.45, 0.08], [0.4, 0.21],
  [0.32, 0.32], [0.23, 0.41], [0.12, 0.48], [0, 0.5],
];
/** The outline of a mean face, in widths and heights of its upright box from the box's centre. */
const OUTLINE: readonly Point[] = [...HALF_OUTLINE, ...HALF_OUTLINE.slice(0, -1).map(([x, y]): Point => [-x, y])];

/** The axis-aligned box of an oriented one: the tight box of a mean face's outline in its place. */
export function tightBoxOf({ x, y, width, height, roll }: Oriented): Box {
  const [cos, sin] = [Math.cos(roll), Math.sin(roll)];
  const points = OUTLINE.map(([u, v]): Point => [cos * u * width - sin * v * height, sin * u * width + cos * v * height]);
  const xs = points.map((point) => point[0]);
  const ys = points.map((point) => point[1]);
  return [x + Math.min(...xs), y + Math.min(...ys), x + Math.max(...xs), y + Math.max(...ys)];
}

/** Photograph to an upright crop of an oriented box. */
export function orientedMatrix(rule: CropRule, { x, y, width, height, roll }: Oriented): Matrix {
  const [cos, sin] = [Math.cos(roll), Math.sin(roll)];
  // Turned about the centre of the box, which stays where it is.
  const turn: Matrix = [cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y];
  return compose(cropMatrix(rule, [x - width / 2, y - height / 2, x + width / 2, y + height / 2]), turn);
}

/**
 * The direction across a face, towards the right of the crop: the vector from eye to eye, between the two normaliser
 * points, plus the vector from the eyes to the mouth, turned by 90 degrees, because the eyes of a profile are nearly in
 * one place. Without normaliser points it is the crop's x axis.
 *
 * @param matrix photograph to the crop that the points were predicted from
 */
export function acrossFace(points: readonly Point[], [a, b]: Matrix, schema: Directions): Point {
  const { across, beside } = directionsOf(points, schema);
  if (across === null) return [a, b];
  return beside === null ? towards(across, [a, b]) : sum(towards(across, [a, b]), towards(beside, [a, b]));
}

/** The oriented box of a face that leans by more than `certainDeg`; null for others. */
export function leaning(points: readonly Point[], schema: Directions, certainDeg: number): Oriented | null {
  const { across, beside } = directionsOf(points, schema);
  if (across === null) return null;
  const [x, y] = beside === null ? towards(across, [1, 0]) : sum(towards(across, beside), beside);
  const roll = Math.atan2(y, x);
  if (Math.abs(roll) <= (certainDeg * Math.PI) / 180) return null;
  const [cos, sin] = [Math.cos(roll), Math.sin(roll)];
  const [x0, y0, x1, y1] = tightBox(points.map((point) => apply([cos, sin, 0, -sin, cos, 0], point)));
  const [cx, cy] = apply([cos, -sin, 0, sin, cos, 0], [(x0 + x1) / 2, (y0 + y1) / 2]);
  return { x: cx, y: cy, width: x1 - x0, height: y1 - y0, roll };
}

/** Two directions across a face: from eye to eye, and from the eyes to the mouth, turned by 90 degrees. */
function directionsOf(
  points: readonly Point[], { normalizer_points: eyes, groups }: Directions,
): { across: Point | null; beside: Point | null } {
  if (eyes === null) return { across: null, beside: null };
  const [first, second] = eyes.map((index) => points[index]);
  const across: Point = [second[0] - first[0], second[1] - first[1]];
  const mouth = MOUTH_GROUPS.flatMap((name) => groups[name] ?? []).map((index) => points[index]);
  if (mouth.length === 0) return { across, beside: null };
  const mean = (axis: 0 | 1) => mouth.reduce((total, point) => total + point[axis], 0) / mouth.length;
  return { across, beside: [mean(1) - (first[1] + second[1]) / 2, (first[0] + second[0]) / 2 - mean(0)] };
}

/** A vector, turned round if it points away from a direction. */
function towards([x, y]: Point, [a, b]: Point): Point {
  return x * a + y * b < 0 ? [-x, -y] : [x, y];
}

function sum([x, y]: Point, [a, b]: Point): Point {
  return [x + a, y + b];
}
