import { describe, expect, it } from "vitest";
import { warpCrop } from "../src/crop";
import type { Matrix } from "../src/geometry";
import { toChannels, type Plane } from "../src/pixels";
import { resizeGrey } from "../src/resize";

function plane(width: number, height: number, value: (x: number, y: number) => number): Plane {
  const data = Uint8ClampedArray.from({ length: width * height }, (_, i) => value(i % width, Math.floor(i / width)));
  return { width, height, channels: 1, data };
}

/** A resize by `scale` of a whole picture: (x + 0.5) * scale - 0.5. */
function scaling(scale: number): Matrix {
  const shift = 0.5 * scale - 0.5;
  return [scale, 0, shift, 0, scale, shift];
}

describe("warpCrop", () => {
  it("copies pixels for the identity", () => {
    const picture = plane(7, 5, (x, y) => 10 * x + y);
    expect([...warpCrop(picture, scaling(1), [5, 7])]).toEqual([...picture.data]);
  });
  it("is black outside the photograph", () => {
    const picture = plane(4, 4, () => 200);
    expect([...warpCrop(picture, [1, 0, 3, 0, 1, 0], [1, 6])]).toEqual([0, 0, 0, 200, 200, 200]);
    expect([...warpCrop(picture, [1, 0, 500, 0, 1, 0], [2, 2])]).toEqual([0, 0, 0, 0]);
  });
  it.each([0.8, 0.37, 0.11, 0.03])("keeps the position of a linear ramp when it reduces by %d", (scale) => {
    const size = Math.round(600 * scale);
    const crop = warpCrop(plane(600, 600, (x) => x / 3), scaling(scale), [size, size]);
    const [row, column] = [Math.floor(size / 2), Math.floor(size / 3)];
    const x = (column + 0.5) / scale - 0.5;
    expect(Math.abs(crop[row * size + column] - x / 3)).toBeLessThan(1);
  });
  it("removes fine texture without aliasing", () => {
    const crop = warpCrop(plane(900, 900, (x, y) => ((x + y) % 2) * 255), scaling(0.13), [117, 117]);
    const inner = [...crop].filter((_, i) => i % 117 > 5 && i % 117 < 111 && i > 117 * 6 && i < 117 * 111);
    expect(Math.max(...inner) - Math.min(...inner)).toBeLessThanOrEqual(3);
  });
  it("interpolates halfway between two pixels as their mean", () => {
    const crop = warpCrop(plane(2, 1, (x) => 100 * x), [1, 0, 0.5, 0, 1, 0], [1, 2]);
    expect(crop[1]).toBe(50);
  });
});

describe("toChannels", () => {
  const frame = { width: 2, height: 1, rgba: new Uint8ClampedArray([255, 0, 0, 255, 10, 20, 30, 0]) };
  it("converts colours to grey by weights", () => {
    expect([...toChannels(frame, 1).data]).toEqual([76, 18]);
  });
  it("drops alpha", () => {
    expect([...toChannels(frame, 3).data]).toEqual([255, 0, 0, 10, 20, 30]);
  });
});

describe("resizeGrey", () => {
  it("rounds weights between two 2048ths to the even one, as OpenCV", () => {
    const row = resizeGrey(plane(600, 1, (x) => (73 * x) % 256), 533, 1, false);
    const places = [215, 274, 283, 351, 487]; // where Math.round gives other pixels
    expect(places.map((x) => row.data[x])).toEqual([8, 119, 220, 176, 88]); // of cv2.resize
  });
});
