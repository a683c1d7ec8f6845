/** Live pictures: the camera or a video file, tracked frame by frame, and recorded with its marks. */

import { Tracker, type Face, type Predictor } from "../../package/src/index";
import { closeCamera, hasSeveralCameras, NoCamera, openCamera, type Facing } from "./camera";
import { contextOf } from "./dom";

const RATE_SHARE = 0.1; // weight of each frame in the running mean of the frame time

/** Called after each frame. */
export type OnFrame = (frame: HTMLCanvasElement, faces: readonly Face[], fps: number) => void;

export class Live {
  private stopped = false;
  private recorder: MediaRecorder | null = null;
  private readonly parts: Blob[] = [];
  private readonly frame = document.createElement("canvas");
  private readonly marked = document.createElement("canvas");

  private constructor(
    private readonly tracker: Tracker,
    private readonly video: HTMLVideoElement,
    private readonly stream: MediaStream | null,
    readonly facing: Facing | null,
    private readonly name: string,
  ) {}

  /** @throws NoCamera, or an error if the video cannot be played */
  static async open(predictor: Predictor, video: HTMLVideoElement, from: { facing: Facing } | { video: File }): Promise<Live> {
    if ("facing" in from) {
      const stream = await openCamera(video, from.facing);
      return new Live(new Tracker(predictor), video, stream, from.facing, "camera");
    }
    video.src = URL.createObjectURL(from.video);
    video.loop = true;
    await video.play();
    return new Live(new Tracker(predictor), video, null, null, from.video.name.replace(/\.\w+$/, ""));
  }

  async hasOther(): Promise<boolean> {
    return hasSeveralCameras();
  }

  get isRecording(): boolean {
    return this.recorder !== null;
  }

  stop(): void {
    this.stopped = true;
    this.tracker.close();
    if (this.stream) closeCamera(this.stream, this.video);
    else {
      this.video.pause();
      URL.revokeObjectURL(this.video.src);
      this.video.removeAttribute("src");
    }
  }

  /**
   * Runs until `stop`. The front camera is mirrored, as in a mirror, in what is shown, tracked and saved.
   *
   * @throws NoCamera if the camera disappears
   */
  async run(onFrame: OnFrame): Promise<void> {
    const { video, frame } = this;
    const context = contextOf(frame);
    let [before, frameMs] = [performance.now(), 0];
    while (!this.stopped) {
      await nextFrame(video);
      if (this.stopped) return;
      if (this.stream && !this.stream.active) throw new NoCamera("cameraNone");
      const [width, height] = [video.videoWidth, video.videoHeight];
      if (width === 0) continue;
      const next = await createImageBitmap(video);
      if (this.facing === "user") {
        const mirrored = new OffscreenCanvas(width, height);
        const flip = mirrored.getContext("2d");
        flip?.setTransform(-1, 0, 0, 1, width, 0);
        flip?.drawImage(next, 0, 0);
        next.close();
        await this.predict(mirrored.transferToImageBitmap(), context, width, height, onFrame, () => 1000 / Math.max(frameMs, 1));
      } else {
        await this.predict(next, context, width, height, onFrame, () => 1000 / Math.max(frameMs, 1));
      }
      const now = performance.now();
      frameMs += (frameMs === 0 ? 1 : RATE_SHARE) * (now - before - frameMs);
      before = now;
    }
  }

  /** The last frame without marks. */
  still(): HTMLCanvasElement {
    return this.frame;
  }

  /** Draws the marked frame for the recording, if there is one. */
  compose(draw: (target: HTMLCanvasElement) => void): void {
    if (this.recorder) draw(this.marked);
  }

  startRecording(): void {
    [this.marked.width, this.marked.height] = [this.frame.width, this.frame.height];
    contextOf(this.marked).drawImage(this.frame, 0, 0);
    const type = ["video/mp4", "video/webm;codecs=vp9", "video/webm"].find((one) => MediaRecorder.isTypeSupported(one));
    this.recorder = new MediaRecorder(this.marked.captureStream(), type ? { mimeType: type } : {});
    this.parts.length = 0;
    this.recorder.addEventListener("dataavailable", ({ data }) => this.parts.push(data));
    this.recorder.start(1000);
  }

  async stopRecording(): Promise<{ content: Blob; name: string } | null> {
    const { recorder } = this;
    if (recorder === null) return null;
    this.recorder = null;
    await new Promise((resolve) => {
      recorder.addEventListener("stop", resolve);
      recorder.stop();
    });
    const type = recorder.mimeType;
    return { content: new Blob(this.parts, { type }), name: `${this.name}-kpdetect.${type.includes("mp4") ? "mp4" : "webm"}` };
  }

  private async predict(
    picture: ImageBitmap, context: CanvasRenderingContext2D, width: number, height: number, onFrame: OnFrame, fps: () => number,
  ): Promise<void> {
    const faces = await this.tracker.next(picture, performance.now() / 1000);
    if (this.stopped) return picture.close();
    if (this.frame.width !== width || this.frame.height !== height) [this.frame.width, this.frame.height] = [width, height];
    context.drawImage(picture, 0, 0); // the frame that was predicted, and not a later one
    picture.close();
    onFrame(this.frame, faces.map(({ face }) => face), fps());
  }
}

/** Waits for the video's next frame, with a timeout for cameras that disappear. */
function nextFrame(video: HTMLVideoElement): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, 1000);
    const done = () => {
      clearTimeout(timer);
      resolve();
    };
    if ("requestVideoFrameCallback" in video) video.requestVideoFrameCallback(done);
    else requestAnimationFrame(done);
  });
}
