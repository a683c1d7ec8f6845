/** The page's elements by id, and the messages in them. */

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

/** Shows a status message; screen readers read it when idle. */
export function tell(message: string): void {
  elements.alert.textContent = "";
  if (elements.status.textContent !== message) elements.status.textContent = message;
}

/** Shows an error; screen readers read it at once. */
export function warn(message: string): void {
  elements.status.textContent = "";
  elements.alert.textContent = message;
}

export function setBusy(busy: boolean): void {
  elements.stage.setAttribute("aria-busy", String(busy));
}

/** Milliseconds as text; null for a step that did not run. */
export function milliseconds(ms: number | null): string {
  return ms === null ? "–" : `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
}
