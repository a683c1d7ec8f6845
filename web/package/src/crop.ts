/**
* Resamples a crop of a photograph, like kpdetect.core.images.warp_crop: bilinear, antialiased when reduced, black
 * outside. Computed on arrays, because the smoothing of canvases differs between browsers.
 */

import { apply, compose, invert, type Matrix, type Point } from "./geometry";
import type { Plane } from "./pixels";

const FINE = 1024; // steps per pixel of sampling positions
const REACH = 8; // blocks beyond the crop that the blur and the interpolation use

/**
 * @param matrix photograph to crop
 * @returns (height, width, channels), 0 to 255
 */
export function warpCrop(plane: Plane, matrix: Matrix, size_hw: readonly [number, number]): Uint8ClampedArray {
  const [a, b, , d, e] = invert(matrix);
  const shrink: Point = [Math.max(Math.hypot(a, b), 1), Math.max(Math.hypot(d, e), 1)];
  // Blocks take half of the shrink factor; the blur after them removes the aliasing of their mean.
  const blocks: Point = [blockOf(shrink[0]), blockOf(shrink[1])];
  const region = regionOf(plane, matrix, size_hw, blocks);
  if (region === null) return new Uint8ClampedArray(size_hw[0] * size_hw[1] * plane.channels);
  const means = blockMeans(plane, region, blocks);
  const blurred = blur(means, [shrink[0] / blocks[0], shrink[1] / blocks[1]]);
  // A pixel of the reduced region is at the centre of its block of the photograph.
  const [cornerX, cornerY] = [region.x + (blocks[0] - 1) / 2, region.y + (blocks[1] - 1) / 2];
  return sample(blurred, invert(compose(matrix, [blocks[0], 0, cornerX, 0, blocks[1], cornerY])), size_hw);
}

function blockOf(shrink: number): number {
  return Math.max(Math.floor(shrink / 2 + 1e-6), 1);
}

/** A part of the photograph in whole blocks. */
interface Region {
  readonly x: number;
  readonly y: number;
  readonly columns: number;
  readonly rows: number;
}

function regionOf(plane: Plane, matrix: Matrix, [height, width]: readonly [number, number], blocks: Point): Region | null {
  const back = invert(matrix);
  const corners = [[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]].map(([x, y]) => apply(back, [x, y]));
  const [x, columns] = span(corners.map((corner) => corner[0]), blocks[0], plane.width);
  const [y, rows] = span(corners.map((corner) => corner[1]), blocks[1], plane.height);
  return columns > 0 && rows > 0 ? { x, y, columns, rows } : null;
}

/** The first pixel and the number of blocks along one axis; empty if the crop does not meet the photograph. */
function span(seen: readonly number[], block: number, extent: number): [first: number, count: number] {
  const reach = REACH * block;
  const low = Math.max(Math.floor(Math.min(...seen)) - reach, -reach);
  const high = Math.min(Math.ceil(Math.max(...seen)) + 1 + reach, extent + reach);
  const first = Math.floor(low / block) * block; // blocks are aligned to the photograph's corner
  return high <= 0 || first >= extent ? [first, 0] : [first, Math.ceil((high - first) / block)];
}

/** The mean of each block, rounded to whole grey levels; black outside the photograph. */
function blockMeans({ width, height, channels, data }: Plane, region: Region, [blockX, blockY]: Point): Plane {
  const sums = new Float32Array(region.columns * region.rows * channels);
  const right = Math.min(region.x + region.columns * blockX, width);
  const bottom = Math.min(region.y + region.rows * blockY, height);
  for (let y = Math.max(region.y, 0); y < bottom; y++) {
    const row = Math.floor((y - region.y) / blockY) * region.columns;
    for (let x = Math.max(region.x, 0); x < right; x++) {
      const to = (row + Math.floor((x - region.x) / blockX)) * channels;
      const from = (y * width + x) * channels;
      for (let c = 0; c < channels; c++) sums[to + c] += data[from + c];
    }
  }
  const share = Math.fround(1 / (blockX * blockY));
  // OpenCV rounds halves up in blocks of 2 x 2; in others to even, as the array does.
  const half = blockX === 2 && blockY === 2;
  const bytes = Uint8ClampedArray.from(sums, (sum) => (half ? (sum + 2) >> 2 : Math.fround(sum * share)));
  return { width: region.columns, height: region.rows, channels, data: bytes };
}

/**
 * Blurs for the remaining shrink factor: a photograph is assumed to have a blur of half a pixel (Lowe 2004,
 * "Distinctive image features", 3.3); this raises it to half a pixel of the crop.
 */
function blur(plane: Plane, shrink: Point): Plane {
  const [sigmaX, sigmaY] = shrink.map((by) => 0.5 * Math.sqrt(Math.max(by ** 2 - 1, 0)));
  if (Math.max(sigmaX, sigmaY) < 0.1) return plane; // the weight of the next pixel would be negligible
  const { width, height, channels } = plane;
  const across = blurAxis(plane.data, gaussian(sigmaX), width, channels, height, width * channels, channels);
  const data = blurAxis(across, gaussian(sigmaY), height, width * channels, width, channels, channels);
  return { width, height, channels, data };
}

/** Weights of a Gaussian from its centre outwards, to four sigma. */
function gaussian(sigma: number): readonly number[] {
  const half = Math.floor(Math.round(8 * sigma + 1) / 2);
  const weights = Array.from({ length: half + 1 }, (_, i) => (i === 0 ? 1 : Math.exp(-(i ** 2) / (2 * sigma ** 2))));
  const sum = weights.reduce((total, weight) => total + 2 * weight, -weights[0]);
  return weights.map((weight) => weight / sum);
}

/** Blurs along one axis: `lines` lines of `length` steps of `stride`; the picture is mirrored at its edge. */
function blurAxis(
  data: Plane["data"], weights: readonly number[], length: number, stride: number, lines: number, lineStride: number, channels: number,
): Float32Array {
  const blurred = new Float32Array(data.length);
  for (let line = 0; line < lines; line++) {
    for (let at = 0; at < length; at++) {
      for (let c = 0; c < channels; c++) {
        const start = line * lineStride + c;
        let sum = weights[0] * data[start + at * stride];
        for (let i = 1; i < weights.length; i++) {
          const pair = data[start + mirrored(at - i, length) * stride] + data[start + mirrored(at + i, length) * stride];
          sum += weights[i] * pair;
        }
        blurred[start + at * stride] = sum;
      }
    }
  }
  return blurred;
}

/** Reflects a position at the first and last pixels into 0 to length - 1. */
function mirrored(at: number, length: number): number {
  if (length === 1) return 0;
  const period = 2 * (length - 1);
  const inside = ((at % period) + period) % period;
  return inside < length ? inside : period - inside;
}

/**
 * Interpolates between four pixels. Positions are rounded to 1/32 pixel as in OpenCV; with exact positions, the points
 * of enlarged faces would differ by half a pixel of the crop.
 *
 * @param matrix crop to plane
 */
function sample(plane: Plane, [a, b, c, d, e, f]: Matrix, [height, width]: readonly [number, number]): Uint8ClampedArray {
  const { channels } = plane;
  const crop = new Uint8ClampedArray(height * width * channels);
  let to = 0;
  // OpenCV interpolates bytes in integers, which rounds halves up; floats, rounded after it, to even as the array does.
  const round = plane.data instanceof Uint8ClampedArray ? (value: number) => Math.floor(value + 0.5) : (value: number) => value;
  for (let v = 0; v < height; v++) {
    const [startX, startY] = [Math.round((b * v + c) * FINE) + FINE / 64, Math.round((e * v + f) * FINE) + FINE / 64];
    for (let u = 0; u < width; u++) {
      const x = (startX + Math.round(a * u * FINE)) >> 5;
      const y = (startY + Math.round(d * u * FINE)) >> 5;
      for (let channel = 0; channel < channels; channel++) crop[to++] = round(bilinear(plane, x, y, channel));
    }
  }
  return crop;
}

/** The value at (x, y) in 32nds of a pixel. */
function bilinear({ width, height, channels, data }: Plane, x: number, y: number, channel: number): number {
  const [left, top, right, low] = [x >> 5, y >> 5, (x & 31) / 32, (y & 31) / 32];
  const at = (column: number, row: number) =>
    column >= 0 && row >= 0 && column < width && row < height ? data[(row * width + column) * channels + channel] : 0;
  const above = (1 - right) * at(left, top) + right * at(left + 1, top);
  const below = (1 - right) * at(left, top + 1) + right * at(left + 1, top + 1);
  return (1 - low) * above + low * below;
}
