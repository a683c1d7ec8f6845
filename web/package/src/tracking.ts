/** Faces over time, as in kpdetect/tracking/tracker.py: the last points give the next crop; faces keep their numbers. */

import type { Picture, Placed, RawFace, Times } from "./engine";
import { intersectionOverUnion, tightBox, type Box, type Point } from "./geometry";
import type { Oriented } from "./oriented";
import { agree, looksLikeFace, movedOn, secondLook, sideOf } from "./plausible";
import { OneEuroFilter } from "./smoothing";
import { withoutContained } from "./suppression";

const KNOWN = 0.3; // intersection over union of a detector's box and a tracked face's
const SAME_FACE = 0.5; // of the tight boxes of two tracked faces that are one
const NEAR = 0.75; // distance of a found face from the expected position of a lost one, in sides
const SAME_SIZE = 1.5; // and the ratio of their sizes
const VELOCITY_SHARE = 0.3; // weight of a frame in the running mean of the velocity
const LEAST_SCORE = 0.5;
const CERTAIN_SCORE = 0.98; // a new face of a lower score is also tried in other rotations
const NESTED = 0.35; // share of a face's box within another's from which they are one face
const MIN_FACE = 0.1; // of the frame's longer side

/** When a tracker detects faces; frames, as in `TrackerOptions` of Python. */
export interface TrackerOptions {
  readonly detectEvery: number;
  readonly searchEvery: number;
  readonly checkEvery: number;
  readonly remember: number;
}

export const TRACKER_OPTIONS: TrackerOptions = { detectEvery: 30, searchEvery: 3, checkEvery: 5, remember: 30 };

/** What a tracker needs of the engine. */
export interface Predicts {
  detect(picture: Picture, minFace: number): Promise<readonly Placed[]>;
  /** Faces of places, in their order; each is predicted a second time if its first score is at least `worth`. */
  predictDetections(picture: Picture, places: readonly Placed[], worth: number, times: Times): Promise<readonly RawFace[]>;
  /** The oriented box of a leaning face; null for upright ones. */
  leaning(points: readonly Point[]): Oriented | null;
}

/** A face of one frame: its number, from 1, and the face with smoothed points. */
export interface RawTracked {
  readonly id: number;
  readonly face: RawFace;
}

interface Observation {
  readonly box: Box;
  readonly velocity: Point;
  readonly frame: number;
}

interface Track {
  readonly id: number;
  readonly smooth: OneEuroFilter;
  face: RawFace;
  last: Observation;
  remembered: readonly Observation[];
}

export class FaceTracker {
  private readonly options: TrackerOptions;
  private tracks: Track[] = [];
  private lost: Track[] = [];
  private frame = -1;
  private detectedAt: number | null = null;
  private given = 0;

  constructor(private readonly engine: Predicts, options: Partial<TrackerOptions> = {}) {
    this.options = { ...TRACKER_OPTIONS, ...options };
  }

  /** The faces of the next frame, by their numbers, with smoothed points. */
  async next(picture: Picture, timeS: number, times: Times): Promise<RawTracked[]> {
    this.frame++;
    await this.update(picture, times);
    if (this.detectionIsDue()) await this.addNew(picture, times);
    this.lost = this.lost.filter(({ last }) => this.frame - last.frame <= this.options.remember);
    return this.tracks.map(({ id, face, smooth, last }) => ({
      id,
      face: { ...face, keypoints: smooth.next(face.keypoints, timeS * 1000, sideOf(last.box)) },
    }));
  }

  /** Predicts the tracked faces again and drops lost ones. */
  private async update(picture: Picture, times: Times): Promise<void> {
    if (this.tracks.length === 0) return;
    const check = this.frame % this.options.checkEvery === 0;
    const before = this.tracks.map(({ last }) => last.box);
    const { faces, accepted } = await this.judged(picture, this.tracks.map(({ face }) => this.placeOf(face)), check, times);
    const after = faces.map(({ keypoints }) => tightBox(keypoints));
    const { width, height } = picture.frame;
    const kept = accepted.map(
      (accept, i) => accept && looksLikeFace(after[i], width, height) && movedOn(before[i], after[i]),
    );
    this.dropDuplicates(after, kept);
    const tracks: Track[] = [];
    for (const [i, track] of this.tracks.entries()) {
      if (kept[i]) {
        advance(track, faces[i], after[i], this.frame, check);
        tracks.push(track);
      } else {
        this.lost.push(track);
      }
    }
    this.tracks = tracks;
  }

  /** Of two faces in one place, drops the one that is further from its expected position. */
  private dropDuplicates(boxes: readonly Box[], kept: boolean[]): void {
    const distances = this.tracks.map(({ last }, i) => distance(last, boxes[i], this.frame));
    const order = distances.map((_, i) => i).sort((one, other) => distances[other] - distances[one]);
    for (const i of order) {
      const same = (j: number) => j !== i && kept[j] && intersectionOverUnion(boxes[i], boxes[j]) >= SAME_FACE;
      if (kept[i] && boxes.some((_, j) => same(j))) kept[i] = false;
    }
  }

  /** Where to predict a face again: its tight box, and if it leans, its oriented one. */
  private placeOf({ keypoints }: RawFace): Placed {
    return { box: tightBox(keypoints), oriented: this.engine.leaning(keypoints) };
  }

  /** Predicts places, and returns whether each is a face: by its score, or without one, by a second prediction. */
  private async judged(
    picture: Picture, places: readonly Placed[], check: boolean, times: Times,
  ): Promise<{ faces: readonly RawFace[]; accepted: boolean[] }> {
    const faces = await this.engine.predictDetections(picture, places, Infinity, times);
    if (faces.every(({ score }) => score !== null)) {
      return { faces, accepted: faces.map(({ score }) => (score as number) >= LEAST_SCORE) };
    }
    if (!check) return { faces, accepted: faces.map(() => true) };
    const second = await this.engine.predictDetections(picture, places.map(displaced), Infinity, times);
    return { faces, accepted: faces.map(({ keypoints }, i) => agree(keypoints, second[i].keypoints)) };
  }

  private detectionIsDue(): boolean {
    if (this.detectedAt === null) return true;
    const { detectEvery, searchEvery } = this.options;
    const searching = this.tracks.length === 0 || this.lost.length > 0;
    return this.frame - this.detectedAt >= (searching ? Math.min(searchEvery, detectEvery) : detectEvery);
  }

  /** Detects faces. A face that is not tracked gets the number of a lost one, or a new one. */
  private async addNew(picture: Picture, times: Times): Promise<void> {
    this.detectedAt = this.frame;
    const start = performance.now();
    const found = await this.engine.detect(picture, MIN_FACE);
    times.detect += performance.now() - start;
    const untracked = found.filter(({ box }) => this.tracks.every(({ last }) => intersectionOverUnion(last.box, box) < KNOWN));
    const added = await this.confirmed(picture, untracked, times);
    const numbers = this.numbersOfLost(added);
    this.lost = this.lost.filter(({ id }) => ![...numbers.values()].includes(id));
    for (const [i, face] of added.entries()) {
      const observation: Observation = { box: tightBox(face.keypoints), velocity: [0, 0], frame: this.frame };
      const id = numbers.get(i) ?? ++this.given;
      this.tracks.push({ id, face, smooth: new OneEuroFilter(), last: observation, remembered: [observation] });
    }
    this.tracks.sort((one, other) => one.id - other.id);
  }

  /** The faces of a detector's places, predicted again from their points; of several in one place the best. */
  private async confirmed(picture: Picture, places: readonly Placed[], times: Times): Promise<RawFace[]> {
    const { width, height } = picture.frame;
    const plausible = ({ keypoints }: RawFace) => looksLikeFace(tightBox(keypoints), width, height);
    const first = (await this.engine.predictDetections(picture, places, Infinity, times)).filter(plausible);
    if (first.length === 0) return [];
    const { faces, accepted } = await this.judged(picture, first.map((face) => this.placeOf(face)), true, times);
    const best = await this.inBestRotation(picture, faces.filter((_, i) => accepted[i]), times);
    const known = this.tracks.map(({ last }) => ({ box: last.box, score: Infinity, face: null }));
    const added = best.filter(plausible).map((face) => ({ box: tightBox(face.keypoints), score: face.score ?? 1, face }));
    const kept = withoutContained<(typeof known)[number] | (typeof added)[number]>([...known, ...added], NESTED);
    return added.filter((one) => kept.includes(one)).map(({ face }) => face);
  }

  /** Tries faces without a high score in the other quarters of a turn, and keeps the best of each. */
  private async inBestRotation(picture: Picture, faces: readonly RawFace[], times: Times): Promise<RawFace[]> {
    const best = [...faces];
    for (const [i, face] of faces.entries()) {
      if (face.score === null || face.score >= CERTAIN_SCORE) continue;
      const { box, oriented } = this.placeOf(face);
      const upright = oriented ?? uprightOf(box);
      const turned = [1, 2, 3].map((quarters): Placed => {
        return { box, oriented: { ...upright, roll: upright.roll + (quarters * Math.PI) / 2 } };
      });
      for (const other of await this.engine.predictDetections(picture, turned, Infinity, times)) {
        if ((other.score ?? 0) > (best[i].score ?? 0)) best[i] = other;
      }
    }
    return best;
  }

  /** The numbers of lost faces by the index of the new face; the nearest pairs are matched first. */
  private numbersOfLost(added: readonly RawFace[]): Map<number, number> {
    const pairs = this.lost.flatMap((track) =>
      added.map((face, index) => ({ far: distanceIfLost(track, tightBox(face.keypoints), this.frame), id: track.id, index })),
    );
    const numbers = new Map<number, number>();
    for (const { far, id, index } of pairs.sort((one, other) => one.far - other.far || one.id - other.id)) {
      if (Number.isFinite(far) && !numbers.has(index) && ![...numbers.values()].includes(id)) numbers.set(index, id);
    }
    return numbers;
  }
}

function advance(track: Track, face: RawFace, box: Box, frame: number, remember: boolean): void {
  const [from, to] = [center(track.last.box), center(box)];
  const [vx, vy] = track.last.velocity;
  const velocity: Point = [vx + VELOCITY_SHARE * (to[0] - from[0] - vx), vy + VELOCITY_SHARE * (to[1] - from[1] - vy)];
  track.face = face;
  track.last = { box, velocity, frame };
  if (remember) track.remembered = [...track.remembered.slice(-1), track.last];
}

/** The distance of a box of a later frame from the expected position, in sides of the face. */
function distance({ box, velocity, frame }: Observation, later: Box, laterFrame: number): number {
  const [from, to] = [center(box), center(later)];
  const steps = laterFrame - frame;
  return Math.hypot(to[0] - from[0] - velocity[0] * steps, to[1] - from[1] - velocity[1] * steps) / Math.max(sideOf(box), 1e-6);
}

function distanceIfLost({ last, remembered }: Track, box: Box, frame: number): number {
  const distances = [last, ...remembered.slice(0, 1)].flatMap((seen) => {
    const growth = sideOf(box) / Math.max(sideOf(seen.box), 1e-6);
    const far = distance(seen, box, frame);
    return far <= NEAR && growth <= SAME_SIZE && growth >= 1 / SAME_SIZE ? [far] : [];
  });
  return Math.min(...distances, Infinity);
}

/** The place of the second prediction, for models without a score. */
function displaced({ box, oriented }: Placed): Placed {
  if (oriented === null) return { box: secondLook(box), oriented };
  const { x, y, width, height, roll } = oriented;
  const moved = secondLook([x - width / 2, y - height / 2, x + width / 2, y + height / 2]);
  return { box, oriented: { ...uprightOf(moved), roll } };
}

function uprightOf(box: Box): Oriented {
  const [x, y] = center(box);
  return { x, y, width: box[2] - box[0], height: box[3] - box[1], roll: 0 };
}

function center([x0, y0, x1, y1]: Box): Point {
  return [(x0 + x1) / 2, (y0 + y1) / 2];
}
