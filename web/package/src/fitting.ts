/** Fits a filter's picture to a face: the warp that best maps its anchors to the face's points. */

import type { Matrix, Point } from "./geometry";
import type { FilterSettings, Schema } from "./settings";

const SMALLEST_AREA = 1e-8; // square pixels of the photograph per pixel of the picture; degenerate faces have no filters

/** A weighted pair: a point of the filter's picture, and its position on the face. */
export interface Pair {
  readonly from: Point;
  readonly to: Point;
  readonly weight: number;
}

const WARPS = { similarity: { fit: fitSimilarity, needed: 2 }, affine: { fit: fitAffine, needed: 3 } } as const;

/** Whether a scheme has enough of a filter's anchors. */
export function fits(filter: FilterSettings, schema: Schema): boolean {
  const known = Object.keys(filter.anchors).filter((name) => schema.point_names.includes(name));
  return filter.warp in WARPS && known.length >= WARPS[filter.warp].needed;
}

/** Picture to photograph, pixel centres on integers; null if the points are too close together. */
export function filterMatrix(filter: FilterSettings, schema: Schema, keypoints: readonly Point[]): Matrix | null {
  const pairs = Object.entries(filter.anchors).flatMap(([name, [x, y, weight]]): Pair[] => {
    const index = schema.point_names.indexOf(name);
    return index < 0 ? [] : [{ from: [x, y], to: keypoints[index], weight }];
  });
  const matrix = WARPS[filter.warp].fit(pairs);
  if (matrix === null) return null;
  const [a, b, , d, e] = matrix;
  return matrix.every(Number.isFinite) && Math.abs(a * e - b * d) > SMALLEST_AREA ? matrix : null;
}

/** Similarity (rotation, scale, shift) by weighted least squares. */
export function fitSimilarity(pairs: readonly Pair[]): Matrix | null {
  const { from, to, centred } = centre(pairs);
  const spread = sum(centred, ({ from: [x, y] }) => x * x + y * y);
  if (spread < 1e-9) return null;
  const cos = sum(centred, ({ from: [x, y], to: [u, v] }) => x * u + y * v) / spread;
  const sin = sum(centred, ({ from: [x, y], to: [u, v] }) => x * v - y * u) / spread;
  return shifted(cos, -sin, sin, cos, from, to);
}

/** Affine map by weighted least squares, for flat objects seen from the side. */
export function fitAffine(pairs: readonly Pair[]): Matrix | null {
  const { from, to, centred } = centre(pairs);
  const [xx, xy, yy] = [
    sum(centred, ({ from: [x] }) => x * x),
    sum(centred, ({ from: [x, y] }) => x * y),
    sum(centred, ({ from: [, y] }) => y * y),
  ];
  const determinant = xx * yy - xy * xy;
  if (determinant <= 1e-12 * (xx + yy) ** 2) return null; // the anchors are collinear
  const row = (axis: 0 | 1): [number, number] => {
    const x = sum(centred, ({ from: p, to: q }) => p[0] * q[axis]);
    const y = sum(centred, ({ from: p, to: q }) => p[1] * q[axis]);
    return [(x * yy - y * xy) / determinant, (y * xx - x * xy) / determinant];
  };
  return shifted(...row(0), ...row(1), from, to);
}

/** The pairs relative to their weighted means. */
function centre(pairs: readonly Pair[]): { from: Point; to: Point; centred: readonly Pair[] } {
  const total = pairs.reduce((weights, { weight }) => weights + weight, 0);
  const mean = (side: "from" | "to", axis: 0 | 1) => sum(pairs, (pair) => pair[side][axis]) / total;
  const from: Point = [mean("from", 0), mean("from", 1)];
  const to: Point = [mean("to", 0), mean("to", 1)];
  const centred = pairs.map((pair) => ({
    from: [pair.from[0] - from[0], pair.from[1] - from[1]] as const,
    to: [pair.to[0] - to[0], pair.to[1] - to[1]] as const,
    weight: pair.weight,
  }));
  return { from, to, centred };
}

function sum(pairs: readonly Pair[], term: (pair: Pair) => number): number {
  return pairs.reduce((total, pair) => total + pair.weight * term(pair), 0);
}

function shifted(a: number, b: number, d: number, e: number, [x, y]: Point, [u, v]: Point): Matrix {
  return [a, b, u - a * x - b * y, d, e, v - d * x - e * y];
}
