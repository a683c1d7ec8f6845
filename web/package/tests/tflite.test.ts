import { existsSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { withInputSize } from "../src/tflite";

const file = new URL("../../../exported_models/finder/finder_256.tflite", import.meta.url);

describe.skipIf(!existsSync(file))("withInputSize", () => {
  it("changes the shapes of activations, there and back", () => {
    const small = new Uint8Array(readFileSync(file));
    const large = withInputSize(small, 640, 480);
    expect(large).toHaveLength(small.length);
    expect(large.some((value, i) => value !== small[i])).toBe(true);
    expect(withInputSize(large, 256, 256)).toEqual(small);
  });
});
