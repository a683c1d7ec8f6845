/** The face finder: an image pyramid in one picture, and the decoding of the network's cells (kpdetect/detection/finder.py). */

import { area, type Box, type Point } from "./geometry";
import { tightBoxOf, type Oriented } from "./oriented";
import type { Plane } from "./pixels";
import { resizeGrey, roundHalfEven } from "./resize";
import type { FinderSettings } from "./settings";
import { meanBox, overlappingGroups, stableBy, weightedNonMaximumSuppression, withoutContained } from "./suppression";

/** A face of the finder: its axis-aligned box, and if the network predicts rotations, its oriented one. */
export interface Detection {
  readonly box: Box;
  readonly score: number;
  readonly oriented: Oriented | null;
}

/** A level of the pyramid: where it lies in the picture, and its pixels per pixel of the photograph. */
interface Level {
  readonly box: Box;
  readonly scale: Point;
}

/** A photograph in several sizes, side by side in one picture whose sides are multiples of the network's stride. */
export interface Pyramid {
  readonly width: number;
  readonly height: number;
  readonly data: Float32Array;
  readonly levels: readonly Level[];
}

/** @param minFace the smallest face to find, as a share of the photograph's longer side */
export function pyramidOf(grey: Plane, minFace: number, settings: FinderSettings): Pyramid {
  const smallest = Math.max(minFace * Math.max(grey.width, grey.height), settings.smallest_face);
  const planes = levelsOf(grey, settings.smallest_seen / smallest, settings);
  const places = placesOf(planes, settings.gap);
  const [width, height] = [2, 3].map(
    (side) => Math.ceil(Math.max(...places.map((place) => place[side])) / settings.stride) * settings.stride,
  );
  const data = new Float32Array(width * height).fill(128);
  planes.forEach((plane, index) => {
    const [x, y] = places[index];
    for (let row = 0; row < plane.height; row++) {
      data.set(plane.data.subarray(row * plane.width, (row + 1) * plane.width), (y + row) * width + x);
    }
  });
  const levels = planes.map((plane, index): Level => ({
    box: places[index],
    scale: [plane.width / grey.width, plane.height / grey.height],
  }));
  return { width, height, data, levels };
}

/** The scaled photograph, and smaller copies at even ratios until the longer side is at most `last_level`. */
function levelsOf(grey: Plane, firstScale: number, settings: FinderSettings): Plane[] {
  const { last_level: last, least_bilinear: leastBilinear = 1 } = settings;
  const excess = (Math.max(grey.width, grey.height) * firstScale) / last;
  const { ratio, count } = ladder(excess, settings.level_ratio);
  const levels: Plane[] = [];
  let [source, scale] = [grey, firstScale];
  while (levels.length < count || (count === 0 && (levels.length === 0 || Math.max(source.width, source.height) > last))) {
    const size = [grey.width, grey.height].map((extent) => Math.max(roundHalfEven(extent * scale), 1));
    const averages =
      leastBilinear === 1 ? size[0] <= source.width : Math.max(...size) < leastBilinear * Math.max(source.width, source.height);
    source = resizeGrey(source, size[0], size[1], averages);
    levels.push(source);
    scale /= ratio;
  }
  return levels;
}

/** The ratio of two levels' scales, and their number; 0 for as many as needed. */
function ladder(excess: number, greatest: number | undefined): { ratio: number; count: number } {
  if (greatest === undefined) return { ratio: 2, count: 0 };
  const smaller = Math.max(Math.ceil(Math.log(excess) / Math.log(greatest)), 0);
  return { ratio: excess ** (1 / Math.max(smaller, 1)), count: smaller + 1 };
}

/** The first level at the top left, the others in a column beside it, or in a row below a wide one. */
function placesOf([first, ...rest]: readonly Plane[], gap: number): Box[] {
  const tall = first.height >= first.width;
  const places: Box[] = [[0, 0, first.width, first.height]];
  let along = 0;
  for (const { width, height } of rest) {
    const [x, y] = tall ? [first.width + gap, along] : [along, first.height + gap];
    places.push([x, y, x + width, y + height]);
    along += (tall ? height : width) + gap;
  }
  return places;
}

/**
 * Converts the network's output to faces of the pyramid's picture.
 *
 * @param output (rows, columns, 4 * values); 5 values per quarter of a cell, or 7 with the sine and cosine of the roll
 */
export function decodeCells(
  output: Float32Array, columns: number, minScore: number,
  { cell, size_unit, output_unit: unit = 1 }: Pick<FinderSettings, "cell" | "size_unit" | "output_unit">,
): Detection[] {
  const rows = gridRows(output.length, columns);
  const values = output.length / (4 * rows * columns);
  const least = Math.log(minScore / (1 - minScore));
  const found: Detection[] = [];
  for (let row = 0; row < 2 * rows; row++) {
    for (let column = 0; column < 2 * columns; column++) {
      const quarter = 2 * (row & 1) + (column & 1);
      const at = (((row >> 1) * columns + (column >> 1)) * 4 + quarter) * values;
      if (output[at] < least) continue;
      const x = (column + 0.5 + output[at + 1] / unit) * cell - 0.5;
      const y = (row + 0.5 + output[at + 2] / unit) * cell - 0.5;
      const width = Math.exp(clip(output[at + 3] / unit, 3)) * size_unit;
      const height = Math.exp(clip(output[at + 4] / unit, 3)) * size_unit;
      const oriented: Oriented | null =
        values < 7 ? null : { x, y, width, height, roll: Math.atan2(output[at + 5], output[at + 6]) };
      const box: Box = oriented ? tightBoxOf(oriented) : [x - width / 2, y - height / 2, x + width / 2, y + height / 2];
      found.push({ box, score: 1 / (1 + Math.exp(-clip(output[at], 50))), oriented });
    }
  }
  return found;
}

function gridRows(length: number, columns: number): number {
  for (const values of [28, 20]) {
    if (length % (values * columns) === 0) return length / (values * columns);
  }
  throw new RangeError(`finder: expected 20 or 28 values for each of ${columns} columns, received ${length} in all`);
}

/** Faces of the pyramid's picture in the photograph's pixels; those with a centre outside of it are left out. */
export function toPhotograph(found: readonly Detection[], { levels }: Pyramid, width: number, height: number): Detection[] {
  return found
    .map((one): Detection => {
      const { box: [left, top], scale: [sx, sy] } = levelAt(levels, centerOf(one));
      const x = (value: number) => (value + 0.5 - left) / sx - 0.5;
      const y = (value: number) => (value + 0.5 - top) / sy - 0.5;
      const turned = one.oriented;
      if (turned === null) {
        const [x0, y0, x1, y1] = one.box;
        return { ...one, box: [x(x0), y(y0), x(x1), y(y1)] };
      }
      const scale = (sx + sy) / 2; // they differ by the rounding of a level's size
      const oriented = { ...turned, x: x(turned.x), y: y(turned.y), width: turned.width / scale, height: turned.height / scale };
      return { ...one, oriented, box: tightBoxOf(oriented) };
    })
    .filter((one) => {
      const [x, y] = centerOf(one);
      return x > -0.5 && y > -0.5 && x < width - 0.5 && y < height - 0.5;
    });
}

/**
 * Averages the predictions of neighbouring cells. With rotations: faces by falling score, perhaps one within another,
 * because a model scores them. Without: one face in each place, largest first.
 */
export function mergeDetections(found: readonly Detection[]): Detection[] {
  if (found.some(({ oriented }) => oriented !== null)) return overlappingGroups(found).map(meanOriented);
  const merged = weightedNonMaximumSuppression(found, (group, sum): Detection => ({
    box: meanBox(group, sum), score: sum, oriented: null,
  }));
  return largestFirst(merged);
}

/** One detection in each place, largest first, where no model scores them. */
export function separate(found: readonly Detection[]): Detection[] {
  return largestFirst(withoutContained(found));
}

function largestFirst(found: readonly Detection[]): Detection[] {
  return stableBy(found, ({ box }) => -area(box));
}

function meanOriented(group: readonly Detection[]): Detection {
  const sum = group.reduce((total, { score }) => total + score, 0);
  const mean = (value: (one: Oriented) => number) =>
    group.reduce((total, { oriented, score }) => total + score * value(oriented as Oriented), 0) / sum;
  const oriented: Oriented = {
    x: mean((one) => one.x), y: mean((one) => one.y), width: mean((one) => one.width), height: mean((one) => one.height),
    roll: Math.atan2(mean((one) => Math.sin(one.roll)), mean((one) => Math.cos(one.roll))),
  };
  return { box: tightBoxOf(oriented), score: group[0].score, oriented };
}

function centerOf({ box: [x0, y0, x1, y1], oriented }: Detection): Point {
  return oriented ? [oriented.x, oriented.y] : [(x0 + x1) / 2, (y0 + y1) / 2];
}

/** The level nearest to a point. */
function levelAt(levels: readonly Level[], [x, y]: Point): Level {
  const beside = ({ box: [x0, y0, x1, y1] }: Level) =>
    Math.max(Math.abs(x - (x0 + x1) / 2) - (x1 - x0) / 2, 0) + Math.max(Math.abs(y - (y0 + y1) / 2) - (y1 - y0) / 2, 0);
  return levels.reduce((nearest, level) => (beside(level) < beside(nearest) ? level : nearest));
}

function clip(value: number, limit: number): number {
  return Math.min(Math.max(value, -limit), limit);
}
