/** Files and camera frames to pixels, and results to files. */

import type { Frame } from "./pixels";

const GREATEST_SIDE = 4096; // pixels; larger canvases may fail in browsers of phones

/** A file that is not a picture; the text is shown to the user. */
export class NoPicture extends Error {}

/**
 * Decodes a picture and applies its EXIF orientation. Larger pictures are reduced.
 *
 * @throws NoPicture if the browser cannot decode it
 */
export async function readPicture(file: Blob, name: string): Promise<ImageBitmap> {
  try {
    const whole = await createImageBitmap(file, { imageOrientation: "from-image" });
    const shrink = GREATEST_SIDE / Math.max(whole.width, whole.height);
    if (shrink >= 1) return whole;
    const [resizeWidth, resizeHeight] = [Math.round(whole.width * shrink), Math.round(whole.height * shrink)];
    return await createImageBitmap(whole, { resizeWidth, resizeHeight, resizeQuality: "high" });
  } catch {
    throw new NoPicture(`This browser cannot open “${name}” as a picture. Choose a JPEG, PNG or WebP file.`);
  }
}

/** Reads pixels through one canvas that is reused, because a new one per frame would be slow. */
export class FrameReader {
  private readonly canvas = document.createElement("canvas");
  private readonly context = this.canvas.getContext("2d", { willReadFrequently: true })!;

  read(source: CanvasImageSource, width: number, height: number): Frame {
    [this.canvas.width, this.canvas.height] = [width, height];
    this.context.drawImage(source, 0, 0, width, height);
    return { width, height, rgba: this.context.getImageData(0, 0, width, height).data as Frame["rgba"] };
  }
}

/** Offers a file for download. */
export function save(content: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000); // the browser reads it after the click
}
