/** Owns the page's elements by their ids, and the messages in them. */

function element<Kind extends HTMLElement>(id: string, kind: new () => Kind): Kind {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`index.html has no ${kind.name} #${id}`);
  return found;
}

export const elements = {
  stage: element("stage", HTMLElement),
  canvas: element("canvas", HTMLCanvasElement),
  video: element("video", HTMLVideoElement),
  file: element("file", HTMLInputElement),
  open: element("open", HTMLButtonElement),
  example: element("example", HTMLButtonElement),
  camera: element("camera", HTMLButtonElement),
  savePicture: element("save-picture", HTMLButtonElement),
  savePoints: element("save-points", HTMLButtonElement),
  points: element("points", HTMLInputElement),
  boxes: element("boxes", HTMLInputElement),
  mirror: element("mirror", HTMLInputElement),
  filters: element("filters", HTMLFieldSetElement),
  status: element("status", HTMLElement),
  alert: element("alert", HTMLElement),
  model: element("model", HTMLElement),
  times: {
    detect: element("time-detect", HTMLElement),
    crop: element("time-crop", HTMLElement),
    model: element("time-model", HTMLElement),
    frame: element("time-frame", HTMLElement),
  },
};

/** Tells what is going on; read out when the reader's turn comes. */
export function tell(message: string): void {
  elements.alert.textContent = "";
  if (elements.status.textContent !== message) elements.status.textContent = message;
}

/** Tells what went wrong; read out at once. */
export function warn(message: string): void {
  elements.status.textContent = "";
  elements.alert.textContent = message;
}

export function setBusy(busy: boolean): void {
  elements.stage.setAttribute("aria-busy", String(busy));
}

/** Milliseconds for people; null for what was not done. */
export function milliseconds(ms: number | null): string {
  return ms === null ? "–" : `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
}
