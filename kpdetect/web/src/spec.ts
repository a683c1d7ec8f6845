/** The model's description and the page's settings: spec.json and page.json, written by `kpdetect export`. */

import type { CropRule, Point } from "./geometry";

/** The parts of spec.json that the page reads. */
export interface Spec {
  readonly input: { readonly name: string; readonly channels: 1 | 3 };
  readonly crop: CropRule;
  readonly output: { readonly name: string };
  readonly uncertainty: { readonly name: string } | null;
  readonly face_score: { readonly middle: number; readonly slope: number } | null;
  readonly schema: Schema;
  readonly recipe: string;
  readonly terms: string;
}

export interface Schema {
  readonly name: string;
  readonly point_names: readonly string[];
  readonly groups: Readonly<Record<string, readonly number[]>>;
  readonly normalizer_points: readonly [number, number] | null;
}

/** A Haar cascade, and the face box relative to its square, in sides; see `Cascade` in kpdetect/detection. */
export interface Cascade {
  readonly file: string;
  readonly shift_xy: Point;
  readonly size_wh: Point;
  readonly mirrored: boolean;
}

/** The constants of kpdetect/detection, by their names there. */
export interface DetectorSettings {
  readonly cascades: readonly Cascade[];
  readonly smallest_window: number;
  readonly smallest_face: number;
  readonly border: number;
  readonly same_face: number;
  readonly inside: number;
  readonly min_votes: number;
  readonly judged_votes: number;
}

/** The constants of kpdetect/detection/scan.py, by their names there. */
export interface ScanSettings {
  readonly sides: readonly number[];
  readonly step: number;
  readonly smallest: number;
  readonly longest: number;
  readonly same_face: number;
  readonly least_score: number;
}

export interface FilterSettings {
  readonly name: string;
  readonly picture: string;
  readonly warp: "similarity" | "affine";
  /** Point name to x, y (pixels of the picture) and weight. */
  readonly anchors: Readonly<Record<string, readonly [x: number, y: number, weight: number]>>;
  /** Distance behind the anchors, in distances between the outer eye corners; see `Filter` in kpdetect/filters. */
  readonly depth?: number;
  readonly arms?: readonly ArmSettings[];
  readonly inside?: { readonly group: string; readonly middle: number };
  /** Rows of the picture that may be removed. */
  readonly shorten?: readonly [first: number, last: number];
  /** (x0, y0, x1, y1) of the picture that is not transparent. */
  readonly drawn: readonly [number, number, number, number];
  /** The first and last row that the outer columns of the picture use. */
  readonly outer_rows: readonly [number, number];
}

/** A picture between a position in the filter and a point of the face; see `Arm` in kpdetect/filters. */
export interface ArmSettings {
  readonly picture: string;
  readonly hinge: Point;
  readonly end: string;
  readonly width: number;
}

export interface Settings {
  readonly detector: DetectorSettings;
  readonly scan: ScanSettings;
  readonly min_score: number;
  readonly filters: readonly FilterSettings[];
  readonly mean_face: Readonly<Record<string, readonly [number, number, number]>>;
}

/** A face; points and their expected errors in pixels of the picture. */
export interface Face {
  readonly box: readonly [number, number, number, number];
  readonly keypoints: readonly Point[];
  readonly uncertainty: readonly number[] | null;
  /** The face score, 0 to 1; null for models without one. */
  readonly score: number | null;
}

/** The address of a file in the page's folder. */
export function address(name: string, base: string): string {
  return new URL(name, base).href;
}

export async function fetchJson<Part>(name: string, base: string): Promise<Part> {
  return (await (await fetchFile(name, base)).json()) as Part;
}

/** @throws Error if the folder lacks the file, such as a page that was built but not filled by `kpdetect export`. */
export async function fetchFile(name: string, base: string): Promise<Response> {
  const response = await fetch(address(name, base));
  if (!response.ok) throw new Error(`${name} is missing in the page's folder (${response.status}); export it anew`);
  return response;
}
