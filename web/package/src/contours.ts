/** The lines between neighbouring points, as in kpdetect/visualization/contours.py. */

import type { Schema } from "./settings";

const CLOSED = new Set(["right_eye", "left_eye", "outer_lip", "inner_lip"]);

/** Pairs of points that are neighbours on a contour of the face; none for schemes of your own. */
export function contourEdges({ name, groups }: Schema): [number, number][] {
  if (!/^(ibug68|imm58|wflw98)\b/.test(name)) return [];
  return Object.entries(groups).flatMap(([group, points]) => {
    const following = CLOSED.has(group) ? [...points.slice(1), points[0]] : points.slice(1);
    return following.map((end, i): [number, number] => [points[i], end]);
  });
}
