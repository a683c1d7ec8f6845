/** The model in its own worker: LiteRT on the CPU, so that page and model do not block each other. */

import * as Comlink from "comlink";
import { imageBox, type Box, type Point } from "./geometry";
import { loadModel } from "./litert";
import { Marker, type Model, type Spent } from "./marking";
import { toChannels, type Frame } from "./pixels";
import type { Face, Spec } from "./spec";

export interface Marked {
  readonly faces: readonly Face[];
  readonly spent: Spent;
}

class ModelWorker {
  private model: Model | undefined;
  private spec: Spec | undefined;

  /** @param base the address of the page's folder */
  async load(spec: Spec, base: string): Promise<void> {
    this.spec = spec;
    this.model = await loadModel(spec, base);
    const [height, width] = spec.crop.size_hw;
    await this.model(new Uint8ClampedArray(height * width * spec.input.channels)); // the first run is slow
  }

  /** The faces in boxes; with `again`, each is predicted twice. */
  async markBoxes(frame: Frame, boxes: readonly Box[], again: boolean): Promise<Marked> {
    return this.mark(frame, (marker) => boxes.map((box) => () => marker.ofBox(box, again)));
  }

  /** Faces whose points of the last frame are given. */
  async follow(frame: Frame, faces: readonly (readonly Point[])[]): Promise<Marked> {
    return this.mark(frame, (marker) => faces.map((points) => () => marker.ofPoints(points)));
  }

  /** The face of a whole picture, for models of whole pictures. */
  async markWhole(frame: Frame): Promise<Marked> {
    return this.markBoxes(frame, [imageBox(frame.width, frame.height)], false);
  }

  private async mark(frame: Frame, looks: (marker: Marker) => (() => Promise<Face>)[]): Promise<Marked> {
    if (!this.model || !this.spec) throw new Error("the model is not loaded");
    const marker = new Marker(this.model, this.spec, toChannels(frame, this.spec.input.channels));
    const faces: Face[] = [];
    for (const look of looks(marker)) faces.push(await look()); // sequentially: the runtime has one input
    return { faces, spent: marker.spent };
  }
}

export type ModelApi = ModelWorker;

Comlink.expose(new ModelWorker());
