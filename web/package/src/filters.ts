/** Drawing of filters, like kpdetect/filters, except that filters keep their colours on grey photographs. */

import { filterMatrix, fits } from "./fitting";
import { apply, area, compose, invert, type Matrix, type Point } from "./geometry";
import type { Face } from "./face";
import type { ArmSettings, FilterSettings, Schema, Settings } from "./settings";

/** A loaded filter. */
export interface Filter {
  readonly settings: FilterSettings;
  readonly picture: ImageBitmap;
  /** The pictures of `settings.arms`. */
  readonly arms: readonly ImageBitmap[];
  readonly meanFace: MeanFace;
}

/** The points of `kpdetect.measures.MEAN_FACE` by name: x, y, and z towards the camera. */
export type MeanFace = Readonly<Record<string, readonly [number, number, number]>>;

const SAMPLES = 8; // of a contour, per segment
const NARROWEST = 0.25; // fraction of the width of a half
const EDGE = 0.97; // fraction of the distance to the contour that a half may cover
const SMALLEST_SPREAD = 1e-3; // of a face's axes; below, the points are on a line

/**
 * Loads the filters of a model's folder whose anchors the model's scheme has.
 *
 * @param names the filters to load; all by default
 */
export async function loadFilters({ settings, schema, base }: Loaded, names?: readonly string[]): Promise<Filter[]> {
  const unknown = names?.find((name) => settings.filters.every((filter) => filter.name !== name));
  if (unknown !== undefined) {
    throw new RangeError(`filter '${unknown}': expected one of ${settings.filters.map(({ name }) => name).join(", ")}`);
  }
  const picture = async (name: string) => {
    const response = await fetch(new URL(`filters/${name}`, base));
    if (!response.ok) throw new Error(`filters/${name}: the server answered ${response.status}`);
    return createImageBitmap(await response.blob());
  };
  const fitting = settings.filters.filter((filter) => fits(filter, schema) && (names?.includes(filter.name) ?? true));
  return Promise.all(
    fitting.map(async (filter) => ({
      settings: filter,
      picture: await picture(filter.picture),
      arms: await Promise.all((filter.arms ?? []).map((arm) => picture(arm.picture))),
      meanFace: settings.mean_face,
    })),
  );
}

/** The part of a `Predictor` that `loadFilters` needs. */
interface Loaded {
  readonly settings: Settings;
  readonly schema: Schema;
  readonly base: string;
}

/** Draws filters on the faces of a canvas that shows their picture; small faces first, as they are farther away. */
export function applyFilters(context: CanvasRenderingContext2D, faces: readonly Face[], filters: readonly Filter[]): void {
  for (const face of [...faces].sort((one, other) => area(one.box) - area(other.box))) {
    for (const filter of filters) drawFilter(context, face, filter);
  }
}

function drawFilter(context: CanvasRenderingContext2D, face: Face, filter: Filter): void {
  const { settings, picture, meanFace } = filter;
  const { schema } = face;
  const fitted = filterMatrix(settings, schema, face.keypoints);
  if (fitted === null) return;
  const matrix = movedBack(fitted, settings.depth ?? 0, axisTowardsCamera(meanFace, schema, face.keypoints));
  for (const [index, arm] of (settings.arms ?? []).entries()) {
    const armPicture = filter.arms[index];
    const toPhoto = armMatrix(arm, armPicture, picture.width, matrix, face, schema);
    if (toPhoto !== null) draw(context, armPicture, toPhoto);
  }
  draw(context, reshaped(picture, settings, matrix, face, schema), matrix);
}

function draw(context: CanvasRenderingContext2D, picture: CanvasImageSource, matrix: Matrix): void {
  const [a, b, c, d, e, f] = toCanvas(matrix);
  context.save();
  context.imageSmoothingQuality = "high";
  context.transform(a, d, b, e, c, f);
  context.drawImage(picture, 0, 0);
  context.restore();
}

/** Converts a matrix for pixel centres to a canvas, whose coordinates start at pixel edges. */
function toCanvas(matrix: Matrix): Matrix {
  return compose([1, 0, 0.5, 0, 1, 0.5], compose(matrix, [1, 0, -0.5, 0, 1, -0.5]));
}

function movedBack([a, b, c, d, e, f]: Matrix, depth: number, axis: Point | null): Matrix {
  return axis === null ? [a, b, c, d, e, f] : [a, b, c - depth * axis[0], d, e, f - depth * axis[1]];
}

/** The head's axis towards the camera in pixels, for a distant camera; null if the scheme lacks points of the mean face. */
export function axisTowardsCamera(meanFace: MeanFace, schema: Schema, keypoints: readonly Point[]): Point | null {
  const pairs = Object.entries(meanFace).map(([name, place]) => ({ place, index: schema.point_names.indexOf(name) }));
  if (pairs.some(({ index }) => index < 0)) return null;
  const mean = (values: readonly number[]) => values.reduce((total, value) => total + value, 0) / values.length;
  const center = [0, 1, 2].map((axis) => mean(pairs.map(({ place }) => place[axis])));
  const seen = [0, 1].map((axis) => mean(pairs.map(({ index }) => keypoints[index][axis])));
  const square = [[0, 0, 0], [0, 0, 0], [0, 0, 0]];
  const product = [[0, 0, 0], [0, 0, 0]];
  for (const { place, index } of pairs) {
    const model = place.map((value, axis) => value - center[axis]);
    for (let i = 0; i < 3; i++) {
      for (let j = 0; j < 3; j++) square[i][j] += model[i] * model[j];
      for (let k = 0; k < 2; k++) product[k][i] += (keypoints[index][k] - seen[k]) * model[i];
    }
  }
  const inverse = inverse3(square);
  const [first, second] = product.map((row) => [0, 1, 2].map((j) => row.reduce((sum, value, i) => sum + value * inverse[i][j], 0)));
  // The nearest matrix with orthonormal rows, times the mean singular value: the polar decomposition of two rows.
  const dot = (one: readonly number[], other: readonly number[]) => one.reduce((sum, value, i) => sum + value * other[i], 0);
  const [p, q, r] = [dot(first, first), dot(first, second), dot(second, second)];
  const root = Math.sqrt(Math.max(p * r - q * q, 0));
  const trace = Math.sqrt(p + r + 2 * root);
  if (!(root > SMALLEST_SPREAD * trace * trace)) return null;
  const scale = trace / 2 / (trace * root);
  return [scale * ((r + root) * first[2] - q * second[2]), scale * ((p + root) * second[2] - q * first[2])];
}

function inverse3([[a, b, c], [d, e, f], [g, h, i]]: number[][]): number[][] {
  const rows = [
    [e * i - f * h, c * h - b * i, b * f - c * e],
    [f * g - d * i, a * i - c * g, c * d - a * f],
    [d * h - e * g, b * g - a * h, a * e - b * d],
  ];
  const determinant = a * rows[0][0] + b * rows[1][0] + c * rows[2][0];
  return rows.map((row) => row.map((value) => value / determinant));
}

/** Arm to photograph; null if its end is hidden behind the filter. */
function armMatrix(
  arm: ArmSettings, picture: ImageBitmap, width: number, matrix: Matrix, face: Face, schema: Schema,
): Matrix | null {
  const index = schema.point_names.indexOf(arm.end);
  if (index < 0) return null;
  const end = face.keypoints[index];
  const outward = Math.sign(arm.hinge[0] - width / 2);
  if ((apply(invert(matrix), end)[0] - arm.hinge[0]) * outward <= 0) return null;
  const hinge = apply(matrix, arm.hinge);
  const below = apply(matrix, [arm.hinge[0], arm.hinge[1] + arm.width]);
  const along = [(end[0] - hinge[0]) / (picture.width - 1), (end[1] - hinge[1]) / (picture.width - 1)];
  const down = [(below[0] - hinge[0]) / picture.height, (below[1] - hinge[1]) / picture.height];
  const middle = (picture.height - 1) / 2;
  return [along[0], down[0], hinge[0] - middle * down[0], along[1], down[1], hinge[1] - middle * down[1]];
}

/** The picture, narrowed to stay inside its contour, and shortened below the top of the photograph. */
function reshaped(
  picture: ImageBitmap, settings: FilterSettings, matrix: Matrix, face: Face, schema: Schema,
): CanvasImageSource {
  const { width, height } = picture;
  const [left, right] = halves(settings, matrix, face, schema);
  const cut = rowsToCut(settings, matrix);
  if (left === 1 && right === 1 && cut === 0) return picture;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  if (context === null) return picture;
  context.imageSmoothingQuality = "high";
  if (cut > 0 && settings.shorten) {
    const [first, last] = settings.shorten.map((row) => Math.round(row + 0.5)); // edges
    context.drawImage(picture, 0, 0, width, first, 0, cut, width, first);
    if (last - first > cut) context.drawImage(picture, 0, first, width, last - first, 0, first + cut, width, last - first - cut);
    context.drawImage(picture, 0, last, width, height - last, 0, last, width, height - last);
  } else {
    const middle = Math.round((settings.inside?.middle ?? 0) + 0.5);
    context.drawImage(picture, 0, 0, middle, height, middle * (1 - left), 0, middle * left, height);
    context.drawImage(picture, middle, 0, width - middle, height, middle, 0, (width - middle) * right, height);
  }
  return canvas;
}

/** The factors by which the left and right half are narrowed. */
function halves({ inside, drawn, outer_rows }: FilterSettings, matrix: Matrix, face: Face, schema: Schema): [number, number] {
  const group = inside && schema.groups[inside.group];
  if (!inside || !group || group.length < 2) return [1, 1];
  const toPicture = invert(matrix);
  const contour = group.map((index) => apply(toPicture, face.keypoints[index]));
  const count = (contour.length - 1) * SAMPLES + 1;
  let [leftX, rightX] = [-Infinity, Infinity];
  for (let step = 0; step < count; step++) {
    const start = Math.min(Math.floor(step / SAMPLES), contour.length - 2);
    const share = step / SAMPLES - start;
    const [x, y] = [0, 1].map((axis) => contour[start][axis] * (1 - share) + contour[start + 1][axis] * share);
    if (y < outer_rows[0] || y > outer_rows[1]) continue;
    if (step < Math.floor(count / 2)) leftX = Math.max(leftX, x);
    else rightX = Math.min(rightX, x);
  }
  const clip = (factor: number) => Math.min(Math.max(factor, NARROWEST), 1);
  return [
    Number.isFinite(leftX) ? clip((EDGE * (inside.middle - leftX)) / (inside.middle - drawn[0])) : 1,
    Number.isFinite(rightX) ? clip((EDGE * (rightX - inside.middle)) / (drawn[2] - inside.middle)) : 1,
  ];
}

/** The number of rows to remove so that the picture ends at the top of the photograph. */
function rowsToCut({ shorten, drawn }: FilterSettings, [, , , d, e, f]: Matrix): number {
  if (!shorten || e <= 0) return 0;
  const highest = f + e * drawn[1] + Math.min(d * drawn[0], d * drawn[2]);
  return Math.ceil(Math.min(Math.max(-highest / e, 0), shorten[1] - shorten[0]));
}
