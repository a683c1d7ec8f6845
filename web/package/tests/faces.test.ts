import { describe, expect, it } from "vitest";
import { contourEdges } from "../src/contours";
import { faceScore } from "../src/engine";
import { group, guessed, keypointConfidence, point, type Face } from "../src/face";
import { axisTowardsCamera } from "../src/filters";
import { fitAffine, fitSimilarity, fits } from "../src/fitting";
import { apply, tightBox, type Matrix, type Point } from "../src/geometry";
import { acrossFace, orientedMatrix, tightBoxOf } from "../src/oriented";
import { agree, looksLikeFace, movedOn } from "../src/plausible";
import { asCoco, asCsv, asJson } from "../src/results";
import { windows } from "../src/scanning";
import { OneEuroFilter } from "../src/smoothing";
import { IBUG68 } from "./constants";

const corners: readonly Point[] = [[0, 0], [4, 0], [0, 3], [4, 3]];
const pairs = (matrix: Matrix) => corners.map((from, i) => ({ from, to: apply(matrix, from), weight: i + 1 }));
const own = { name: "own", point_names: ["left", "right", "nose"], groups: { eyes: [0, 1] }, normalizer_points: [0, 1] } as const;
const face: Face = {
  keypoints: [[0.12345, 1], [100, 1], [50, 60]],
  schema: own,
  box: [0.12345, 1, 100, 60],
  detectionBox: [0, 0, 101, 62],
  score: 0.98765,
  uncertainty: [1, 2, 40],
  visibility: null,
};

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

describe("oriented boxes", () => {
  it("have the tight box of the mean face's outline", () => {
    const box = tightBoxOf({ x: 50, y: 50, width: 20, height: 40, roll: Math.PI / 2 });
    [30, 40, 70, 60].forEach((side, i) => expect(box[i]).toBeCloseTo(side, 6));
  });
  it("are turned upright about their centre", () => {
    const rule = { size_hw: [40, 40], margin: 1, around: "face" } as const;
    const matrix = orientedMatrix(rule, { x: 50, y: 60, width: 40, height: 40, roll: Math.PI / 6 });
    const [x, y] = apply(matrix, [50, 60]);
    expect(x).toBeCloseTo(19.5, 9);
    expect(y).toBeCloseTo(19.5, 9);
    const [u, v] = apply(matrix, [50 + 10 * Math.cos(Math.PI / 6), 60 + 10 * Math.sin(Math.PI / 6)]);
    expect(u).toBeCloseTo(29.5, 9);
    expect(v).toBeCloseTo(19.5, 9);
  });
});

describe("the windows for large faces", () => {
  const rule = { sides: [0.6, 0.4], step: 0.4, smallest: 20, longest: 4, same_face: 0.4, least_score: 0.02 };
  it("cover the picture and end at its borders", () => {
    const boxes = windows(400, 300, rule);
    expect(boxes).toHaveLength(50);
    expect(boxes[0]).toEqual([-0.5, -0.5, 179.5, 179.5]);
    expect(tightBox(boxes.flatMap(([x0, y0, x1, y1]): Point[] => [[x0, y0], [x1, y1]]))).toEqual([-0.5, -0.5, 399.5, 299.5]);
  });
  it("are none for small and long pictures", () => {
    expect(windows(30, 30, rule)).toEqual([]);
    expect(windows(1300, 300, rule)).toEqual([]);
  });
});

describe("faces", () => {
  it("have a score of 0.5 at the middle and near 1 below it", () => {
    const rule = { middle: -3, slope: 5 };
    expect(faceScore([Math.exp(-3), Math.exp(-3)], rule)).toBeCloseTo(0.5);
    expect(faceScore([Math.exp(-4)], rule)).toBeGreaterThan(0.99);
    expect(faceScore([1], null)).toBeNull();
  });
  it("have a direction from their eyes and mouth, towards the right of the crop", () => {
    const schema = { normalizer_points: [0, 1], groups: { outer_lip: [2], inner_lip: [3] } } as const;
    const points: Point[] = [[10, 10], [30, 14], [14, 42], [18, 42]];
    expect(acrossFace(points, [1, 0, 0, 0, 1, 0], schema)).toEqual([20 + 30, 4 + 4]);
    expect(acrossFace(points, [-1, 0, 0, 0, -1, 0], schema)).toEqual([-50, -8]);
    const profile: Point[] = [[11, 10], [10, 10], [10, 50], [11, 50]]; // the eyes have changed sides
    expect(acrossFace(profile, [1, 0, 0, 0, 1, 0], schema)).toEqual([41, 0]);
    expect(acrossFace(points, [1, 0, 0, 0, 1, 0], { ...schema, groups: {} })).toEqual([20, 4]);
    expect(acrossFace(points, [0.6, 0.8, 0, -0.8, 0.6, 0], { ...schema, normalizer_points: null })).toEqual([0.6, 0.8]);
  });
  it("have points and groups by name", () => {
    expect(point(face, "nose")).toEqual([50, 60]);
    expect(group(face, "eyes")).toHaveLength(2);
    expect(() => point(face, "chin")).toThrow("chin");
    expect(() => group(face, "mouth")).toThrow("eyes");
  });
  it("have guessed points, by their visibility or their uncertainty", () => {
    expect(keypointConfidence(face)![0]).toBeGreaterThan(0.9);
    expect(guessed(face)).toEqual([false, false, true]);
    expect(guessed({ ...face, visibility: [0.9, 0.1, 0.9] })).toEqual([false, true, false]);
    expect(guessed({ ...face, uncertainty: null })).toEqual([false, false, false]);
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
  it("have contours if their scheme is known", () => {
    expect(contourEdges(own)).toEqual([]);
    expect(contourEdges(IBUG68)).toContainEqual([41, 36]);
    expect(contourEdges(IBUG68)).not.toContainEqual([16, 0]);
  });
});

describe("results", () => {
  const results = [{ image: 'a "b".png', width: 120, height: 90, faces: [face] }];
  it("have the JSON of predict --json --measure", () => {
    const [{ faces: [described], ...rest }] = JSON.parse(asJson(results, own));
    expect(rest).toEqual({ image: 'a "b".png', width: 120, height: 90, scheme: "own" });
    expect(described.box).toEqual([0.123, 1, 100, 60]);
    expect(described.score).toBe(0.9877);
    expect(described.keypoints[0]).toEqual([0.123, 1]);
    expect(described.keypoint_confidence).toHaveLength(3);
    expect(described.measures.head_pose).toBeNull();
  });
  it("have a row per face in the CSV", () => {
    const [header, row, end] = asCsv(results, own).split("\n");
    expect(header).toBe("image,left_x,left_y,right_x,right_y,nose_x,nose_y,x0,y0,x1,y1,score");
    expect(row).toBe('"a ""b"".png",0.123,1.000,100.000,1.000,50.000,60.000,0.123,1.000,100.000,60.000,0.9877');
    expect(end).toBe("");
  });
  it("have one category in COCO", () => {
    const { images, annotations, categories } = JSON.parse(asCoco(results, own));
    expect(images).toEqual([{ id: 1, file_name: 'a "b".png', width: 120, height: 90 }]);
    expect(annotations[0].num_keypoints).toBe(3);
    expect(categories[0].keypoints).toEqual(own.point_names);
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
});
