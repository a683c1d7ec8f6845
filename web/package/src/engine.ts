/** The pipeline of kpdetect/inference/predictor.py in a worker: detect, crop, predict, refine, filter. */

import { Assets, type Progress } from "./assets";
import { warpCrop } from "./crop";
import { decodeCells, mergeDetections, pyramidOf, separate, toPhotograph, type Detection } from "./finder";
import {
  apply, area, cropMatrix, float32, imageBox, intersectionOverUnion, invert, tightBox, toPixels, uprightMatrix, type Box, type Matrix, type Point,
} from "./geometry";
import { hasWebGpu, Network, runtimeFiles, startLiteRt, type Accelerator } from "./litert";
import { acrossFace, leaning, orientedMatrix, tightBoxOf, type Oriented } from "./oriented";
import { toChannels, type Frame, type Plane } from "./pixels";
import { windows } from "./scanning";
import type { FinderSettings, Settings, Spec } from "./settings";
import { nonMaximumSuppression, stableBy, withoutContained } from "./suppression";
import { withInputSize } from "./tflite";

const MAX_OVERHANG = 4; // longer sides of the photograph; boxes that reach further are cut
const KEPT_SIZES = 4; // of compiled finders

/** A predicted face, without its scheme, as it is sent from the worker. */
export interface RawFace {
  readonly keypoints: readonly Point[];
  readonly detectionBox: Box;
  readonly score: number | null;
  readonly uncertainty: readonly number[] | null;
  readonly visibility: readonly number[] | null;
}

/** Milliseconds of each step. */
export interface Times {
  detect: number;
  crop: number;
  model: number;
}

export interface Predicted {
  readonly faces: readonly RawFace[];
  readonly times: Times;
}

/** Options of a prediction. */
export interface PredictOptions {
  /** Your own face boxes, instead of detected ones. */
  readonly boxes?: readonly Box[];
  /** The smallest face to find, as a share of the picture's longer side. */
  readonly minFace?: number;
  /** Detected faces with a lower score are left out. */
  readonly minScore?: number;
  /** Predict each face a second time from its first points; by default for detected faces only. */
  readonly secondLook?: boolean;
}

/** What a model's file may output beside points and uncertainties. */
const SCORE = "score";
const VISIBILITY = "visibility";

/** One picture, in the two forms that the networks take. */
export class Picture {
  private readonly planes = new Map<number, Plane>();

  constructor(readonly frame: Frame) {}

  plane(channels: number): Plane {
    const known = this.planes.get(channels);
    if (known) return known;
    const made = toChannels(this.frame, channels);
    this.planes.set(channels, made);
    return made;
  }
}

/** A place to predict a face in: a box, and the oriented one if the rotation is known. */
export type Placed = Pick<Detection, "box" | "oriented">;

export class Engine {
  private readonly finders = new Map<string, Network>();

  private constructor(
    readonly spec: Spec,
    readonly settings: Settings,
    private readonly model: Network,
    private readonly finderFile: Uint8Array | null,
    private readonly judges: boolean,
    private readonly scores: boolean,
    private readonly retryScore: number,
  ) {}

  /** @param base the address of the folder with settings.json */
  static async load(
    base: string, accelerator: "auto" | Accelerator, onProgress: (progress: Progress) => void,
  ): Promise<Engine> {
    const assets = new Assets(base, onProgress);
    const [spec, settings] = await Promise.all([assets.json<Spec>("spec.json"), assets.json<Settings>("settings.json")]);
    const gpu = settings.models.webgpu !== undefined && accelerator !== "wasm" && (accelerator === "webgpu" || (await hasWebGpu()));
    const name = gpu ? (settings.models.webgpu as string) : settings.models.wasm;
    assets.expect(settings.bytes, [runtimeFiles().module, name, ...(settings.finder === null ? [] : [settings.finder])]);
    const [modelFile, finderFile] = await Promise.all([
      assets.bytes(name),
      settings.finder === null ? null : assets.bytes(settings.finder),
      startLiteRt(assets),
    ]);
    const model = gpu ? await onGpu(modelFile, assets, settings) : await Network.compile(modelFile, "wasm");
    const [height, width] = spec.crop.size_hw;
    const outputs = await model.run(new Uint8Array(height * width * spec.input.channels)); // the first run is slow
    const judges = SCORE in outputs || (spec.face_score ?? null) !== null;
    const retryScore = SCORE in outputs ? (settings.detector.retry_score ?? 0) : 0;
    return new Engine(spec, settings, model, finderFile, judges, SCORE in outputs, retryScore);
  }

  get accelerator(): Accelerator {
    return this.model.accelerator;
  }

  /** The faces of a picture, largest first, or in the order of the given boxes. */
  async predict(picture: Picture, options: PredictOptions = {}): Promise<Predicted> {
    const times: Times = { detect: 0, crop: 0, model: 0 };
    const minScore = options.minScore ?? this.settings.min_score;
    const { width, height } = picture.frame;
    if (this.spec.crop.around === "image") {
      const whole = imageBox(width, height);
      const boxes = options.boxes?.map(() => whole) ?? [whole];
      return { faces: await this.predictBoxes(picture, boxes, false, times), times };
    }
    if (options.boxes) {
      const faces = await this.predictBoxes(picture, options.boxes, options.secondLook ?? false, times);
      return { faces, times };
    }
    const start = performance.now();
    const { detector } = this.settings;
    const found = withUpright(await this.candidates(picture, options.minFace ?? detector.min_face, minScore), detector);
    times.detect = performance.now() - start;
    const again = options.secondLook ?? true;
    const judges = this.judgesAt(minScore);
    const worth = (least: number | undefined) => (again ? (judges && this.scores ? (least ?? 0) : 0) : Infinity);
    let faces = await this.predictDetections(picture, found, worth(detector.worth_refining), times);
    faces = this.filter(faces, minScore);
    const leastRetried = Math.max(minScore, this.retryScore);
    if (judges && (this.scores || faces.length === 0)) {
      const turned = turnedByQuarters(doubtful(found, faces, detector));
      const more = await this.predictDetections(picture, turned, worth(detector.promising_score), times);
      const sure = this.filter(more, leastRetried);
      if (sure.length > 0) faces = this.filter([...faces, ...sure], minScore);
    }
    if (faces.length === 0 && judges) {
      const seen = await this.predictBoxes(picture, windows(width, height, this.settings.scan), false, times);
      const likely = seen.filter(({ score }) => (score ?? 1) >= this.settings.scan.least_score);
      const boxes = distinct(likely, detector.nested).map(({ keypoints }) => tightBox(keypoints));
      const large = stableBy(boxes, (box) => -area(box)).map((box): Detection => ({ box, score: 1, oriented: null }));
      faces = await this.predictDetections(picture, large, worth(detector.worth_refining), times);
      faces = this.filter(faces, leastRetried);
    }
    return { faces, times };
  }

  /** Faces of boxes, in their order; for the tracker, which looks at each once. */
  async predictBoxes(picture: Picture, boxes: readonly Box[], again: boolean, times: Times): Promise<RawFace[]> {
    const faces: RawFace[] = [];
    for (const box of boxes) {
      faces.push(await this.predictFrom(picture, box, cropMatrix(this.spec.crop, box), again ? 0 : Infinity, times));
    }
    return faces;
  }

  /** The detector's faces, largest first, those that lean also as upright ones; for the tracker. */
  async detect(picture: Picture, minFace: number): Promise<readonly Detection[]> {
    const { detector, min_score } = this.settings;
    return withUpright(separate(await this.candidates(picture, minFace, min_score)), detector);
  }

  /** The oriented box of a leaning face; null for upright ones. */
  leaning(points: readonly Point[]): Oriented | null {
    return leaning(points, this.spec.schema, this.settings.detector.certain_roll_deg ?? 180);
  }

  /** What may be a face, for the model to score. */
  private async candidates(picture: Picture, minFace: number, minScore: number): Promise<Detection[]> {
    const { detector } = this.settings;
    const { width, height } = picture.frame;
    const pyramid = pyramidOf(picture.plane(1), minFace, detector);
    const network = await this.finderOf(pyramid.width, pyramid.height);
    const [output] = Object.values(await network.run(pyramid.data));
    const threshold = this.judgesAt(minScore) ? detector.judged_score : detector.min_score;
    const cells = decodeCells(output, pyramid.width / detector.stride, threshold, detector);
    const merged = mergeDetections(toPhotograph(cells, pyramid, width, height));
    return merged.slice(0, detector.max_candidates ?? Infinity).flatMap((one) => {
      const box = cutBox(one.box, width, height);
      return box === null ? [] : [{ ...one, box }];
    });
  }

  close(): void {
    this.model.close();
    for (const finder of this.finders.values()) finder.close();
    this.finders.clear();
  }

  /**
   * Faces of the finder, in their order, each from a crop that its rotation turns upright.
   *
   * @param worth the lowest first score of a face that is predicted a second time; Infinity for none
   */
  async predictDetections(
    picture: Picture, found: readonly Placed[], worth: number, times: Times,
  ): Promise<RawFace[]> {
    const faces: RawFace[] = [];
    for (const { box, oriented } of found) {
      const matrix = oriented ? orientedMatrix(this.spec.crop, oriented) : cropMatrix(this.spec.crop, box);
      faces.push(await this.predictFrom(picture, box, matrix, worth, times));
    }
    return faces;
  }

  private async predictFrom(picture: Picture, box: Box, matrix: Matrix, worth: number, times: Times): Promise<RawFace> {
    const first = await this.look(picture, box, matrix, times);
    if (worth === Infinity || (first.score ?? 1) < worth || !this.canBeTurned(first.keypoints)) return first;
    const across = acrossFace(first.keypoints, matrix, this.spec.schema);
    return this.look(picture, box, uprightMatrix(this.spec.crop, first.keypoints, across), times);
  }

  private async look(picture: Picture, box: Box, matrix: Matrix, times: Times): Promise<RawFace> {
    const { spec } = this;
    const start = performance.now();
    const crop = warpCrop(picture.plane(spec.input.channels), matrix, spec.crop.size_hw);
    const cropped = performance.now();
    const outputs = await this.model.run(crop);
    times.crop += cropped - start;
    times.model += performance.now() - cropped;
    const relative = outputs[spec.output.name];
    const errors = spec.uncertainty === null ? null : outputs[spec.uncertainty.name];
    if (![...relative, ...(errors ?? [])].every(Number.isFinite)) {
      throw new Error("model: expected finite numbers, received NaN or infinity; the file is damaged");
    }
    const back = invert(matrix);
    const sidePx = Math.max(...spec.crop.size_hw) * Math.hypot(back[0], back[3]);
    return {
      keypoints: spec.schema.point_names.map((_, i) =>
        float32(apply(back, float32(toPixels([relative[2 * i], relative[2 * i + 1]], spec.crop.size_hw)))),
      ),
      detectionBox: box,
      score: SCORE in outputs ? outputs[SCORE][0] : errors && faceScore(errors, spec.face_score ?? null),
      uncertainty: errors && Array.from(errors, (share) => share * sidePx),
      visibility: VISIBILITY in outputs ? Array.from(outputs[VISIBILITY]) : null,
    };
  }

  private filter(faces: readonly RawFace[], minScore: number): RawFace[] {
    const { nested } = this.settings.detector;
    const likely = this.judges ? distinct(faces.filter(({ score }) => (score ?? 1) >= minScore), nested) : faces;
    return stableBy(likely, ({ keypoints }) => -area(tightBox(keypoints)));
  }

  /** Whether the model's score rejects false detections, so that the detector's threshold can be lower. */
  private judgesAt(minScore: number): boolean {
    return this.judges && minScore >= this.settings.min_score;
  }

  /** The finder for pictures of one size; compiled ones are kept. */
  private async finderOf(width: number, height: number): Promise<Network> {
    const size = `${width}x${height}`;
    const known = this.finders.get(size);
    if (known) return known;
    if (this.finderFile === null) throw new Error("this folder has no face finder; give boxes");
    const [oldest] = this.finders.keys();
    if (this.finders.size >= KEPT_SIZES) {
      this.finders.get(oldest)?.close();
      this.finders.delete(oldest);
    }
    const made = await Network.compile(withInputSize(this.finderFile, width, height), "wasm");
    this.finders.set(size, made);
    return made;
  }

  /** Whether a face's points define a crop, that is, span an area. */
  private canBeTurned(points: readonly Point[]): boolean {
    const [x0, y0, x1, y1] = tightBox(points);
    const { crop, schema: { normalizer_points: eyes } } = this.spec;
    const apart = eyes === null || Math.hypot(points[eyes[0]][0] - points[eyes[1]][0], points[eyes[0]][1] - points[eyes[1]][1]) > 0;
    return crop.around === "face" && Math.min(x1 - x0, y1 - y0) > 1 && apart;
  }
}

/** The detections, and those that lean a second time as upright: the finder's rotation of small faces may be wrong. */
function withUpright(found: readonly Detection[], { certain_roll_deg: certain = 180 }: FinderSettings): readonly Detection[] {
  const upright = found.flatMap((one): Detection[] => {
    const { oriented } = one;
    if (oriented === null || Math.cos(oriented.roll) >= Math.cos((certain * Math.PI) / 180)) return [];
    return [{ ...one, oriented: { ...oriented, roll: 0 }, box: tightBoxOf({ ...oriented, roll: 0 }) }];
  });
  return [...found, ...upright];
}

/** The detections to try in other rotations: those without a certain face, the best of each place. */
export function doubtful(found: readonly Detection[], faces: readonly RawFace[], settings: FinderSettings): Detection[] {
  const { max_turned: most = 0, certain_score: certain = 0, likely_detection: likely = Infinity, same_place: same = 0.3 } = settings;
  const places = faces.map(({ keypoints, score }) => ({ box: tightBox(keypoints), certain: score === null || score >= certain }));
  const tried = found.filter(({ box, score }) => {
    const here = places.filter((place) => intersectionOverUnion(place.box, box) >= same);
    return here.every((place) => !place.certain) && (score >= likely || here.length > 0 || faces.length === 0);
  });
  return nonMaximumSuppression(tried.map(({ box }) => box), tried.map(({ score }) => score), same)
    .slice(0, most)
    .map((index) => tried[index]);
}

/** Detections in the three other upright, lying and upside-down positions; the finder's rotation may be wrong. */
export function turnedByQuarters(found: readonly Detection[]): Detection[] {
  return [1, 2, 3].flatMap((quarters) =>
    found.flatMap((one): Detection[] => {
      if (one.oriented === null) return [];
      const oriented = { ...one.oriented, roll: one.oriented.roll + (quarters * Math.PI) / 2 };
      return [{ ...one, oriented, box: tightBoxOf(oriented) }];
    }),
  );
}

/** On the GPU, or where that fails, on the processor. */
async function onGpu(file: Uint8Array, assets: Assets, settings: Settings): Promise<Network> {
  try {
    const network = await Network.compile(file, "webgpu");
    if (network.isFullyAccelerated) return network;
    network.close();
  } catch (error) {
    console.warn(`WebGPU is not used: ${error}`);
  }
  return Network.compile(await assets.bytes(settings.models.wasm), "wasm");
}

/** The face score, 0 to 1, from the mean uncertainty; null for models without one. */
export function faceScore(uncertainty: ArrayLike<number>, rule: Spec["face_score"]): number | null {
  if (!rule) return null;
  const mean = Array.from(uncertainty).reduce((total, one) => total + one, 0) / uncertainty.length;
  const exponent = rule.slope * (Math.log(Math.max(mean, 1e-9)) - rule.middle);
  return 1 / (1 + Math.exp(Math.min(Math.max(exponent, -50), 50)));
}

/** Of several detections of one face, the one of the highest score; the others keep their order. */
function distinct(faces: readonly RawFace[], nested: number | undefined): RawFace[] {
  const items = faces.map((face) => ({ face, box: tightBox(face.keypoints), score: Math.round(100 * (face.score ?? 1)) / 100 }));
  const apart = nonMaximumSuppression(items.map(({ box }) => box), items.map(({ score }) => score)).map((index) => items[index]);
  const kept = nested === undefined ? apart : withoutContained(apart, nested);
  return items.filter((item) => kept.includes(item)).map(({ face }) => face);
}

/** A box that does not reach further than `MAX_OVERHANG` beyond the picture; null if it is entirely outside. */
function cutBox([x0, y0, x1, y1]: Box, width: number, height: number): Box | null {
  const overhang = MAX_OVERHANG * Math.max(width, height);
  if (x0 > width + overhang || y0 > height + overhang || x1 < -overhang || y1 < -overhang) return null;
  return [Math.max(x0, -overhang), Math.max(y0, -overhang), Math.min(x1, width + overhang), Math.min(y1, height + overhang)];
}
