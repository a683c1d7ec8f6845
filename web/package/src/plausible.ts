/** Checks of the points of tracked faces, as in kpdetect/tracking/plausible.py. */

import { area, commonArea, tightBox, type Box, type Point } from "./geometry";

const SMALLEST_SIDE = 12; // pixels
const NARROWEST = 0.4; // shorter over longer side
const LEAST_INSIDE = 0.5; // minimal fraction of the face's box inside the picture
const FURTHEST_JUMP = 0.5; // sides per frame
const GREATEST_GROWTH = 1.4;
const SHIFT = -0.1; // shift of the second look's box, in sides
const SCALE = 1.1;
const MOST_DISAGREEMENT = 0.04; // sides; larger differences mean that the points follow the box, not a face

export function sideOf([x0, y0, x1, y1]: Box): number {
  return Math.max(x1 - x0, y1 - y0);
}

/** Whether the tight box of points may be a face: neither collapsed nor outside the picture. */
export function looksLikeFace(box: Box, width: number, height: number): boolean {
  const [longer, shorter] = [sideOf(box), Math.min(box[2] - box[0], box[3] - box[1])];
  const inside = commonArea(box, [0, 0, width, height]);
  return longer >= SMALLEST_SIDE && shorter >= NARROWEST * longer && inside >= LEAST_INSIDE * area(box);
}

/** Whether a face can move this far between two frames. */
export function movedOn(before: Box, after: Box): boolean {
  const side = Math.max(sideOf(before), 1e-6);
  const jump = Math.hypot(after[0] + after[2] - before[0] - before[2], after[1] + after[3] - before[1] - before[3]) / 2;
  const growth = Math.max(sideOf(after), 1e-6) / side;
  return jump <= FURTHEST_JUMP * side && Math.max(growth, 1 / growth) <= GREATEST_GROWTH;
}

/** The box of the second prediction: shifted to the upper left, and larger. */
export function secondLook([x0, y0, x1, y1]: Box): Box {
  const [width, height] = [x1 - x0, y1 - y0];
  const [cx, cy] = [(x0 + x1) / 2 + SHIFT * width, (y0 + y1) / 2 + SHIFT * height];
  const [halfX, halfY] = [(SCALE * width) / 2, (SCALE * height) / 2];
  return [cx - halfX, cy - halfY, cx + halfX, cy + halfY];
}

/** Whether a second prediction gave about the same points. */
export function agree(first: readonly Point[], second: readonly Point[]): boolean {
  const distances = first.map(([x, y], i) => Math.hypot(x - second[i][0], y - second[i][1]));
  const mean = distances.reduce((total, one) => total + one, 0) / first.length;
  return mean <= MOST_DISAGREEMENT * Math.max(sideOf(tightBox(first)), 1e-6);
}
