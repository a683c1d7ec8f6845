/** The stage: the picture with its faces, zoom and pan, and what is under the pointer. */

import { applyFilters, drawFaces, type Box, type Face, type Filter } from "../../package/src/index";
import { calm, contextOf } from "./dom";

/** What is shown: a picture, a canvas that changes, or a video's frame. */
export interface Scene {
  readonly source: CanvasImageSource;
  readonly width: number;
  readonly height: number;
  readonly faces: readonly Face[];
}

export interface Shown {
  points: boolean;
  contours: boolean;
  boxes: boolean;
  filters: readonly Filter[];
}

/** Pixels of the screen per pixel of the picture, and the picture's pixel at the middle of the stage. */
interface View {
  readonly scale: number;
  readonly x: number;
  readonly y: number;
}

const FACE_SHARE = 0.62; // of the stage, that a chosen face takes
const GREATEST_SCALE = 12;
const MOVE_MS = 420;
const APPEAR_MS = 500;
const MARGIN = 0.03; // of the stage, around the whole picture
const NEAR_PX = 12;

export class Stage {
  readonly shown: Shown = { points: true, contours: true, boxes: false, filters: [] };
  private readonly context: CanvasRenderingContext2D;
  private scene: Scene | null = null;
  private chosen: number | null = null;
  private view: View | null = null; // null: the whole picture
  private moving: { from: View; to: View | null; since: number } | null = null;
  private appearedAt = 0;
  private pending = false;

  constructor(private readonly canvas: HTMLCanvasElement) {
    this.context = contextOf(canvas);
    new ResizeObserver(() => {
      const face = this.chosen === null ? undefined : this.scene?.faces[this.chosen];
      if (this.view !== null && face) this.view = this.viewOf(face.box);
      this.redraw();
    }).observe(canvas);
  }

  get current(): Scene | null {
    return this.scene;
  }

  get isZoomed(): boolean {
    return this.moving ? this.moving.to !== null : this.view !== null;
  }

  /** @param appear the points grow into place, for a picture that was just predicted */
  show(scene: Scene | null, appear = false): void {
    const same = scene !== null && this.scene?.width === scene.width && this.scene.height === scene.height;
    this.scene = scene;
    if (!same) [this.view, this.moving, this.chosen] = [null, null, null];
    if (appear) this.appearedAt = performance.now();
    this.redraw();
  }

  /** Marks a face, and zooms to it; null shows the whole picture. */
  choose(index: number | null, zoom: boolean): void {
    this.chosen = index;
    const face = index === null ? undefined : this.scene?.faces[index];
    if (zoom || face === undefined) this.moveTo(face ? this.viewOf(face.box) : null);
    this.redraw();
  }

  /** Zooms about a point of the canvas, in CSS pixels. */
  zoomAt(factor: number, x: number, y: number): void {
    const now = this.now();
    const whole = this.whole();
    const scale = Math.min(now.scale * factor, GREATEST_SCALE * Math.max(whole.scale, 1));
    if (scale <= whole.scale * 1.01) return this.moveTo(null);
    const [px, py] = this.toPicture(x, y);
    const [dx, dy] = [x - this.canvas.clientWidth / 2, y - this.canvas.clientHeight / 2];
    [this.view, this.moving] = [{ scale, x: px - dx / scale, y: py - dy / scale }, null];
    this.redraw();
  }

  pan(dx: number, dy: number): void {
    if (this.view === null) return;
    const { scale, x, y } = this.view;
    this.view = { scale, x: x - dx / scale, y: y - dy / scale };
    this.redraw();
  }

  /** The face under a point of the canvas, the smallest of several. */
  faceAt(x: number, y: number): number | null {
    const [px, py] = this.toPicture(x, y);
    const inside = (this.scene?.faces ?? [])
      .map(({ box: [x0, y0, x1, y1] }, index) => {
        const slack = 0.12 * (x1 - x0);
        const hit = px >= x0 - slack && px <= x1 + slack && py >= y0 - 3 * slack && py <= y1 + slack;
        return { index, hit, size: (x1 - x0) * (y1 - y0) };
      })
      .filter(({ hit }) => hit);
    return inside.sort((one, other) => one.size - other.size)[0]?.index ?? null;
  }

  /** The point of a face near a point of the canvas. */
  pointAt(x: number, y: number): { face: Face; index: number; x: number; y: number } | null {
    let nearest: { face: Face; index: number; x: number; y: number } | null = null;
    let least = NEAR_PX;
    for (const face of this.scene?.faces ?? []) {
      for (const [index, place] of face.keypoints.entries()) {
        const [cx, cy] = this.toCanvas(place[0], place[1]);
        const far = Math.hypot(cx - x, cy - y);
        if (far < least) [least, nearest] = [far, { face, index, x: cx, y: cy }];
      }
    }
    return nearest;
  }

  /** Draws on the next frame of the screen. */
  redraw(): void {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.draw();
    });
  }

  /** The picture in its own size, with filters and marks. */
  drawFull(target: HTMLCanvasElement | OffscreenCanvas): void {
    if (this.scene === null) return;
    const { source, width, height, faces } = this.scene;
    if (target.width !== width || target.height !== height) [target.width, target.height] = [width, height];
    const context = target.getContext("2d") as CanvasRenderingContext2D;
    context.drawImage(source, 0, 0, width, height);
    applyFilters(context, faces, this.shown.filters);
    drawFaces(context, faces, { ...this.shown, radii: [Math.max(width, height) / 1600, Infinity] });
  }

  private draw(): void {
    const { canvas, context, scene } = this;
    const density = Math.min(devicePixelRatio || 1, 2);
    const [width, height] = [Math.round(canvas.clientWidth * density), Math.round(canvas.clientHeight * density)];
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    if (scene === null || width === 0) return;
    const { scale, x, y } = this.now();
    const zoom = scale * density;
    context.setTransform(zoom, 0, 0, zoom, width / 2 - (x + 0.5) * zoom, height / 2 - (y + 0.5) * zoom);
    context.save();
    context.beginPath();
    context.roundRect(0, 0, scene.width, scene.height, 10 / scale);
    context.clip();
    context.imageSmoothingQuality = "high";
    context.imageSmoothingEnabled = zoom < 6;
    context.drawImage(scene.source, 0, 0, scene.width, scene.height);
    context.imageSmoothingEnabled = true;
    applyFilters(context, scene.faces, this.shown.filters);
    this.drawMarks(scene, scale);
    context.restore();
    if (this.moving || this.appeared() < 1) this.redraw();
  }

  private drawMarks({ faces }: Scene, scale: number): void {
    const grown = this.appeared();
    const { points, contours, boxes } = this.shown;
    const marks = { points, contours: contours && grown > 0.4, boxes, radii: [(1 / scale) * grown, (4 / scale) * grown] as const };
    const others = this.chosen === null ? faces : faces.filter((_, index) => index !== this.chosen);
    const quiet = this.chosen === null ? 1 : 0.35;
    this.context.globalAlpha = quiet;
    drawFaces(this.context, others, marks);
    this.context.globalAlpha = 1;
    if (this.chosen !== null && faces[this.chosen]) drawFaces(this.context, [faces[this.chosen]], marks);
  }

  private appeared(): number {
    if (calm.matches) return 1;
    const share = Math.min((performance.now() - this.appearedAt) / APPEAR_MS, 1);
    return 1 - (1 - share) ** 3;
  }

  private moveTo(to: View | null): void {
    const from = this.now();
    [this.moving, this.view] = calm.matches ? [null, to] : [{ from, to, since: performance.now() }, this.view];
    this.redraw();
  }

  /** The view at this time. */
  private now(): View {
    if (this.moving === null) return this.view ?? this.whole();
    const { from, to, since } = this.moving;
    const share = Math.min((performance.now() - since) / MOVE_MS, 1);
    const goal = to ?? this.whole();
    if (share === 1) {
      [this.moving, this.view] = [null, to];
      return goal;
    }
    const eased = share < 0.5 ? 4 * share ** 3 : 1 - (2 - 2 * share) ** 3 / 2;
    const between = (first: number, second: number) => first + (second - first) * eased;
    return { scale: from.scale * (goal.scale / from.scale) ** eased, x: between(from.x, goal.x), y: between(from.y, goal.y) };
  }

  private whole(): View {
    if (this.scene === null) return { scale: 1, x: 0, y: 0 };
    const { width, height } = this.scene;
    const room = 1 - 2 * MARGIN;
    const scale = Math.min((this.canvas.clientWidth * room) / width, (this.canvas.clientHeight * room) / height);
    return { scale: Math.max(scale, 1e-3), x: (width - 1) / 2, y: (height - 1) / 2 };
  }

  private viewOf([x0, y0, x1, y1]: Box): View {
    const side = Math.min(this.canvas.clientWidth, this.canvas.clientHeight);
    const scale = Math.min((FACE_SHARE * side) / Math.max(x1 - x0, y1 - y0, 1), GREATEST_SCALE);
    return { scale: Math.max(scale, this.whole().scale), x: (x0 + x1) / 2, y: (y0 + y1) / 2 - 0.04 * (y1 - y0) };
  }

  private toPicture(x: number, y: number): [number, number] {
    const view = this.now();
    return [view.x + (x - this.canvas.clientWidth / 2) / view.scale, view.y + (y - this.canvas.clientHeight / 2) / view.scale];
  }

  private toCanvas(x: number, y: number): [number, number] {
    const view = this.now();
    return [(x - view.x) * view.scale + this.canvas.clientWidth / 2, (y - view.y) * view.scale + this.canvas.clientHeight / 2];
  }
}
