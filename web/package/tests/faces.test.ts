import { describe, expect, it } from "vitest";
import { axisTowardsCamera } from "../src/filters";
import { fitAffine, fitSimilarity, fits } from "../src/fitting";
import { apply, tightBox, type Matrix, type Point } from "../src/geometry";
import { faceScore } from "../src/marking";
import { faceBox, mergeBoxes } from "../src/merging";
import { agree, looksLikeFace, movedOn } from "../src/plausible";
import { asJson } from "../src/results";
import { bestOfOverlapping, likelyBoxes, windows } from "../src/scanning";
import { OneEuroFilter } from "../src/smoothing";
import type { Face } from "../src/spec";

const corners: readonly Point[] = [[0, 0], [4, 0], [0, 3], [4, 3]];
const pairs = (matrix: Matrix) => corners.map((from, i) => ({ from, to: apply(matrix, from), weight: i + 1 }));

describe("warps of filters", () => {
  it("recover a similarity", () => {
    const matrix: Matrix = [0, -2, 5, 2, 0, 5];
    fitSimilarity(pairs(matrix))!.forEach((number, i) => expect(number).toBeCloseTo(matrix[i], 9));
  });
  it("recover an affine map", () => {
    const matrix: Matrix = [1, 0.5, -7, 0.25, 2, 3];
    fitAffine(pairs(matrix))!.forEach((number, i) => expect(number).toBeCloseTo(matrix[i], 9));
  });
  it("reject coincident and collinear anchors", () => {
    const one = { from: [1, 1], to: [2, 2], weight: 1 } as const;
    expect(fitSimilarity([one, one])).toBeNull();
    expect(fitAffine(corners.slice(0, 2).map((from) => ({ from, to: from, weight: 1 })))).toBeNull();
  });
  it("fit schemes with enough of the anchors", () => {
    const filter = {
      name: "hat", picture: "hat.png", warp: "similarity", anchors: { a: [0, 0, 1], b: [1, 0, 1] },
      drawn: [0, 0, 9, 9], outer_rows: [0, 9],
    } as const;
    const scheme = (...point_names: string[]) => ({ name: "own", point_names, groups: {}, normalizer_points: null });
    expect(fits(filter, scheme("b", "c", "a"))).toBe(true);
    expect(fits(filter, scheme("a", "c"))).toBe(false);
  });
});

describe("the axis of a head", () => {
  const meanFace = { a: [0, 0, 0], b: [1, 0, 0.2], c: [0, 1, -0.1], d: [0.3, 0.2, 1], e: [-1, 0.5, 0.4] } as const;
  const schema = { name: "own", point_names: Object.keys(meanFace), groups: {}, normalizer_points: null };
  const turned = (yaw: number, scale: number): Point[] =>
    Object.values(meanFace).map(([x, y, z]) => [7 + scale * (x * Math.cos(yaw) + z * Math.sin(yaw)), 5 + scale * y]);
  it("points to the right when the head turns to the right", () => {
    const axis = axisTowardsCamera(meanFace, schema, turned(0.5, 40))!;
    expect(axis[0]).toBeCloseTo(40 * Math.sin(0.5), 6);
    expect(axis[1]).toBeCloseTo(0, 6);
  });
  it("is unknown for a scheme without its points, and for points on a line", () => {
    expect(axisTowardsCamera(meanFace, { ...schema, point_names: ["a", "b"] }, turned(0, 1))).toBeNull();
    expect(axisTowardsCamera(meanFace, schema, turned(0, 1).map(([x]) => [x, x]))).toBeNull();
  });
});

describe("boxes of cascades", () => {
  const rule = { same_face: 0.35, inside: 0.5 };
  it("add their votes if they overlap", () => {
    const found = [[0, 0, 10, 10, 3], [0, 0, 10, 12, 1], [50, 50, 60, 60, 2]];
    const merged = mergeBoxes(found.map(([a, b, c, d, votes]) => ({ box: [a, b, c, d] as const, votes })), rule);
    expect(merged.map(({ votes }) => votes)).toEqual([4, 2]);
    expect(merged[0].box).toEqual([0, 0, 10, 10.5]);
  });
  it("are dropped inside a box with more votes", () => {
    const found = [{ box: [0, 0, 100, 100], votes: 5 }, { box: [40, 40, 60, 60], votes: 3 }] as const;
    expect(mergeBoxes(found, rule)).toEqual([{ box: [0, 0, 100, 100], votes: 5 }]);
  });
  it("are converted to tight boxes of points", () => {
    const cascade = { file: "", shift_xy: [0.1, 0.2], size_wh: [0.8, 0.5], mirrored: false } as const;
    expect(faceBox(cascade, [0, 0, 100, 100])).toEqual([20, 45, 100, 95]);
  });
});

describe("the search with the model", () => {
  const rule = { sides: [0.6, 0.4], step: 0.4, smallest: 20, longest: 4, same_face: 0.4, least_score: 0.02 };
  const face = (x: number, side: number, score: number): Face => ({
    box: [0, 0, 1, 1], keypoints: [[x, 0], [x + side, side]], uncertainty: null, score,
  });

  it("covers the picture with windows that end at its borders", () => {
    const boxes = windows(400, 300, rule);
    expect(boxes).toHaveLength(50);
    expect(boxes[0]).toEqual([-0.5, -0.5, 179.5, 179.5]);
    expect(tightBox(boxes.flatMap(([x0, y0, x1, y1]): Point[] => [[x0, y0], [x1, y1]]))).toEqual([-0.5, -0.5, 399.5, 299.5]);
  });
  it("skips small and long pictures", () => {
    expect(windows(30, 30, rule)).toEqual([]);
    expect(windows(1300, 300, rule)).toEqual([]);
  });
  it("keeps the best-scored of overlapping faces, in their order", () => {
    const [doubtful, sure, elsewhere] = [face(0, 10, 0.5), face(1, 10, 0.9), face(40, 10, 0.95)];
    expect(bestOfOverlapping([doubtful, sure, elsewhere], 0.4)).toEqual([sure, elsewhere]);
  });
  it("returns boxes around likely points, largest first", () => {
    expect(likelyBoxes([face(0, 10, 0.5), face(50, 20, 0.03), face(90, 10, 0.01)], rule)).toEqual([
      [50, 0, 70, 20],
      [0, 0, 10, 10],
    ]);
  });
});

describe("faces", () => {
  it("have a score of 0.5 at the middle and near 1 below it", () => {
    const rule = { middle: -3, slope: 5 };
    expect(faceScore([Math.exp(-3), Math.exp(-3)], rule)).toBeCloseTo(0.5);
    expect(faceScore([Math.exp(-4)], rule)).toBeGreaterThan(0.99);
    expect(faceScore([1], null)).toBeNull();
  });
  it("are rejected if they collapse, leave the picture or jump", () => {
    expect(looksLikeFace([10, 10, 60, 60], 100, 100)).toBe(true);
    expect(looksLikeFace([10, 10, 60, 20], 100, 100)).toBe(false);
    expect(looksLikeFace([80, 10, 130, 60], 100, 100)).toBe(false);
    expect(movedOn([0, 0, 50, 50], [10, 0, 60, 50])).toBe(true);
    expect(movedOn([0, 0, 50, 50], [30, 0, 80, 50])).toBe(false);
    expect(agree(corners, corners)).toBe(true);
    expect(agree(corners, corners.map(([x, y]): Point => [x + 1, y]))).toBe(false);
  });
  it("have the JSON of predict --json", () => {
    const face = { box: [0, 0, 1, 2.00049], keypoints: [[0.12345, 1]], uncertainty: [0.5], score: 0.98765 } as const;
    const scheme = { name: "own", point_names: ["nose"], groups: {}, normalizer_points: null };
    expect(JSON.parse(asJson("a.png", 4, 3, scheme, [face]))).toEqual([
      { image: "a.png", width: 4, height: 3, scheme: "own", faces: [
        { box: [0, 0, 1, 2], score: 0.9877, names: ["nose"], keypoints: [[0.123, 1]], uncertainty: [0.5] },
      ] },
    ]);
  });
});

describe("the One Euro filter", () => {
  it("keeps the first points and smooths later ones", () => {
    const filter = new OneEuroFilter();
    expect(filter.next([[5, 5]], 0, 100)).toEqual([[5, 5]]);
    const [[x]] = filter.next([[6, 5]], 33, 100);
    expect(x).toBeGreaterThan(5);
    expect(x).toBeLessThan(6);
  });
  it("follows constant motion", () => {
    const filter = new OneEuroFilter();
    let last: readonly Point[] = [];
    for (let i = 0; i < 60; i++) last = filter.next([[5 * i, 0]], 33 * i, 100);
    expect(Math.abs(last[0][0] - 5 * 59)).toBeLessThan(5);
  });
});
