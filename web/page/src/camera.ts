/** The camera: opening, closing, and the words for its errors. */

import type { Word } from "./words";

/** Why there is no camera. */
export class NoCamera extends Error {
  constructor(readonly word: Word) {
    super(word);
  }
}

const REASONS: Readonly<Record<string, Word>> = {
  NotAllowedError: "cameraDenied",
  NotFoundError: "cameraNone",
  OverconstrainedError: "cameraNone",
  NotReadableError: "cameraBusy",
};

export type Facing = "user" | "environment";

/**
 * Opens a camera and plays it in a video element.
 *
 * @throws NoCamera
 */
export async function openCamera(video: HTMLVideoElement, facing: Facing): Promise<MediaStream> {
  if (!navigator.mediaDevices?.getUserMedia) throw new NoCamera("cameraInsecure");
  let stream: MediaStream | undefined;
  try {
    const wish = { facingMode: facing, width: { ideal: 640 }, height: { ideal: 480 } };
    stream = await navigator.mediaDevices.getUserMedia({ video: wish, audio: false });
    video.srcObject = stream;
    await video.play();
    return stream;
  } catch (error) {
    if (stream) closeCamera(stream, video);
    throw new NoCamera(REASONS[error instanceof Error ? error.name : ""] ?? "cameraNone");
  }
}

export function closeCamera(stream: MediaStream, video: HTMLVideoElement): void {
  for (const track of stream.getTracks()) track.stop();
  video.srcObject = null;
}

export async function hasSeveralCameras(): Promise<boolean> {
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices.filter(({ kind }) => kind === "videoinput").length > 1;
}
