/** Pictures as arrays: RGBA of a canvas, and the channels of a model's input. */

/** RGBA pixels of a canvas, 4 bytes per pixel. */
export interface Frame {
  readonly width: number;
  readonly height: number;
  readonly rgba: Uint8ClampedArray;
}

/** A picture of 1 or 3 channels, row by row, channels last. */
export interface Plane {
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  readonly data: Uint8ClampedArray | Float32Array;
}

/** Grey with the weights of ITU-R BT.601 (rounded as OpenCV rounds), or RGB; alpha is dropped. */
export function toChannels({ width, height, rgba }: Frame, channels: number): Plane {
  const count = width * height;
  const data = new Uint8ClampedArray(count * channels);
  for (let i = 0, from = 0; i < count; i++, from += 4) {
    if (channels === 1) {
      data[i] = (9798 * rgba[from] + 19235 * rgba[from + 1] + 3735 * rgba[from + 2] + 16384) >> 15;
    } else {
      data[3 * i] = rgba[from];
      data[3 * i + 1] = rgba[from + 1];
      data[3 * i + 2] = rgba[from + 2];
    }
  }
  return { width, height, channels, data };
}
