/** Draws faces on a canvas that shows their picture: contours, points and boxes. */

import { contourEdges } from "./contours";
import { guessed, type Face } from "./face";
import { area, type Box } from "./geometry";

/** What `drawFaces` draws; sizes are shares of a face's size, the longer side of its box. */
export interface DrawOptions {
  readonly points?: boolean;
  readonly contours?: boolean;
  readonly boxes?: boolean;
  /** Points that are probably hidden or far off are drawn hollow. */
  readonly hollow?: boolean;
  /** Points grow with their expected error. */
  readonly sizeByUncertainty?: boolean;
  readonly pointColor?: string;
  readonly contourColor?: string;
  readonly boxColor?: string;
  readonly pointSize?: number;
  readonly lineWidth?: number;
  /** Least and greatest radius of a point, in pixels of the picture. */
  readonly radii?: readonly [least: number, greatest: number];
}

const DEFAULTS: Required<DrawOptions> = {
  points: true,
  contours: true,
  boxes: false,
  hollow: true,
  sizeByUncertainty: true,
  pointColor: "#00ff78",
  contourColor: "rgb(90 230 200 / 65%)",
  boxColor: "#ffc800",
  pointSize: 0.015,
  lineWidth: 0.004,
  radii: [0.75, Infinity],
};

/** @param context the canvas' context; its picture has the faces' coordinates, with pixel centres on integers */
export function drawFaces(context: CanvasRenderingContext2D, faces: readonly Face[], options: DrawOptions = {}): void {
  const chosen = { ...DEFAULTS, ...options };
  context.save();
  context.translate(0.5, 0.5); // a canvas counts from the pixel's corner
  context.lineJoin = context.lineCap = "round";
  for (const face of [...faces].sort((one, other) => area(one.box) - area(other.box))) {
    const side = Math.max(sideOf(face.box), 1);
    context.lineWidth = Math.max(chosen.lineWidth * side, chosen.radii[0] * 0.8);
    if (chosen.contours) drawContours(context, face, chosen.contourColor);
    if (chosen.boxes) drawBox(context, face.keypoints.length === 1 ? (face.detectionBox ?? face.box) : face.box, chosen.boxColor);
    if (chosen.points) drawPoints(context, face, side, chosen);
  }
  context.restore();
}

function drawContours(context: CanvasRenderingContext2D, { schema, keypoints }: Face, color: string): void {
  context.beginPath();
  for (const [start, end] of contourEdges(schema)) {
    context.moveTo(...keypoints[start]);
    context.lineTo(...keypoints[end]);
  }
  context.strokeStyle = color;
  context.stroke();
}

function drawBox(context: CanvasRenderingContext2D, [x0, y0, x1, y1]: Box, color: string): void {
  context.strokeStyle = color;
  context.strokeRect(x0, y0, x1 - x0, y1 - y0);
}

function drawPoints(context: CanvasRenderingContext2D, face: Face, side: number, chosen: Required<DrawOptions>): void {
  const hidden = chosen.hollow ? guessed(face) : [];
  const [least, greatest] = chosen.radii;
  for (const [i, [x, y]] of face.keypoints.entries()) {
    const radius = Math.min(Math.max((chosen.pointSize / 2) * side * growth(face, i, side, chosen), least), greatest);
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.lineWidth = Math.max(radius * 0.5, least * 0.6);
    if (hidden[i]) {
      context.strokeStyle = chosen.pointColor;
      context.stroke();
    } else {
      context.strokeStyle = "rgb(0 0 0 / 55%)";
      context.stroke();
      context.fillStyle = chosen.pointColor;
      context.fill();
    }
  }
}

/** 0.8 for a point whose expected error is nothing, to 1.6 for one of 4 % of the face and more. */
function growth({ uncertainty }: Face, index: number, side: number, { sizeByUncertainty }: Required<DrawOptions>): number {
  return uncertainty === null || !sizeByUncertainty ? 1 : 0.8 + Math.min(uncertainty[index] / side / 0.04, 1) * 0.8;
}

function sideOf([x0, y0, x1, y1]: Box): number {
  return Math.max(x1 - x0, y1 - y0);
}
