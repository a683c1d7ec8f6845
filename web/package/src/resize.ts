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
  const spans = averages ? areaSpans : linearSpans;
  const columns = spans(plane.width, width);
  const rows = spans(plane.height, height);
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
        for (let i = 0; i < weights.length; i++) sum += weights[i] * data[start + first + i];
        sums[x] += weight * sum;
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

/** Shares of the source's pixels that each pixel of the result covers. */
function areaSpans(source: number, target: number): Span[] {
  const scale = source / target;
  return Array.from({ length: target }, (_, i) => {
    const [start, end] = [i * scale, Math.min((i + 1) * scale, source)];
    const cell = Math.min(scale, source - start);
    const last = Math.floor(end + 1e-9);
    const from = Math.min(Math.ceil(start - 1e-9), last);
    const before = from - start > 1e-3;
    const after = end - last > 1e-3;
    const first = before ? from - 1 : from;
    const weights = new Float32Array(last - from + Number(before) + Number(after)).fill(1 / cell);
    if (before) weights[0] = (from - start) / cell;
    if (after) weights[weights.length - 1] = Math.min(end - last, 1, cell) / cell;
    return { first, weights };
  });
}

function linearSpans(source: number, target: number): Span[] {
  const scale = source / target;
  return Array.from({ length: target }, (_, i) => {
    const place = Math.min(Math.max((i + 0.5) * scale - 0.5, 0), source - 1);
    const first = Math.min(Math.floor(place), Math.max(source - 2, 0));
    return { first, weights: source === 1 ? Float32Array.of(1) : Float32Array.of(1 - (place - first), place - first) };
  });
}
