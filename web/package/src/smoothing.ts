/** The One Euro filter (Casiez, Roussel and Vogel, CHI 2012), as in kpdetect/tracking/smoothing.py. */

import type { Point } from "./geometry";

const MIN_CUTOFF_HZ = 1; // at rest
const BETA = 30; // Hz per face side and second
const SPEED_CUTOFF_HZ = 1;

/** Adaptive low-pass smoothing of keypoints. */
export class OneEuroFilter {
  private points: readonly Point[] | undefined;
  private speed: readonly Point[] = [];
  private timeMs = 0;

  /** @param side the face's longer side in pixels, so that near and far faces are smoothed equally */
  next(points: readonly Point[], timeMs: number, side: number): readonly Point[] {
    const before = this.points;
    const step = Math.max((timeMs - this.timeMs) / 1000, 1e-6);
    this.timeMs = timeMs;
    if (before === undefined) {
      this.speed = points.map(() => [0, 0]);
      return (this.points = points);
    }
    const reach = step * Math.max(side, 1);
    const velocity = points.map(([x, y], i): Point => [(x - before[i][0]) / reach, (y - before[i][1]) / reach]);
    this.speed = velocity.map((now, i) => towards(this.speed[i], now, share(SPEED_CUTOFF_HZ, step)));
    const cutoffs = this.speed.map((speed) => MIN_CUTOFF_HZ + BETA * Math.hypot(...speed));
    return (this.points = points.map((point, i) => towards(before[i], point, share(cutoffs[i], step))));
  }
}

function towards(from: Point, to: Point, part: number): Point {
  return [from[0] + part * (to[0] - from[0]), from[1] + part * (to[1] - from[1])];
}

/** The smoothing factor of a low-pass filter for one step. */
function share(cutoffHz: number, step: number): number {
  const turn = 2 * Math.PI * cutoffHz * step;
  return turn / (turn + 1);
}
