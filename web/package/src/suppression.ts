/** Suppression of overlapping boxes, as in kpdetect/detection/boxes.py. */

import { area, commonArea, intersectionOverUnion, type Box } from "./geometry";

export const SAME_FACE = 0.4;
const FUSED = 0.35;
const CONTAINED = 0.5;

/** The indices of the boxes that are left, by falling score. */
export function nonMaximumSuppression(boxes: readonly Box[], scores: readonly number[], maxOverlap = SAME_FACE): number[] {
  const kept: number[] = [];
  for (const index of fallingOrder(scores)) {
    if (kept.every((other) => intersectionOverUnion(boxes[index], boxes[other]) < maxOverlap)) kept.push(index);
  }
  return kept;
}

/** Something with a box and a score that can be averaged, such as an oriented box. */
export interface Scored {
  readonly box: Box;
  readonly score: number;
}

/**
 * Averages overlapping boxes, weighted by their scores, and drops averages that another one of a higher sum contains.
 *
 * @param mean the average of a group
 * @returns the averages by falling sum of their scores
 */
export function weightedNonMaximumSuppression<Item extends Scored>(
  items: readonly Item[], mean: (group: readonly Item[], sum: number) => Item,
): Item[] {
  const averages = overlappingGroups(items).map((group) => mean(group, group.reduce((sum, { score }) => sum + score, 0)));
  return withoutContained(averages);
}

/** Groups of overlapping items: the one of the highest score is the first of its group and absorbs the others. */
export function overlappingGroups<Item extends Scored>(items: readonly Item[]): Item[][] {
  let free = [...items].sort(byScoreThenPlace);
  const groups: Item[][] = [];
  while (free.length > 0) {
    const [first, ...others] = free;
    const near = others.filter(({ box }) => intersectionOverUnion(first.box, box) >= FUSED);
    free = others.filter((one) => !near.includes(one));
    groups.push([first, ...near]);
  }
  return groups;
}

/** Drops items whose box shares more than a part of its area, or of the other's, with one of a higher score. */
export function withoutContained<Item extends Scored>(items: readonly Item[], mostContained = CONTAINED): Item[] {
  const kept: Item[] = [];
  for (const one of stableBy(items, ({ score }) => -score)) {
    const apart = ({ box }: Item) => commonArea(one.box, box) <= mostContained * Math.min(area(one.box), area(box));
    if (kept.every(apart)) kept.push(one);
  }
  return kept;
}

/** The weighted average of the boxes of a group. */
export function meanBox(group: readonly Scored[], sum: number): Box {
  const side = (index: 0 | 1 | 2 | 3) => group.reduce((total, { box, score }) => total + score * box[index], 0) / sum;
  return [side(0), side(1), side(2), side(3)];
}

export function stableBy<Item>(items: readonly Item[], key: (item: Item) => number): Item[] {
  return [...items].sort((one, other) => key(one) - key(other));
}

function fallingOrder(scores: readonly number[]): number[] {
  return stableBy(scores.map((_, index) => index), (index) => -scores[index]);
}

function byScoreThenPlace(one: Scored, other: Scored): number {
  const places = [3, 2, 1, 0].map((side) => one.box[side] - other.box[side]);
  return other.score - one.score || (places.find((difference) => difference !== 0) ?? 0);
}
