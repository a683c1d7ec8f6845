/** Search for large faces with the model if the cascades detect none, as in kpdetect/detection/scan.py. */

import { area, intersectionOverUnion, tightBox, type Box } from "./geometry";
import type { Face, ScanSettings } from "./spec";

/** Square boxes over a picture, evenly spaced, in steps of at most `step` of their sides; empty for very long pictures. */
export function windows(width: number, height: number, { sides, step, smallest, longest }: ScanSettings): Box[] {
  const shorter = Math.min(width, height);
  if (Math.max(width, height) > longest * shorter) return [];
  const large = sides.map((share) => share * shorter).filter((side) => side >= smallest);
  return large.flatMap((side) =>
    starts(height, side, step).flatMap((y) => starts(width, side, step).map((x): Box => [x, y, x + side, y + side])),
  );
}

/** Keeps the best-scored of several detections of one face; the others keep their order. */
export function bestOfOverlapping(faces: readonly Face[], sameFace: number): Face[] {
  const byScore = [...faces].sort((one, other) => (other.score ?? 1) - (one.score ?? 1));
  const kept: Face[] = [];
  for (const face of byScore) {
    const box = tightBox(face.keypoints);
    if (kept.every((other) => intersectionOverUnion(box, tightBox(other.keypoints)) < sameFace)) kept.push(face);
  }
  return faces.filter((face) => kept.includes(face));
}

/** Boxes around the points of the windows that may show a face, without duplicates, largest first. */
export function likelyBoxes(seen: readonly Face[], { least_score, same_face }: ScanSettings): Box[] {
  const likely = seen.filter(({ score }) => (score ?? 1) >= least_score);
  const boxes = bestOfOverlapping(likely, same_face).map(({ keypoints }) => tightBox(keypoints));
  return boxes.sort((one, other) => area(other) - area(one));
}

/** Start positions of windows along one side of the picture, from border to border. */
function starts(extent: number, side: number, step: number): number[] {
  const count = Math.ceil((extent - side) / (step * side) - 1e-9) + 1;
  return Array.from({ length: count }, (_, i) => (count === 1 ? 0 : (i * (extent - side)) / (count - 1)) - 0.5);
}
