/** Tracks faces from frame to frame: the last points define the next crop, and the detector runs from time to time. */

import { intersectionOverUnion, tightBox, type Box, type Point } from "./geometry";
import type { Spent } from "./marking";
import type { Frame } from "./pixels";
import { agree, looksLikeFace, movedOn, secondLook, sideOf } from "./plausible";
import { OneEuroFilter } from "./smoothing";
import type { Face } from "./spec";

const KNOWN = 0.3; // minimal intersection over union of a detected box and a known face
const SAME_FACE = 0.5; // minimal intersection over union of two tracks of one face
const SEARCH_MS = 1000; // between two detections while faces are tracked
const CHECK_EVERY = 5; // frames between two second predictions of faces without a score

/** The interface of the two workers that the tracker uses. */
export interface Eyes {
  find(frame: Frame): Promise<{ boxes: readonly Box[]; ms: number }>;
  markBoxes(frame: Frame, boxes: readonly Box[], again: boolean): Promise<{ faces: readonly Face[]; spent: Spent }>;
  follow(frame: Frame, points: readonly (readonly Point[])[]): Promise<{ faces: readonly Face[]; spent: Spent }>;
}

export interface Tracked {
  readonly faces: readonly Face[];
  readonly spent: Spent;
  /** Duration of the last detection; null before the first. */
  readonly detectMs: number | null;
}

interface Track {
  readonly face: Face;
  readonly smooth: OneEuroFilter;
}

export class Tracker {
  private tracks: readonly Track[] = [];
  private found: readonly Box[] | undefined;
  private failure: unknown;
  private searching = false;
  private searchedAt = -Infinity;
  private detectMs: number | null = null;
  private frames = 0;
  private spent: Spent = { crop: 0, model: 0 };

  constructor(
    private readonly eyes: Eyes,
    private readonly minScore: number,
  ) {}

  /** Processes a frame and returns its faces with smoothed points. Detection runs in parallel, one frame late. */
  async next(frame: Frame, timeMs: number): Promise<Tracked> {
    if (this.failure !== undefined) throw this.failure;
    this.spent = { crop: 0, model: 0 };
    this.frames++;
    await this.follow(frame);
    await this.welcome(frame);
    this.searchIfDue(frame, timeMs);
    const faces = this.tracks.map(({ face, smooth }) => ({
      ...face,
      keypoints: smooth.next(face.keypoints, timeMs, sideOf(tightBox(face.keypoints))),
    }));
    return { faces, spent: this.spent, detectMs: this.detectMs };
  }

  /** Predicts the tracked faces again and drops lost ones. */
  private async follow(frame: Frame): Promise<void> {
    if (this.tracks.length === 0) return;
    const faces = await this.look(frame, this.tracks.map(({ face }) => face));
    const followed = this.tracks.map(({ face, smooth }, i) => ({ before: face, face: faces[i], smooth }));
    const moved = followed.filter(({ before, face }) => movedOn(tightBox(before.keypoints), tightBox(face.keypoints)));
    this.tracks = await this.confirmed(frame, moved, this.frames % CHECK_EVERY === 0);
  }

  /** The faces in this frame. A face that moved fast is predicted again in a crop of its own. */
  private async look(frame: Frame, before: readonly Face[]): Promise<readonly Face[]> {
    const first = await this.eyes.follow(frame, before.map(({ keypoints }) => keypoints));
    this.add(first.spent);
    const unsure = first.faces.filter(({ score }) => (score ?? 1) < this.minScore);
    if (unsure.length === 0) return first.faces;
    const second = await this.eyes.follow(frame, unsure.map(({ keypoints }) => keypoints));
    this.add(second.spent);
    return first.faces.map((face) => second.faces[unsure.indexOf(face)] ?? face);
  }

  /** Adds the faces of a finished detection. */
  private async welcome(frame: Frame): Promise<void> {
    const boxes = (this.found ?? []).filter((box) => !this.tracks.some(({ face }) => overlap(face, box) >= KNOWN));
    this.found = undefined;
    if (boxes.length === 0) return;
    const marked = await this.eyes.markBoxes(frame, boxes, true);
    this.add(marked.spent);
    const found = marked.faces.map((face) => ({ face, smooth: new OneEuroFilter() }));
    this.tracks = distinct([...this.tracks, ...(await this.confirmed(frame, found, true))]);
  }

  /** The faces that pass the model's score, or without a score, a second prediction if one is due. */
  private async confirmed(frame: Frame, tracks: readonly Track[], lookAgain: boolean): Promise<readonly Track[]> {
    const likely = distinct(tracks).filter(
      ({ face }) =>
        looksLikeFace(tightBox(face.keypoints), frame.width, frame.height) && (face.score ?? 1) >= this.minScore,
    );
    const doubtful = lookAgain ? likely.filter(({ face }) => face.score === null) : [];
    if (doubtful.length === 0) return likely;
    const boxes = doubtful.map(({ face }) => secondLook(tightBox(face.keypoints)));
    const second = await this.eyes.markBoxes(frame, boxes, false);
    this.add(second.spent);
    const refuted = doubtful.filter(({ face }, i) => !agree(face.keypoints, second.faces[i].keypoints));
    return likely.filter((track) => !refuted.includes(track));
  }

  private searchIfDue(frame: Frame, timeMs: number): void {
    const due = this.tracks.length === 0 || timeMs - this.searchedAt >= SEARCH_MS;
    if (this.searching || !due) return;
    [this.searching, this.searchedAt] = [true, timeMs];
    this.eyes
      .find(frame)
      .then(({ boxes, ms }) => ([this.found, this.detectMs] = [boxes, ms]))
      .catch((error: unknown) => (this.failure = error))
      .finally(() => (this.searching = false));
  }

  private add(spent: Spent): void {
    this.spent.crop += spent.crop;
    this.spent.model += spent.model;
  }
}

function overlap(face: Face, box: Box): number {
  return intersectionOverUnion(tightBox(face.keypoints), box);
}

/** Of faces that coincide, keeps the one that was tracked longest. */
function distinct(tracks: readonly Track[]): readonly Track[] {
  const kept: Track[] = [];
  for (const track of tracks) {
    if (!kept.some(({ face }) => overlap(face, tightBox(track.face.keypoints)) >= SAME_FACE)) kept.push(track);
  }
  return kept;
}
