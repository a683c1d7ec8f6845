/** Oriented face boxes: centre, size in the face's own upright frame, and rotation (kpdetect/detection/oriented.py). */

import { compose, cropMatrix, type Box, type CropRule, type Matrix, type Point } from "./geometry";

/** Pixels, and the roll in radians: positive if the head leans clockwise in the picture. */
export interface Oriented {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  readonly roll: number;
}

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
