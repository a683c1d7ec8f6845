/** Pictures as arrays: RGBA of a canvas, and the channels of a model's input. */

/** RGBA pixels of a canvas, 4 bytes per pixel. */
export interface Frame {
  readonly width: number;
  readonly height: number;
  readonly rgba: Uint8ClampedArray<ArrayBuffer>;
}

/** A picture of 1 or 3 channels, row by row, channels last. */
export interface Plane {
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  readonly data: Uint8ClampedArray | Float32Array;
}

/** Grey with the weights of ITU-R BT.601, or RGB; alpha is dropped. */
export function toChannels({ width, height, rgba }: Frame, channels: number): Plane {
  const count = width * height;
  const data = new Uint8ClampedArray(count * channels);
  for (let i = 0; i < count; i++) {
    const [r, g, b] = [rgba[4 * i], rgba[4 * i + 1], rgba[4 * i + 2]];
    if (channels === 1) data[i] = 0.299 * r + 0.587 * g + 0.114 * b; // the array rounds
    else data.set([r, g, b], 3 * i);
  }
  return { width, height, channels, data };
}
