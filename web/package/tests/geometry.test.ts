import { describe, expect, it } from "vitest";
import { apply, compose, cropMatrix, intersectionOverUnion, invert, tightBox, uprightMatrix, type Matrix, type Point } from "../src/geometry";

const rule = { size_hw: [60, 80], margin: 1.25, around: "face" } as const;
const slanted: Matrix = [0.5, 0.2, 7, -0.3, 2, -4];

function expectNear(received: Point, expected: Point): void {
  expect(received[0]).toBeCloseTo(expected[0], 9);
  expect(received[1]).toBeCloseTo(expected[1], 9);
}

describe("matrices", () => {
  it("are undone by their inverse", () => {
    expectNear(apply(invert(slanted), apply(slanted, [3, -8])), [3, -8]);
  });
  it("compose from right to left", () => {
    const shift: Matrix = [1, 0, 10, 0, 1, 20];
    expectNear(apply(compose(slanted, shift), [3, -8]), apply(slanted, apply(shift, [3, -8])));
  });
  it("without an inverse are errors", () => {
    expect(() => invert([1, 2, 0, 2, 4, 0])).toThrow("inverse");
  });
});

describe("crops", () => {
  it("have the centre of the box at their centre and keep the aspect ratio", () => {
    const matrix = cropMatrix(rule, [100, 50, 164, 98]); // 64 wide: 80 pixels of the photograph fill the width
    expectNear(apply(matrix, [132, 74]), [39.5, 29.5]);
    expect([matrix[0], matrix[4]]).toEqual([1, 1]);
  });
  it("rotate the given direction to horizontal", () => {
    const points: Point[] = [[10, 10], [30, 30], [10, 40]];
    const matrix = uprightMatrix(rule, points, [1, 1]);
    const [first, second] = [apply(matrix, points[0]), apply(matrix, points[1])];
    expect(second[1]).toBeCloseTo(first[1], 9);
    expect(second[0]).toBeGreaterThan(first[0]);
  });
  it("of boxes without area are errors", () => {
    expect(() => cropMatrix(rule, [5, 5, 5, 9])).toThrow("x0 < x1");
  });
});

describe("boxes", () => {
  it("are tight around points", () => {
    expect(tightBox([[3, 9], [-1, 4], [2, 5]])).toEqual([-1, 4, 3, 9]);
  });
  it("have an intersection over union", () => {
    expect(intersectionOverUnion([0, 0, 2, 2], [1, 0, 3, 2])).toBeCloseTo(1 / 3);
    expect(intersectionOverUnion([0, 0, 1, 1], [5, 5, 6, 6])).toBe(0);
  });
});
