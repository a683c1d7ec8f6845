/** Live video: tracks faces in camera frames and shows them on the stage. */

import { closeCamera, NoCamera, openCamera } from "./camera";
import { elements } from "./elements";
import type { Engine } from "./engine";
import { FrameReader } from "./pictures";
import type { Stage } from "./stage";
import { Tracker, type Tracked } from "./tracker";

const SMALLEST_FACE = 0.1; // fraction of the frame's longer side, as in kpdetect track
const RATE_SHARE = 0.1; // weight of each frame in the running mean of the frame time

/** Called after each frame with the faces and the mean time between frames. */
export type OnFrame = (tracked: Tracked, frameMs: number) => void;

export class Live {
  private stopped = false;
  private constructor(
    private readonly stream: MediaStream,
    private readonly engine: Engine,
    private readonly stage: Stage,
  ) {}

  /** @throws NoCamera */
  static async open(engine: Engine, stage: Stage): Promise<Live> {
    return new Live(await openCamera(elements.video), engine, stage);
  }

  stop(): void {
    this.stopped = true;
    closeCamera(this.stream, elements.video);
  }

  /**
   * Runs until `stop`.
   *
   * @throws NoCamera if the camera disappears
   */
  async run(onFrame: OnFrame): Promise<void> {
    const { video } = elements;
    const reader = new FrameReader();
    const tracker = this.tracker();
    const still = document.createElement("canvas"); // shows the frame that was predicted, not a later one
    let [before, frameMs] = [performance.now(), 0];
    while (!this.stopped) {
      await nextFrame(video, this.stream);
      if (this.stopped) return;
      if (!this.stream.active) throw new NoCamera("The camera was disconnected. Press Camera to start it again.");
      const [width, height] = [video.videoWidth, video.videoHeight];
      if (width === 0) continue;
      [still.width, still.height] = [width, height];
      still.getContext("2d")!.drawImage(video, 0, 0);
      const tracked = await tracker(reader.read(still, width, height), performance.now());
      if (this.stopped) return;
      this.stage.show({ name: "Camera", source: still, width, height, faces: tracked.faces });
      const now = performance.now();
      frameMs += (frameMs === 0 ? 1 : RATE_SHARE) * (now - before - frameMs);
      before = now;
      onFrame(tracked, frameMs);
    }
  }

  /** Tracks faces; models of whole pictures predict each frame instead. */
  private tracker(): (frame: Parameters<Tracker["next"]>[0], timeMs: number) => Promise<Tracked> {
    const { engine } = this;
    if (engine.spec.crop.around === "image") return async (frame) => ({ ...(await engine.markWhole(frame)), detectMs: null });
    const eyes = {
      find: (frame: Parameters<Engine["find"]>[0]) => engine.find(frame, SMALLEST_FACE),
      markBoxes: engine.markBoxes.bind(engine),
      follow: engine.follow.bind(engine),
    };
    const tracker = new Tracker(eyes, engine.settings.min_score);
    return tracker.next.bind(tracker);
  }
}

/** Waits for the video's next frame, with a timeout for cameras that disappear. */
function nextFrame(video: HTMLVideoElement, stream: MediaStream): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, 1000);
    const done = () => (clearTimeout(timer), resolve());
    if (!stream.active) done();
    else if ("requestVideoFrameCallback" in video) video.requestVideoFrameCallback(done);
    else requestAnimationFrame(done);
  });
}
