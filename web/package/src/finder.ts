/** The face finder: an image pyramid in one picture, and the decoding of the network's cells (kpdetect/detection/finder.py). */

import { area, type Box, type Point } from "./geometry";
import { tightBoxOf, type Oriented } from "./oriented";
import type { Plane } from "./pixels";
import { resizeGrey } from "./resize";
import type { FinderSettings } from "./settings";
import { meanBox, stableBy, weightedNonMaximumSuppression } from "./suppression";

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
  const planes = levelsOf(grey, settings.smallest_seen / smallest, settings.last_level);
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

/** The scaled photograph, then each level half of the one before. */
function levelsOf(grey: Plane, firstScale: number, lastLevel: number): Plane[] {
  const levels: Plane[] = [];
  let [source, scale] = [grey, firstScale];
  do {
    const size = [grey.width, grey.height].map((extent) => Math.max(roundHalfEven(extent * scale), 1));
    source = resizeGrey(source, size[0], size[1]);
    levels.push(source);
    scale /= 2;
  } while (Math.max(source.width, source.height) > lastLevel);
  return levels;
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

/** As Python rounds. */
function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

/**
 * Converts the network's output to faces of the pyramid's picture.
 *
 * @param output (rows, columns, 4 * values); 5 values per quarter of a cell, or 7 with the sine and cosine of the roll
 */
export function decodeCells(
  output: Float32Array, columns: number, minScore: number, { cell, size_unit }: Pick<FinderSettings, "cell" | "size_unit">,
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
      const x = (column + 0.5 + output[at + 1]) * cell - 0.5;
      const y = (row + 0.5 + output[at + 2]) * cell - 0.5;
      const width = Math.exp(clip(output[at + 3], 3)) * size_unit;
      const height = Math.exp(clip(output[at + 4], 3)) * size_unit;
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
      const { box: [left, top], scale: [sx, sy] } = levelAt(levels, middle(one.box));
      const x = (value: number) => (value + 0.5 - left) / sx - 0.5;
      const y = (value: number) => (value + 0.5 - top) / sy - 0.5;
      const [x0, y0, x1, y1] = one.box;
      const turned = one.oriented;
      const scale = Math.sqrt(sx * sy);
      return {
        box: [x(x0), y(y0), x(x1), y(y1)],
        score: one.score,
        oriented: turned && {
          x: x(turned.x), y: y(turned.y), width: turned.width / scale, height: turned.height / scale, roll: turned.roll,
        },
      };
    })
    .filter(({ box }) => {
      const [x, y] = middle(box);
      return x > -0.5 && y > -0.5 && x < width - 0.5 && y < height - 0.5;
    });
}

/** One detection for each face, largest first. */
export function mergeDetections(found: readonly Detection[]): Detection[] {
  const merged = weightedNonMaximumSuppression(found, (group, sum): Detection => ({
    box: meanBox(group, sum),
    score: sum,
    oriented: group[0].oriented && meanOriented(group, sum),
  }));
  return stableBy(merged, ({ box }) => -area(box));
}

function meanOriented(group: readonly Detection[], sum: number): Oriented {
  const mean = (value: (one: Oriented) => number) =>
    group.reduce((total, { oriented, score }) => total + score * value(oriented as Oriented), 0) / sum;
  return {
    x: mean((one) => one.x), y: mean((one) => one.y), width: mean((one) => one.width), height: mean((one) => one.height),
    roll: Math.atan2(mean((one) => Math.sin(one.roll)), mean((one) => Math.cos(one.roll))),
  };
}

/** The level nearest to a point. */
function levelAt(levels: readonly Level[], [x, y]: Point): Level {
  const beside = ({ box: [x0, y0, x1, y1] }: Level) =>
    Math.max(Math.abs(x - (x0 + x1) / 2) - (x1 - x0) / 2, 0) + Math.max(Math.abs(y - (y0 + y1) / 2) - (y1 - y0) / 2, 0);
  return levels.reduce((nearest, level) => (beside(level) < beside(nearest) ? level : nearest));
}

function middle([x0, y0, x1, y1]: Box): Point {
  return [(x0 + x1) / 2, (y0 + y1) / 2];
}

function clip(value: number, limit: number): number {
  return Math.min(Math.max(value, -limit), limit);
}
