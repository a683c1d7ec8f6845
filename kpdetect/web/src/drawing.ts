/** Drawing over a picture: filters, boxes, points. */

import { drawFilter, type Filter, type MeanFace } from "./filters";
import { area } from "./geometry";
import type { Face, Schema } from "./spec";

// Colours of the parts, in their order, as in kpdetect/visualization/marks.py.
const PART_COLORS = ["#4da3ff", "#ff8c1a", "#ffd400", "#2fd06c", "#12cfc4", "#ff5c5c", "#c77dff", "#ff6ec7", "#b5e61d"];
const OUTLINE = "#202020";
const BOX_COLOR = "#ffcc00";

export interface Shown {
  readonly points: boolean;
  readonly boxes: boolean;
  readonly filters: readonly Filter[];
  readonly meanFace: MeanFace;
}

/** @param unit pixels of the picture per pixel of the screen, for a constant size on the screen */
export function drawFaces(context: CanvasRenderingContext2D, faces: readonly Face[], schema: Schema, shown: Shown, unit: number): void {
  const farFirst = [...faces].sort((one, other) => area(one.box) - area(other.box));
  for (const face of farFirst) {
    for (const filter of shown.filters) drawFilter(context, face, schema, filter, shown.meanFace);
  }
  for (const face of farFirst) {
    if (shown.boxes) drawBox(context, face, unit);
    if (shown.points) drawPoints(context, face, schema, unit);
  }
}

function drawBox(context: CanvasRenderingContext2D, { box: [x0, y0, x1, y1] }: Face, unit: number): void {
  for (const [width, color] of [[4 * unit, OUTLINE], [2 * unit, BOX_COLOR]] as const) {
    context.lineWidth = width;
    context.strokeStyle = color;
    context.strokeRect(x0 + 0.5, y0 + 0.5, x1 - x0, y1 - y0);
  }
}

function drawPoints(context: CanvasRenderingContext2D, { box, keypoints }: Face, schema: Schema, unit: number): void {
  const colors = partColors(schema);
  // Points scale with the face, so that small faces stay visible.
  const radius = Math.min(Math.max(Math.sqrt(area(box)) / 70, 1.1 * unit), 3 * unit);
  for (const [i, [x, y]] of keypoints.entries()) {
    context.beginPath();
    context.arc(x + 0.5, y + 0.5, radius, 0, 2 * Math.PI);
    context.fillStyle = colors[i];
    context.strokeStyle = OUTLINE;
    context.lineWidth = radius / 2;
    context.stroke();
    context.fill();
  }
}

/** The colour of each point: that of the first part that contains it. */
function partColors(schema: Schema): readonly string[] {
  const parts = Object.values(schema.groups);
  return schema.point_names.map((_, point) => {
    const part = parts.findIndex((points) => points.includes(point));
    return PART_COLORS[(part < 0 ? parts.length : part) % PART_COLORS.length];
  });
}
