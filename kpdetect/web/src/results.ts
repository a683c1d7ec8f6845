/** The faces as a sentence, and as the JSON that `kpdetect predict --json` writes. */

import type { Face, Schema } from "./spec";

export function inWords(count: number): string {
  if (count === 0) return "No face found. Faces must be upright, roughly frontal and at least 30 pixels wide.";
  return count === 1 ? "1 face found." : `${count} faces found.`;
}

export function asJson(picture: string, width: number, height: number, schema: Schema, faces: readonly Face[]): string {
  const round = (number: number) => Math.round(number * 1000) / 1000;
  const described = faces.map(({ box, keypoints, uncertainty, score }) => ({
    box: box.map(round),
    score: score === null ? null : Math.round(score * 10000) / 10000,
    names: schema.point_names,
    keypoints: keypoints.map((point) => point.map(round)),
    uncertainty: uncertainty && uncertainty.map(round),
  }));
  return JSON.stringify([{ image: picture, width, height, scheme: schema.name, faces: described }]);
}
