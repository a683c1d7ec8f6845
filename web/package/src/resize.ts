/** Resizes grey pictures as OpenCV does: INTER_AREA to reduce, INTER_LINEAR to enlarge. */

import type { Plane } from "./pixels";

/** The weights of the source's pixels in one pixel of the result: the first one, and the weights from there on. */
interface Span {
  readonly first: number;
  readonly weights: Float32Array;
}

/**
 * @param plane a picture of one channel
 * @param averages whether each pixel is the mean of those that it covers, or is interpolated between four
 */
export function resizeGrey(plane: Plane, width: number, height: number, averages: boolean): Plane {
  if (width === plane.width && height === plane.height) return plane;
  if (averages && 2 * width === plane.width && 2 * height === plane.height) return halved(plane);
  if (!averages) return interpolated(plane, width, height);
  const columns = areaSpans(plane.width, width);
  const rows = areaSpans(plane.height, height);
  const { data } = plane;
  const sums = new Float32Array(width);
  const resized = new Uint8ClampedArray(width * height);
  for (let y = 0; y < height; y++) {
    sums.fill(0);
    for (let j = 0; j < rows[y].weights.length; j++) {
      const start = (rows[y].first + j) * plane.width;
      const weight = rows[y].weights[j];
      for (let x = 0; x < width; x++) {
        const { first, weights } = columns[x];
        let sum = 0;
        for (let i = 0; i < weights.length; i++) sum = Math.fround(sum + Math.fround(weights[i] * data[start + first + i]));
        sums[x] += Math.fround(weight * sum); // in single precision, as in OpenCV
      }
    }
    resized.set(sums, y * width); // the array rounds
  }
  return { width, height, channels: 1, data: resized };
}

function halved({ width, height, data }: Plane): Plane {
  const [columns, rows] = [width / 2, height / 2];
  const half = new Uint8ClampedArray(columns * rows);
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      const at = 2 * y * width + 2 * x;
      half[y * columns + x] = (data[at] + data[at + 1] + data[at + width] + data[at + width + 1] + 2) >> 2;
    }
  }
  return { width: columns, height: rows, channels: 1, data: half };
}

/** Shares of the source's pixels that each pixel of the result covers, rounded as by OpenCV. */
function areaSpans(source: number, target: number): Span[] {
  const scale = 1 / (target / source);
  return Array.from({ length: target }, (_, i) => {
    const start = i * scale;
    const end = start + scale;
    const cell = Math.min(scale, source - start);
    const last = Math.min(Math.floor(end), source - 1);
    const from = Math.min(Math.ceil(start), last);
    const before = from - start > 1e-3;
    const after = end - last > 1e-3;
    const first = before ? from - 1 : from;
    const weights = new Float32Array(last - from + Number(before) + Number(after)).fill(1 / cell);
    if (before) weights[0] = (from - start) / cell;
    if (after) weights[weights.length - 1] = Math.min(end - last, 1, cell) / cell;
    return { first, weights };
  });
}

/** Bilinear, in OpenCV's integers: weights of 11 bits, and sums that are cut in between. */
function interpolated({ width: fromWidth, height: fromHeight, data }: Plane, width: number, height: number): Plane {
  const columns = taps(fromWidth, width);
  const rows = taps(fromHeight, height);
  const line = (row: number): Int32Array => {
    const sums = new Int32Array(width);
    const start = Math.min(row, fromHeight - 1) * fromWidth;
    for (let x = 0; x < width; x++) {
      const first = columns.first[x];
      const second = Math.min(first + 1, fromWidth - 1);
      sums[x] = (columns.near[x] * data[start + first] + columns.far[x] * data[start + second]) >> 4;
    }
    return sums;
  };
  const resized = new Uint8ClampedArray(width * height);
  let [above, below, at] = [line(0), line(1), 0];
  for (let y = 0; y < height; y++) {
    const first = rows.first[y];
    if (first !== at) [above, below, at] = [first === at + 1 ? below : line(first), line(first + 1), first];
    for (let x = 0; x < width; x++) {
      resized[y * width + x] = (((rows.near[y] * above[x]) >> 16) + ((rows.far[y] * below[x]) >> 16) + 2) >> 2;
    }
  }
  return { width, height, channels: 1, data: resized };
}

/** For each pixel of the result the first of two pixels of the source, and the weights of both, in 2048ths. */
function taps(source: number, target: number): { first: Int32Array; near: Int32Array; far: Int32Array } {
  const scale = 1 / (target / source); // as OpenCV rounds it
  const [first, near, far] = [new Int32Array(target), new Int32Array(target), new Int32Array(target)];
  for (let i = 0; i < target; i++) {
    const place = Math.fround((i + 0.5) * scale - 0.5);
    const below = Math.min(Math.max(Math.floor(place), 0), source - 1);
    const share = place < 0 || below >= source - 1 ? 0 : Math.fround(place - below);
    first[i] = below;
    near[i] = roundHalfEven(Math.fround(1 - share) * 2048); // positions far from 0 have few binary digits, and often ties
    far[i] = roundHalfEven(share * 2048);
  }
  return { first, near, far };
}

/** Rounds as Python and OpenCV do. */
export function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}
