/** The model's description and the detector's constants: spec.json and settings.json, written by kpdetect. */

import type { CropRule, Point } from "./geometry";

/** The parts of spec.json that are read. */
export interface Spec {
  readonly input: { readonly name: string; readonly channels: 1 | 3 };
  readonly crop: CropRule;
  readonly output: { readonly name: string };
  readonly uncertainty: { readonly name: string } | null;
  readonly face_score?: { readonly middle: number; readonly slope: number } | null;
  readonly schema: Schema;
  readonly recipe: string;
  readonly terms: string;
}

/** A keypoint scheme. */
export interface Schema {
  readonly name: string;
  readonly point_names: readonly string[];
  readonly groups: Readonly<Record<string, readonly number[]>>;
  readonly normalizer_points: readonly [number, number] | null;
}

/** The constants of kpdetect/detection/finder.py, by their names there. */
export interface FinderSettings {
  readonly cell: number;
  readonly size_unit: number;
  readonly stride: number;
  readonly smallest_seen: number;
  readonly smallest_face: number;
  readonly last_level: number;
  readonly gap: number;
  readonly min_face: number;
  readonly min_score: number;
  readonly judged_score: number;
  /** What the file's outputs, apart from the logit, are multiplied by; 1 by default. */
  readonly output_unit?: number;
  /** Of one level's scale to the next one's, at most; without it each level is half of the one before. */
  readonly level_ratio?: number;
  /** Scale from which a level is made by bilinear interpolation; 1 by default. */
  readonly least_bilinear?: number;
  /** The greatest number of detections that the model scores. */
  readonly max_candidates?: number;
  /** The number of detections that are tried in other rotations. */
  readonly max_turned?: number;
  /** A face of a lower score is also tried in other rotations; without it only pictures without a face are. */
  readonly certain_score?: number;
  /** In a picture with faces, other detections of a lower score than this are not tried in other rotations. */
  readonly likely_detection?: number;
  /** Intersection over union from which two boxes are in one place. */
  readonly same_place?: number;
  /** The lowest first score of a detected face that is predicted a second time; 0 by default. */
  readonly worth_refining?: number;
  /** The same for faces in other rotations than the finder's. */
  readonly promising_score?: number;
  /** A detection that leans by more than this is also tried as an upright face; without it none is. */
  readonly certain_roll_deg?: number;
  /** The lowest score of a face that only a second search finds, for models that output a score; 0 by default. */
  readonly retry_score?: number;
  /** The share of the smaller box's area that two faces have in common at most; without it any. */
  readonly nested?: number;
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

/** A filter's description, as in kpdetect/filters/pictures. */
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

/** settings.json: which files there are, and the constants of detection and filters. */
export interface Settings {
  /** File names of the model by accelerator. */
  readonly models: { readonly wasm: string; readonly webgpu?: string };
  /** The finder's file, of fixed size; null for models of whole pictures. */
  readonly finder: string | null;
  /** Compressed bytes of each file, for progress. */
  readonly bytes: Readonly<Record<string, number>>;
  readonly detector: FinderSettings;
  readonly scan: ScanSettings;
  readonly min_score: number;
  readonly filters: readonly FilterSettings[];
  readonly mean_face: Readonly<Record<string, readonly [number, number, number]>>;
}
