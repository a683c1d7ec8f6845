/** The numbers of Python, written by kpdetect.exporters.golden. */

import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { warpCrop } from "../src/crop";
import { doubtful, faceScore, turnedByQuarters } from "../src/engine";
import { decodeCells, pyramidOf } from "../src/finder";
import { cropMatrix, tightBox, uprightMatrix, type Box, type Point } from "../src/geometry";
import { measure } from "../src/measure";
import { leaning, tightBoxOf, type Oriented } from "../src/oriented";
import { toChannels, type Plane } from "../src/pixels";
import { OneEuroFilter } from "../src/smoothing";
import { meanBox, nonMaximumSuppression, weightedNonMaximumSuppression, withoutContained } from "../src/suppression";
import { DETECTOR, IBUG68 } from "./constants";

const golden = JSON.parse(readFileSync(new URL("./golden.json", import.meta.url), "utf8"));

function formulaPicture(width: number, height: number): Plane {
  const rgba = new Uint8ClampedArray(4 * width * height);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at += 4) {
      rgba.set([(7 * x + 2 * y) % 256, ((x * y) >> 4) % 256, (3 * x + 5 * y + 101) % 256, 255], at);
    }
  }
  return toChannels({ width, height, rgba }, 1);
}

/** The cases with their numbers. */
function cases(values: readonly unknown[]): [number, unknown][] {
  return values.map((value, i) => [i, value]);
}

function greatest(received: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(received.length).toBe(expected.length);
  return Math.max(...Array.from(received, (value, i) => Math.abs(value - expected[i])));
}

function numbersOf({ x, y, width, height, roll }: Oriented): number[] {
  return [x, y, width, height, (roll * 180) / Math.PI];
}

describe("golden numbers", () => {
  const picture = formulaPicture(golden.picture.width, golden.picture.height);
  it.each(cases(golden.crops))("crop %d", (_, given) => {
    const crop = given as { box?: Box; points: Point[]; across: Point; side: number; margin: number; matrix: number[]; grey: number[] };
    const rule = { size_hw: [crop.side, crop.side], margin: crop.margin, around: "face" } as const;
    const matrix = crop.box ? cropMatrix(rule, crop.box) : uprightMatrix(rule, crop.points, crop.across);
    expect(greatest(matrix, crop.matrix)).toBeLessThan(1e-5);
    expect(greatest(warpCrop(picture, matrix, rule.size_hw), crop.grey)).toBe(0);
  });
  it.each(cases(golden.pyramids))("pyramid %d", (_, given) => {
    const expected = given as {
      width: number; height: number; min_face: number; picture_wh: number[]; places: number[][]; every: number; pixels: number[];
    };
    const pyramid = pyramidOf(formulaPicture(expected.width, expected.height), expected.min_face, DETECTOR);
    expect([pyramid.width, pyramid.height]).toEqual(expected.picture_wh);
    expect(pyramid.levels.map(({ box }) => [...box])).toEqual(expected.places);
    const some = pyramid.data.filter((_value, i) => i % expected.every === 0);
    expect(greatest(some, expected.pixels)).toBe(0);
  });
  it("cells", () => {
    for (const { columns, values, output, min_score, boxes, oriented, scores } of golden.cells) {
      const found = decodeCells(Float32Array.from(output), columns, min_score, DETECTOR);
      expect(found.every(({ oriented }) => (oriented !== null) === (values === 7))).toBe(true);
      if (boxes === undefined) continue;
      expect(greatest(found.flatMap(({ box }) => box), boxes.flat())).toBeLessThan(1e-3);
      expect(greatest(found.map(({ score }) => score), scores)).toBeLessThan(1e-4);
      if (oriented === undefined) continue;
      const numbers = found.map(({ oriented: one }) => one && [one.x, one.y, one.width, one.height, (one.roll * 180) / Math.PI]);
      expect(greatest(numbers.flatMap((one) => one ?? []), oriented.flat())).toBeLessThan(2e-3);
    }
  });
  it("suppression", () => {
    const { boxes, scores, kept, apart, fused, sums } = golden.suppression;
    expect(nonMaximumSuppression(boxes, scores)).toEqual(kept);
    const items = boxes.map((box: Box, i: number) => ({ box, score: scores[i] }));
    expect(withoutContained(items, DETECTOR.nested).map((item) => items.indexOf(item))).toEqual(apart);
    const merged = weightedNonMaximumSuppression(items, (group, sum) => ({ box: meanBox(group, sum), score: sum }));
    expect(greatest(merged.flatMap(({ box }) => box), fused.flat())).toBeLessThan(1e-3);
    expect(greatest(merged.map(({ score }) => score), sums)).toBeLessThan(1e-4);
  });
  it.each(cases(golden.leaning))("rotation of a face %d", (_, given) => {
    const { keypoints, oriented } = given as { keypoints: Point[]; oriented: number[] };
    const found = leaning(keypoints, IBUG68, DETECTOR.certain_roll_deg ?? 0);
    expect(found === null).toBe(oriented[4] === 0);
    if (found) expect(greatest(numbersOf(found), oriented)).toBeLessThan(2e-3);
  });
  it.each(cases(golden.turned))("other rotations %d", (_, given) => {
    const { oriented, scores, face, turned } = given as {
      oriented: number[][]; scores: number[]; face: { keypoints: Point[]; score: number } | null; turned: number[][];
    };
    const found = oriented.map(([x, y, width, height, degrees], i) => {
      const one = { x, y, width, height, roll: (degrees * Math.PI) / 180 };
      return { box: tightBoxOf(one), score: scores[i], oriented: one };
    });
    const faces = face === null ? [] : [{ ...face, detectionBox: tightBox(face.keypoints), uncertainty: null, visibility: null }];
    const received = turnedByQuarters(doubtful(found, faces, DETECTOR)).flatMap((one) => (one.oriented ? numbersOf(one.oriented) : []));
    expect(greatest(received, turned.flat())).toBeLessThan(2e-3);
  });
  it("One Euro filter", () => {
    const filter = new OneEuroFilter();
    for (const { time_s, points, side, smoothed } of golden.one_euro.frames) {
      expect(greatest(filter.next(points, 1000 * time_s, side).flat(), smoothed.flat())).toBeLessThan(1e-3);
    }
  });
  it("face score", () => {
    const { rule, uncertainty, scores } = golden.face_score;
    expect(greatest(uncertainty.map((one: number[]) => faceScore(one, rule)), scores)).toBeLessThan(1e-4);
  });
  it.each(cases(golden.measures))("measures %d", (_, given) => {
    const { keypoints, measures } = given as { keypoints: Point[]; measures: Record<string, Record<string, number> & number> };
    const face = { keypoints, schema: IBUG68, box: [0, 0, 1, 1], detectionBox: null, score: null, uncertainty: null, visibility: null } as const;
    const received = measure(face);
    for (const angle of ["yaw_deg", "pitch_deg", "roll_deg"] as const) {
      expect(Math.abs((received.head_pose?.[angle] ?? 99) - measures["head_pose"][angle])).toBeLessThan(0.05);
    }
    expect(received.eye_openness?.right).toBeCloseTo(measures["eye_openness"]["right"], 3);
    expect(received.mouth_openness).toBeCloseTo(measures["mouth_openness"], 3);
    expect(received.smile).toBeCloseTo(measures["smile"], 3);
    expect(received.eyes_closed).toBe(measures["eyes_closed"]);
  });
});
