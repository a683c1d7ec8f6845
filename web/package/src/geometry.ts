/**
 * The coordinate contract of kpdetect/core/geometry.py: boxes, matrices, and how a face box becomes a crop.
 * The pixel centre is on the integer; a matrix maps source pixels to target pixels.
 */

export type Point = readonly [x: number, y: number];
/** (x0, y0, x1, y1) in pixels. */
export type Box = readonly [x0: number, y0: number, x1: number, y1: number];
/** The first two rows of an affine 3x3 matrix: x' = a x + b y + c, y' = d x + e y + f. */
export type Matrix = readonly [a: number, b: number, c: number, d: number, e: number, f: number];

/** How a face box becomes a crop; `crop` of spec.json. */
export interface CropRule {
  readonly size_hw: readonly [height: number, width: number];
  readonly margin: number;
  readonly around: "face" | "image";
}

export function apply([a, b, c, d, e, f]: Matrix, [x, y]: Point): Point {
  return [a * x + b * y + c, d * x + e * y + f];
}

/** The product: `second` after `first`. */
export function compose(second: Matrix, first: Matrix): Matrix {
  const [a, b, , d, e] = second;
  const [p, q, r, s, t, u] = first;
  const [x, y] = apply(second, [r, u]);
  return [a * p + b * s, a * q + b * t, x, d * p + e * s, d * q + e * t, y];
}

export function invert([a, b, c, d, e, f]: Matrix): Matrix {
  const determinant = a * e - b * d;
  if (!(Math.abs(determinant) > 1e-12)) throw new RangeError(`expected a matrix with an inverse, received ${[a, b, d, e]}`);
  const [p, q, r, s] = [e / determinant, -b / determinant, -d / determinant, a / determinant];
  return [p, q, -(p * c + q * f), r, s, -(r * c + s * f)];
}

/** Pixels of a crop from relative coordinates: 0 and 1 are its edges. */
export function toPixels([x, y]: Point, [height, width]: readonly [number, number]): Point {
  return [x * width - 0.5, y * height - 0.5];
}

/** A point in the precision of Python's arrays: crops of small faces vary with it. */
export function float32([x, y]: Point): Point {
  return [Math.fround(x), Math.fround(y)];
}

export function tightBox(points: readonly Point[]): Box {
  const xs = points.map(([x]) => x);
  const ys = points.map(([, y]) => y);
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}

/** The box of a whole picture. */
export function imageBox(width: number, height: number): Box {
  return [-0.5, -0.5, width - 0.5, height - 0.5];
}

export function area([x0, y0, x1, y1]: Box): number {
  return (x1 - x0) * (y1 - y0);
}

/** The area of the intersection of two boxes, in square pixels. */
export function commonArea(first: Box, second: Box): number {
  const width = Math.min(first[2], second[2]) - Math.max(first[0], second[0]);
  const height = Math.min(first[3], second[3]) - Math.max(first[1], second[1]);
  return Math.max(width, 0) * Math.max(height, 0);
}

export function intersectionOverUnion(first: Box, second: Box): number {
  const common = commonArea(first, second);
  return common / Math.max(area(first) + area(second) - common, 1e-12);
}

/** The photograph-to-crop matrix of a box: centred on it, upright, `margin` times its longer side. */
export function cropMatrix(rule: CropRule, [x0, y0, x1, y1]: Box): Matrix {
  if (!(x1 > x0 && y1 > y0)) throw new RangeError(`expected a box with x0 < x1 and y0 < y1, received ${[x0, y0, x1, y1]}`);
  const [height, width] = rule.size_hw;
  const scale = 1 / (rule.margin * Math.max((x1 - x0) / width, (y1 - y0) / height));
  const [cx, cy] = [(x0 + x1) / 2, (y0 + y1) / 2];
  return [scale, 0, width / 2 - 0.5 - cx * scale, 0, scale, height / 2 - 0.5 - cy * scale];
}

/** The photograph-to-crop matrix of a face with known points: `across` becomes the crop's x axis. */
export function uprightMatrix(rule: CropRule, points: readonly Point[], across: Point): Matrix {
  const length = Math.hypot(...across);
  if (!(length > 0)) throw new RangeError("expected a non-zero direction vector");
  const [cos, sin] = [across[0] / length, across[1] / length];
  const turn: Matrix = [cos, sin, 0, -sin, cos, 0];
  return compose(cropMatrix(rule, tightBox(points.map((point) => float32(apply(turn, point))))), turn);
}
