/** The workers of model and detector; the detector is loaded on first use. */

import * as Comlink from "comlink";
import type { DetectorApi, Found } from "./detector.worker";
import type { Box, Point } from "./geometry";
import type { Marked, ModelApi } from "./model.worker";
import type { Frame } from "./pixels";
import { fetchJson, type Settings, type Spec } from "./spec";

export class Engine {
  private detectorLoaded: Promise<void> | null = null;

  private constructor(
    readonly spec: Spec,
    readonly settings: Settings,
    private readonly base: string,
    private readonly model: Comlink.Remote<ModelApi>,
    private readonly detector: Comlink.Remote<DetectorApi>,
    private readonly broken: Promise<never>,
  ) {}

  /**
   * Loads the model of the page's folder.
   *
   * @param base the address of the folder
   */
  static async start(base: string): Promise<Engine> {
    const [spec, settings] = await Promise.all([fetchJson<Spec>("spec.json", base), fetchJson<Settings>("page.json", base)]);
    const model = new Worker(new URL("./model.worker.ts", import.meta.url), { name: "model" });
    const detector = new Worker(new URL("./detector.worker.ts", import.meta.url), { name: "detector" });
    const broken = Promise.race([failureOf(model), failureOf(detector)]);
    const engine = new Engine(spec, settings, base, Comlink.wrap(model), Comlink.wrap(detector), broken);
    await Promise.race([engine.model.load(spec, base), broken]);
    return engine;
  }

  /** @param minFace the smallest face to detect, as a fraction of the picture's longer side */
  async find(frame: Frame, minFace: number): Promise<Found> {
    await this.loadDetector();
    const { detector } = this.settings;
    // Fewer votes are enough if the model scores the detections.
    const votes = this.spec.face_score === null ? detector.min_votes : detector.judged_votes;
    return this.detector.find(frame, minFace, votes);
  }

  async markBoxes(frame: Frame, boxes: readonly Box[], again: boolean): Promise<Marked> {
    return this.model.markBoxes(frame, boxes, again);
  }

  async follow(frame: Frame, points: readonly (readonly Point[])[]): Promise<Marked> {
    return this.model.follow(frame, points);
  }

  async markWhole(frame: Frame): Promise<Marked> {
    return this.model.markWhole(frame);
  }

  /** Loads the detector once; after a failure the next detection tries again. */
  private async loadDetector(): Promise<void> {
    // A worker that fails to start never replies, hence the race.
    this.detectorLoaded ??= Promise.race([this.detector.load(this.settings.detector, this.base), this.broken]);
    try {
      await this.detectorLoaded;
    } catch (error) {
      this.detectorLoaded = null;
      throw error;
    }
  }
}

function failureOf(worker: Worker): Promise<never> {
  const failure = new Promise<never>((_, reject) => {
    worker.addEventListener("error", (event) => reject(new Error(event.message || "a part of the page cannot be loaded")));
  });
  failure.catch(() => undefined); // calls to the worker report it
  return failure;
}
