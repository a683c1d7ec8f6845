import { describe, expect, it } from "vitest";
import type { Box, Point } from "../src/geometry";
import type { Face } from "../src/spec";
import { Tracker, type Eyes } from "../src/tracker";

const frame = { width: 200, height: 200, rgba: new Uint8ClampedArray() };
const spent = { crop: 1, model: 2 };

/** The four corners of a square of 50 pixels, as a face. */
function faceAt(x: number, score: number | null = 1): Face {
  const box: Box = [x, 50, x + 50, 100];
  const keypoints: Point[] = [[x, 50], [x + 50, 50], [x, 100], [x + 50, 100]];
  return { box, keypoints, uncertainty: null, score };
}

/** Fake workers with one face at a given position. */
class OneFace implements Eyes {
  searches = 0;
  x = 20;
  score: number | null = 1;
  drift = 0; // shift of the points in predictions from another box

  find = async () => ({ boxes: (this.searches++, [faceAt(this.x).box]), ms: 7 });
  follow = async (_: unknown, faces: readonly unknown[]) => ({ faces: faces.map(() => faceAt(this.x, this.score)), spent });
  markBoxes = async (_: unknown, boxes: readonly Box[], again: boolean) => ({
    faces: boxes.map(() => faceAt(this.x + (again ? 0 : this.drift), this.score)),
    spent,
  });
}

/** Processes frames 40 ms apart; returns the number of faces in each. */
async function run(tracker: Tracker, frames: number, from = 0): Promise<number[]> {
  const counts: number[] = [];
  for (let i = from; i < from + frames; i++) {
    counts.push((await tracker.next(frame, 40 * i)).faces.length);
    await Promise.resolve(); // lets a detection end
  }
  return counts;
}

describe("Tracker", () => {
  it("adds a face one frame after its detection, then detects once a second", async () => {
    const eyes = new OneFace();
    const counts = await run(new Tracker(eyes, 0.5), 51);
    expect(counts.slice(0, 1)).toEqual([0]);
    expect(counts.slice(3)).toEqual(counts.slice(3).map(() => 1));
    expect(eyes.searches).toBeLessThanOrEqual(4);
  });
  it("drops a face with a low score and finds it again", async () => {
    const eyes = new OneFace();
    const tracker = new Tracker(eyes, 0.5);
    await run(tracker, 5);
    eyes.score = 0.1;
    expect(await run(tracker, 5, 5)).toEqual([0, 0, 0, 0, 0]);
    eyes.score = 1;
    expect((await run(tracker, 5, 10)).at(-1)).toBe(1);
  });
  it("predicts again around the current points before it drops a face", async () => {
    const eyes = new OneFace();
    const tracker = new Tracker(eyes, 0.5);
    await run(tracker, 5);
    const looks: unknown[] = [];
    eyes.follow = async (_, faces) => ({ faces: faces.map(() => faceAt(25, looks.push(faces) % 2 ? 0.1 : 1)), spent });
    expect(await run(tracker, 3, 5)).toEqual([1, 1, 1]);
    expect(looks[1]).toEqual([faceAt(25).keypoints]);
  });
  it("drops a face that jumps and finds it at its new position", async () => {
    const eyes = new OneFace();
    const tracker = new Tracker(eyes, 0.5);
    await run(tracker, 5);
    eyes.x = 120;
    expect((await run(tracker, 5, 5))[0]).toBe(0);
    const { faces } = await tracker.next(frame, 1000);
    expect(faces[0].keypoints[0][0]).toBeCloseTo(120);
  });
  it("predicts faces without a score twice", async () => {
    const eyes = new OneFace();
    [eyes.score, eyes.drift] = [null, 10];
    expect(await run(new Tracker(eyes, 0.5), 8)).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
    eyes.drift = 0;
    expect((await run(new Tracker(eyes, 0.5), 8)).at(-1)).toBe(1);
  });
  it("reports a failed detection", async () => {
    const eyes = new OneFace();
    eyes.find = () => Promise.reject(new Error("no cascades"));
    await expect(run(new Tracker(eyes, 0.5), 5)).rejects.toThrow("no cascades");
  });
});
