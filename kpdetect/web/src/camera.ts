/** The camera: opening, closing, and messages for its errors. */

/** Why there is no camera; the text is shown to the user. */
export class NoCamera extends Error {}

const REASONS: Readonly<Record<string, string>> = {
  NotAllowedError:
    "Access to the camera was denied. Allow it in the browser’s settings (the icon beside the address), then press Camera again.",
  NotFoundError: "No camera was found on this device. Open a photograph instead.",
  OverconstrainedError: "No camera was found on this device. Open a photograph instead.",
  NotReadableError: "The camera is used by another program. Close the program, then press Camera again.",
};

/**
 * Opens the camera that faces the user and plays it in a video element.
 *
 * @throws NoCamera
 */
export async function openCamera(video: HTMLVideoElement): Promise<MediaStream> {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new NoCamera("Browsers allow the camera only on pages from https:// or localhost. Open a photograph instead.");
  }
  let stream: MediaStream | undefined;
  try {
    const wish = { facingMode: "user", width: { ideal: 640 }, height: { ideal: 480 } };
    stream = await navigator.mediaDevices.getUserMedia({ video: wish, audio: false });
    video.srcObject = stream;
    await video.play();
    return stream;
  } catch (error) {
    if (stream) closeCamera(stream, video);
    const name = error instanceof Error ? error.name : "";
    throw new NoCamera(REASONS[name] ?? `The camera cannot start (${error}). Open a photograph instead.`);
  }
}

export function closeCamera(stream: MediaStream, video: HTMLVideoElement): void {
  for (const track of stream.getTracks()) track.stop();
  video.srcObject = null;
}
