/** Faces as text, in the layouts of `kpdetect predict` (JSON and CSV) and `kpdetect convert` (COCO). */

import { contourEdges } from "./contours";
import { keypointConfidence, type Face } from "./face";
import { measure } from "./measure";
import type { Schema } from "./settings";

/** One picture and its faces. */
export interface Result {
  readonly image: string;
  readonly width: number;
  readonly height: number;
  readonly faces: readonly Face[];
}

/** A face as Python's `Face.to_dict`. */
export function toDict(face: Face): Record<string, unknown> {
  const all = (values: readonly number[] | null, decimals: number) => values && values.map((value) => rounded(value, decimals));
  return {
    box: all(face.box, 3),
    detection_box: all(face.detectionBox, 3),
    score: face.score === null ? null : rounded(face.score, 4),
    names: face.schema.point_names,
    keypoints: face.keypoints.map((point) => all(point, 3)),
    uncertainty: all(face.uncertainty, 3),
    keypoint_confidence: all(keypointConfidence(face), 4),
    visibility: all(face.visibility, 4),
  };
}

/** A JSON list with one line per picture, as `kpdetect predict --json --measure` writes. */
export function asJson(results: readonly Result[], schema: Schema): string {
  const lines = results.map(({ image, width, height, faces }) =>
    JSON.stringify({
      image,
      width,
      height,
      scheme: schema.name,
      faces: faces.map((face) => ({ ...toDict(face), measures: roundedMeasures(face) })),
    }),
  );
  return `[\n${lines.join(",\n")}\n]\n`;
}

/** A row per face, as `kpdetect predict --csv` writes and `csv:FILE` reads. */
export function asCsv(results: readonly Result[], schema: Schema): string {
  const points = schema.point_names.flatMap((name) => [`${name}_x`, `${name}_y`]);
  const header = ["image", ...points, "x0", "y0", "x1", "y1", "score"];
  const rows = results.flatMap(({ image, faces }) =>
    faces.map((face) => {
      const box = schema.point_names.length === 1 || schema.name.endsWith(")") ? (face.detectionBox ?? face.box) : face.box;
      const numbers = [...face.keypoints.flat(), ...box].map((value) => value.toFixed(3));
      return [quoted(image), ...numbers, face.score === null ? "" : face.score.toFixed(4)];
    }),
  );
  return [header, ...rows].map((row) => `${row.join(",")}\n`).join("");
}

/** COCO keypoints with one category `face`. */
export function asCoco(results: readonly Result[], schema: Schema): string {
  const images = results.map(({ image, width, height }, i) => ({ id: i + 1, file_name: image, width, height }));
  const faces = results.flatMap((result, i) => result.faces.map((face) => ({ face, image_id: i + 1 })));
  const annotations = faces.map(({ face, image_id }, i) => {
    const [x0, y0, x1, y1] = face.box.map((value) => rounded(value, 3));
    return {
      id: i + 1,
      image_id,
      category_id: 1,
      keypoints: face.keypoints.flatMap(([x, y]) => [rounded(x, 3), rounded(y, 3), 2]),
      num_keypoints: face.keypoints.length,
      bbox: [x0 + 0.5, y0 + 0.5, x1 - x0, y1 - y0],
      area: (x1 - x0) * (y1 - y0),
      iscrowd: 0,
      ...(face.score !== null && { score: rounded(face.score, 4) }),
    };
  });
  const skeleton = contourEdges(schema).map(([start, end]) => [start + 1, end + 1]);
  const categories = [{ id: 1, name: "face", supercategory: "person", keypoints: schema.point_names, skeleton }];
  return JSON.stringify({ info: { description: "kpdetect", version: "1.0" }, licenses: [], images, annotations, categories });
}

function roundedMeasures(face: Face): unknown {
  return JSON.parse(JSON.stringify(measure(face), (_, value) => (typeof value === "number" ? rounded(value, 4) : value)));
}

function rounded(value: number, decimals: number): number {
  return Number(value.toFixed(decimals));
}

function quoted(text: string): string {
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
