/** Windows for large faces that the detector missed, as in kpdetect/detection/scan.py. */

import type { Box } from "./geometry";
import type { ScanSettings } from "./settings";

/** Square boxes over a picture, evenly spaced, in steps of at most `step` of their sides; empty for very long pictures. */
export function windows(width: number, height: number, { sides, step, smallest, longest }: ScanSettings): Box[] {
  const shorter = Math.min(width, height);
  if (Math.max(width, height) > longest * shorter) return [];
  const large = sides.map((share) => share * shorter).filter((side) => side >= smallest);
  return large.flatMap((side) =>
    starts(height, side, step).flatMap((y) => starts(width, side, step).map((x): Box => [x, y, x + side, y + side])),
  );
}

/** Start positions of windows along one side of the picture, from border to border. */
function starts(extent: number, side: number, step: number): number[] {
  const count = Math.ceil((extent - side) / (step * side) - 1e-9) + 1;
  return Array.from({ length: count }, (_, i) => (count === 1 ? 0 : (i * (extent - side)) / (count - 1)) - 0.5);
}
