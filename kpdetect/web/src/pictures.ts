/** Owns how a file, or what a camera shows, becomes pixels; and how results leave the page as files. */

import type { Frame } from "./pixels";

const GREATEST_SIDE = 4096; // pixels; a phone's browser gives no greater canvas for sure

/** A file that is no picture; its text is for people. */
export class NoPicture extends Error {}

/**
 * Decodes a picture as it is meant to be seen: EXIF's orientation is applied. Greater ones are shrunk.
 *
 * @throws NoPicture where the browser cannot open it
 */
export async function readPicture(file: Blob, name: string): Promise<ImageBitmap> {
  try {
    const whole = await createImageBitmap(file, { imageOrientation: "from-image" });
    const shrink = GREATEST_SIDE / Math.max(whole.width, whole.height);
    if (shrink >= 1) return whole;
    const [resizeWidth, resizeHeight] = [Math.round(whole.width * shrink), Math.round(whole.height * shrink)];
    return await createImageBitmap(whole, { resizeWidth, resizeHeight, resizeQuality: "high" });
  } catch {
    throw new NoPicture(`“${name}” is no picture that this browser can open. Choose a JPEG, PNG or WebP file.`);
  }
}

/** Reads pixels, through one canvas that is kept: for each frame a new one would be slow. */
export class FrameReader {
  private readonly canvas = document.createElement("canvas");
  private readonly context = this.canvas.getContext("2d", { willReadFrequently: true })!;

  read(source: CanvasImageSource, width: number, height: number): Frame {
    [this.canvas.width, this.canvas.height] = [width, height];
    this.context.drawImage(source, 0, 0, width, height);
    return { width, height, rgba: this.context.getImageData(0, 0, width, height).data as Frame["rgba"] };
  }
}

/** Offers a file for saving. */
export function save(content: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000); // the browser reads it after the click
}
