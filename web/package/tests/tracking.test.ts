import { describe, expect, it } from "vitest";
import { Picture, type Placed, type RawFace, type Times } from "../src/engine";
import type { Point } from "../src/geometry";
import { FaceTracker, type Predicts } from "../src/tracking";

const picture = new Picture({ width: 200, height: 200, rgba: new Uint8ClampedArray() });

/** The four corners of a square of 50 pixels, as a face. */
function faceAt(x: number, score: number | null = 1): RawFace {
  const keypoints: Point[] = [[x, 50], [x + 50, 50], [x, 100], [x + 50, 100]];
  return { keypoints, detectionBox: [x, 50, x + 50, 100], score, uncertainty: null, visibility: null };
}

/** An engine with one face at a given position. */
class OneFace implements Predicts {
  searches = 0;
  x = 20;
  score: number | null = 1;
  drift = 0; // shift of the points in predictions from another box

  async detect(): Promise<Placed[]> {
    this.searches++;
    return [{ box: faceAt(this.x).detectionBox, oriented: null }];
  }

  leaning(): null {
    return null;
  }

  async predictDetections(_: Picture, places: readonly Placed[]): Promise<RawFace[]> {
    return places.map(({ box: [x0] }) => faceAt(this.x + (Math.abs(x0 - this.x) < 1 ? 0 : this.drift), this.score));
  }
}

async function run(tracker: FaceTracker, frames: number, from = 0): Promise<number[][]> {
  const numbers: number[][] = [];
  for (let i = from; i < from + frames; i++) {
    const times: Times = { detect: 0, crop: 0, model: 0 };
    numbers.push((await tracker.next(picture, i / 25, times)).map(({ id }) => id));
  }
  return numbers;
}

describe("FaceTracker", () => {
  it("finds a face in the first frame, and detects every 30 frames", async () => {
    const engine = new OneFace();
    const numbers = await run(new FaceTracker(engine), 61);
    expect(numbers).toEqual(numbers.map(() => [1]));
    expect(engine.searches).toBe(3);
  });
  it("gives a lost face its number back", async () => {
    const engine = new OneFace();
    const tracker = new FaceTracker(engine);
    await run(tracker, 5);
    engine.score = 0.1;
    expect((await run(tracker, 3, 5)).flat()).toEqual([]);
    engine.score = 1;
    expect((await run(tracker, 4, 8)).at(-1)).toEqual([1]);
  });
  it("gives a face elsewhere a new number", async () => {
    const engine = new OneFace();
    const tracker = new FaceTracker(engine);
    await run(tracker, 5);
    engine.x = 130;
    expect((await run(tracker, 6, 5)).at(-1)).toEqual([2]);
  });
  it("drops points that follow the box, for a model without a score", async () => {
    const engine = new OneFace();
    [engine.score, engine.drift] = [null, 20];
    const tracker = new FaceTracker(engine);
    expect((await run(tracker, 2)).at(-1)).toEqual([]);
  });
});
