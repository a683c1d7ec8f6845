/** Merges the boxes of cascades to faces, like kpdetect.detection.weighted_non_maximum_suppression. */

import { area, commonArea, intersectionOverUnion, type Box, type Point } from "./geometry";
import type { Cascade, DetectorSettings } from "./spec";

/** A box and its number of votes. */
export interface Vote {
  readonly box: Box;
  readonly votes: number;
}

/** Converts a cascade's square to the tight box of a face's points. */
export function faceBox({ shift_xy, size_wh }: Cascade, [x0, y0, x1, y1]: Box): Box {
  const side: Point = [x1 - x0, y1 - y0];
  const center: Point = [(x0 + x1) / 2 + side[0] * shift_xy[0], (y0 + y1) / 2 + side[1] * shift_xy[1]];
  const half: Point = [(side[0] * size_wh[0]) / 2, (side[1] * size_wh[1]) / 2];
  return [center[0] - half[0], center[1] - half[1], center[0] + half[0], center[1] + half[1]];
}

/**
 * The box with most votes absorbs those that overlap it, weighted by votes; then a box that lies mostly inside another
 * with more votes, or around it, is dropped.
 */
export function mergeBoxes(found: readonly Vote[], settings: Pick<DetectorSettings, "same_face" | "inside">): Vote[] {
  let free = [...found].sort(byVotesThenPlace);
  const merged: Vote[] = [];
  while (free.length > 0) {
    const [first, ...others] = free;
    const near = others.filter(({ box }) => intersectionOverUnion(first.box, box) >= settings.same_face);
    free = others.filter((vote) => !near.includes(vote));
    merged.push(mean([first, ...near]));
  }
  merged.sort((one, other) => other.votes - one.votes);
  const kept: Vote[] = [];
  for (const one of merged) {
    const within = ({ box }: Vote) => commonArea(one.box, box) > settings.inside * Math.min(area(one.box), area(box));
    if (!kept.some(within)) kept.push(one);
  }
  return kept;
}

function byVotesThenPlace(one: Vote, other: Vote): number {
  const places = [3, 2, 1, 0].map((side) => one.box[side] - other.box[side]);
  return other.votes - one.votes || (places.find((difference) => difference !== 0) ?? 0);
}

function mean(votes: readonly Vote[]): Vote {
  const sum = votes.reduce((total, vote) => total + vote.votes, 0);
  const side = (index: number) => votes.reduce((total, vote) => total + vote.votes * vote.box[index], 0) / sum;
  return { box: [side(0), side(1), side(2), side(3)], votes: sum };
}
