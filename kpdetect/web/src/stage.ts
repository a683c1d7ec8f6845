/** The canvas: the picture with its faces, and the drawing options. */

import { drawFaces, type Shown } from "./drawing";
import { elements } from "./elements";
import type { Filter, MeanFace } from "./filters";
import { inWords } from "./results";
import type { Face, Schema } from "./spec";

/** A picture and its faces. */
export interface Scene {
  readonly name: string;
  readonly source: CanvasImageSource;
  readonly width: number;
  readonly height: number;
  readonly faces: readonly Face[];
}

export class Stage {
  private readonly context = elements.canvas.getContext("2d")!;
  private scene: Scene | null = null;

  constructor(
    private readonly schema: Schema,
    private readonly filters: readonly Filter[],
    private readonly meanFace: MeanFace,
  ) {}

  get shown(): Scene | null {
    return this.scene;
  }

  show(scene: Scene): void {
    this.scene = scene;
    elements.stage.classList.add("filled");
    elements.savePicture.disabled = false;
    elements.savePoints.disabled = scene.faces.length === 0;
    this.redraw();
  }

  clear(): void {
    this.scene = null;
    elements.stage.classList.remove("filled");
    elements.savePicture.disabled = elements.savePoints.disabled = true;
    elements.canvas.setAttribute("aria-label", "No picture yet");
  }

  /** Draws the same picture again, for example after a filter was chosen. */
  redraw(): void {
    if (this.scene === null) return;
    const { source, width, height, faces, name } = this.scene;
    const { canvas } = elements;
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    this.context.drawImage(source, 0, 0, width, height);
    drawFaces(this.context, faces, this.schema, this.options(), width / Math.max(canvas.clientWidth, 1));
    const label = `${name}. ${inWords(faces.length)}`;
    if (canvas.getAttribute("aria-label") !== label) canvas.setAttribute("aria-label", label);
  }

  private options(): Shown {
    const chosen = (filter: Filter) =>
      elements.filters.querySelector<HTMLInputElement>(`input[value="${CSS.escape(filter.settings.name)}"]`)?.checked;
    const filters = this.filters.filter(chosen);
    return { points: elements.points.checked, boxes: elements.boxes.checked, filters, meanFace: this.meanFace };
  }
}
