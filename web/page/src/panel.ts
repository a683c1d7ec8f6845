/** The panel: the faces of the picture, and pose, eyes, mouth, smile and score of the chosen one. */

import { guessed, measure, type Face, type HeadPose } from "../../package/src/index";
import { byId, contextOf, make } from "./dom";
import type { Scene } from "./stage";
import { say, type Word } from "./words";

const CHIP = 56; // CSS pixels
const MARGIN = 1.7; // of a chip, around a face

/** Draws the part of a picture around a face. */
export function drawChip(canvas: HTMLCanvasElement, source: CanvasImageSource, { box: [x0, y0, x1, y1] }: Face, margin = MARGIN): void {
  const side = margin * Math.max(x1 - x0, y1 - y0);
  const [x, y] = [(x0 + x1) / 2 - side / 2 + 0.5, (y0 + y1) / 2 - side * 0.54 + 0.5];
  const context = contextOf(canvas);
  context.imageSmoothingQuality = "high";
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.drawImage(source, x, y, side, side, 0, 0, canvas.width, canvas.height);
}

export class Panel {
  private readonly list = byId("face-list");
  private readonly gizmo = byId<HTMLCanvasElement>("gizmo");

  constructor(private readonly onChoose: (index: number | null) => void) {}

  /** Lists the faces of a picture. */
  show(scene: Scene | null, chosen: number | null): void {
    const faces = scene?.faces ?? [];
    byId("no-face").hidden = faces.length > 0;
    byId("face-count").textContent = faces.length > 0 ? String(faces.length) : "";
    this.list.replaceChildren(...faces.map((face, index) => this.chip(scene as Scene, face, index, chosen === index, faces.length)));
    this.showFace(chosen === null ? undefined : faces[chosen], chosen, faces.length);
  }

  /** The values of a face that moves, without its chip. */
  update(face: Face | undefined, index: number | null, count: number): void {
    this.showFace(face, index, count);
  }

  private chip(scene: Scene, face: Face, index: number, isChosen: boolean, count: number): HTMLElement {
    const canvas = make("canvas", { width: 2 * CHIP, height: 2 * CHIP, "aria-hidden": true });
    drawChip(canvas, scene.source, face);
    const label = say("faceOf", { n: index + 1, count });
    const button = make("button", { type: "button", className: "chip", "aria-pressed": isChosen, "aria-label": label, title: label }, canvas);
    button.addEventListener("click", () => this.onChoose(isChosen ? null : index));
    return make("li", {}, button);
  }

  private showFace(face: Face | undefined, index: number | null, count: number): void {
    byId("face").hidden = face === undefined;
    if (face === undefined) return;
    byId("face-title").textContent = say("faceOf", { n: (index ?? 0) + 1, count });
    const { head_pose: pose, eye_openness: eyes, mouth_openness: mouth, smile } = measure(face);
    bar("score", "score", face.score, 0, 1, (value) => `${Math.round(100 * value)} %`);
    bar("right-eye", "rightEye", eyes && eyes.right, 0, 0.4);
    bar("left-eye", "leftEye", eyes && eyes.left, 0, 0.4);
    bar("mouth", "mouth", mouth, 0, 0.8);
    bar("smile", "smile", smile, 0.45, 1);
    const hollow = guessed(face).filter(Boolean).length;
    byId("hidden-points").hidden = hollow === 0;
    byId("hidden-points").textContent = say("hidden", { n: hollow });
    byId("pose").hidden = pose === null;
    if (pose) this.showPose(pose);
  }

  private showPose(pose: HeadPose): void {
    const [yaw, pitch, roll] = [pose.yaw_deg, pose.pitch_deg, pose.roll_deg].map((angle) => Math.round(angle) + 0);
    byId("yaw").textContent = `${yaw}°`;
    byId("pitch").textContent = `${pitch}°`;
    byId("roll").textContent = `${roll}°`;
    this.gizmo.setAttribute("aria-label", `${say("pose")}: ${say("poseText", { yaw, pitch, roll })}`);
    drawGizmo(this.gizmo, pose);
  }
}

function bar(id: string, word: Word, value: number | null, least: number, greatest: number, text = (shown: number) => shown.toFixed(2)): void {
  const row = byId(`bar-${id}`);
  row.hidden = value === null;
  if (value === null) return;
  const share = Math.min(Math.max((value - least) / (greatest - least), 0), 1);
  const meter = row.querySelector<HTMLElement>(".meter") as HTMLElement;
  meter.setAttribute("aria-valuenow", value.toFixed(2));
  meter.setAttribute("aria-valuemin", String(least));
  meter.setAttribute("aria-valuemax", String(greatest));
  meter.setAttribute("aria-valuetext", text(value));
  meter.setAttribute("aria-label", say(word));
  meter.style.setProperty("--share", String(share));
  (row.querySelector("output") as HTMLElement).textContent = text(value);
}

/** A globe that is turned as the head is, with the direction of the nose. */
function drawGizmo(canvas: HTMLCanvasElement, { yaw_deg, pitch_deg, roll_deg }: HeadPose): void {
  const [yaw, pitch, roll] = [yaw_deg, pitch_deg, roll_deg].map((angle) => (angle * Math.PI) / 180);
  const context = contextOf(canvas);
  const style = getComputedStyle(canvas);
  const { width } = canvas;
  const radius = 0.36 * width;
  /** x to the right, y down, z towards the viewer. */
  const turn = ([x, y, z]: readonly [number, number, number]): [number, number, number] => {
    const [x1, z1] = [x * Math.cos(yaw) + z * Math.sin(yaw), -x * Math.sin(yaw) + z * Math.cos(yaw)];
    const [y1, z2] = [y * Math.cos(pitch) + z1 * Math.sin(pitch), -y * Math.sin(pitch) + z1 * Math.cos(pitch)];
    return [x1 * Math.cos(roll) - y1 * Math.sin(roll), x1 * Math.sin(roll) + y1 * Math.cos(roll), z2];
  };
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, width, width);
  context.translate(width / 2, width / 2);
  context.lineCap = "round";
  const lines: [number, number, number][][] = [];
  const around = Array.from({ length: 49 }, (_, i) => (i * 2 * Math.PI) / 48);
  for (const tilt of [-50, -25, 0, 25, 50].map((angle) => (angle * Math.PI) / 180)) {
    lines.push(around.map((a) => [Math.cos(tilt) * Math.sin(a), Math.sin(tilt) * 1.15, Math.cos(tilt) * Math.cos(a)]));
  }
  for (const side of [-60, -30, 0, 30, 60, 90].map((angle) => (angle * Math.PI) / 180)) {
    lines.push(around.map((a) => [Math.cos(a) * Math.sin(side), Math.sin(a) * 1.15, Math.cos(a) * Math.cos(side)]));
  }
  context.strokeStyle = style.color;
  for (const line of lines) {
    const places = line.map(turn);
    for (let i = 1; i < places.length; i++) {
      context.globalAlpha = places[i][2] > 0 ? 0.5 : 0.1;
      context.lineWidth = width / 130;
      context.beginPath();
      context.moveTo(places[i - 1][0] * radius, places[i - 1][1] * radius);
      context.lineTo(places[i][0] * radius, places[i][1] * radius);
      context.stroke();
    }
  }
  context.globalAlpha = 1;
  const [fromX, fromY] = turn([0, 0, 0.95]);
  const [toX, toY] = turn([0, 0, 1.55]);
  context.strokeStyle = context.fillStyle = style.getPropertyValue("--accent");
  context.lineWidth = width / 30;
  context.beginPath();
  context.moveTo(fromX * radius, fromY * radius);
  context.lineTo(toX * radius, toY * radius);
  context.stroke();
  context.beginPath();
  context.arc(toX * radius, toY * radius, width / 24, 0, 2 * Math.PI);
  context.fill();
}
