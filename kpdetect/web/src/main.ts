/** The page: its buttons and messages. */

import { Live } from "./live";
import { NoCamera } from "./camera";
import type { Filter } from "./filters";
import { elements, milliseconds, setBusy, tell, warn } from "./elements";
import { Engine } from "./engine";
import { fits } from "./fitting";
import { markPhotograph } from "./photograph";
import { FrameReader, NoPicture, readPicture, save } from "./pictures";
import { asJson, inWords } from "./results";
import { fetchFile, type Settings, type Spec } from "./spec";
import { Stage } from "./stage";
import "./styles.css";

const BASE = document.baseURI;
const LASTING_MS = 700; // lost faces are often found again within this time
const READY = "Open a photograph, drop one here, or use the camera.";

class Page {
  private readonly reader = new FrameReader();
  private live: Live | null = null;
  private latest = 0; // number of the last request: results of earlier requests are ignored

  constructor(
    private readonly engine: Engine,
    private readonly stage: Stage,
  ) {}

  async openPhotograph(file: Blob, name: string): Promise<void> {
    const mine = this.begin();
    setBusy(true);
    try {
      const picture = await readPicture(file, name);
      if (mine !== this.latest) return;
      const scene = { name, source: picture, width: picture.width, height: picture.height };
      this.stage.show({ ...scene, faces: [] });
      tell("Detecting faces…");
      const marks = await markPhotograph(this.engine, this.reader.read(picture, picture.width, picture.height));
      if (mine !== this.latest) return;
      this.stage.show({ ...scene, faces: marks.faces });
      showTimes(marks.detectMs, marks.spent.crop, marks.spent.model, null);
      tell(inWords(marks.faces.length));
    } catch (error) {
      if (mine === this.latest) this.explain(error);
    } finally {
      if (mine === this.latest) setBusy(false);
    }
  }

  async openExample(): Promise<void> {
    try {
      await this.openPhotograph(await (await fetchFile("example.png", BASE)).blob(), "Example");
    } catch (error) {
      this.explain(error);
    }
  }

  /** Starts the camera, or stops it and keeps its last frame. */
  async toggleCamera(): Promise<void> {
    if (this.live) {
      this.begin();
      return tell("The camera is off.");
    }
    const mine = this.begin();
    tell("Waiting for the camera…");
    try {
      const live = await Live.open(this.engine, this.stage);
      if (mine !== this.latest) return live.stop();
      this.setLive(live);
      tell("The camera is on. Detecting faces…");
      const tellCount = countTeller();
      await live.run((tracked, frameMs) => {
        showTimes(tracked.detectMs, tracked.spent.crop, tracked.spent.model, frameMs);
        if (tracked.detectMs !== null || tracked.faces.length > 0) tellCount(tracked.faces.length);
      });
    } catch (error) {
      if (mine !== this.latest) return;
      this.begin();
      this.explain(error);
    }
  }

  savePicture(): void {
    elements.canvas.toBlob((blob) => blob && save(blob, "marked.png"), "image/png");
  }

  savePoints(): void {
    const scene = this.stage.shown;
    if (scene === null) return;
    const json = asJson(scene.name, scene.width, scene.height, this.engine.spec.schema, scene.faces);
    save(new Blob([json], { type: "application/json" }), "points.json");
  }

  /** Stops the current task; its late results are ignored. */
  private begin(): number {
    this.live?.stop();
    this.setLive(null);
    setBusy(false);
    return ++this.latest;
  }

  private setLive(live: Live | null): void {
    this.live = live;
    elements.camera.setAttribute("aria-pressed", String(live !== null));
    elements.stage.classList.toggle("live", live !== null);
  }

  private explain(error: unknown): void {
    if (error instanceof NoPicture) this.stage.clear();
    if (error instanceof NoPicture || error instanceof NoCamera) warn(error.message);
    else warn(`An error occurred: ${error instanceof Error ? error.message : error}`);
  }
}

/** Announces the number of faces in a live picture only when it is stable, for screen readers. */
function countTeller(): (count: number) => void {
  let [last, since] = [-1, 0];
  return (count) => {
    if (count !== last) [last, since] = [count, performance.now()];
    if (performance.now() - since >= LASTING_MS) tell(inWords(count));
  };
}

function showTimes(detect: number | null, crop: number, model: number, frame: number | null): void {
  const times = { detect, crop, model, frame };
  for (const [name, ms] of Object.entries(times)) elements.times[name as keyof typeof times].textContent = milliseconds(ms);
}

/** Makes a checkbox for each filter that the model's scheme has points for. */
async function offerFilters(settings: Settings, spec: Spec): Promise<readonly Filter[]> {
  const fitting = settings.filters.filter((filter) => fits(filter, spec.schema));
  elements.filters.hidden = fitting.length === 0;
  for (const { name } of fitting) {
    const label = document.createElement("label");
    const box = Object.assign(document.createElement("input"), { type: "checkbox", value: name });
    label.append(box, ` ${name[0].toUpperCase()}${name.slice(1)}`);
    elements.filters.append(label);
  }
  const picture = async (name: string) => createImageBitmap(await (await fetchFile(`filters/${name}`, BASE)).blob());
  return Promise.all(
    fitting.map(async (filter) => ({
      settings: filter,
      picture: await picture(filter.picture),
      arms: await Promise.all((filter.arms ?? []).map((arm) => picture(arm.picture))),
    })),
  );
}

function describe({ schema, crop, input, terms }: Spec): string {
  const [height, width] = crop.size_hw;
  const points = `${schema.point_names.length} points (${schema.name})`;
  const each = [...new Set(terms.split(/(?<=\.)\s+/))].join(" "); // transfer learning repeats terms
  const trained = terms === "" ? "" : ` Trained on: ${each}`;
  return `${points}; input of ${width}×${height} pixels, ${input.channels === 1 ? "grey" : "colour"}.${trained}`;
}

function connect(page: Page, stage: Stage): void {
  elements.open.addEventListener("click", () => elements.file.click());
  elements.file.addEventListener("change", () => {
    const [file] = elements.file.files ?? [];
    elements.file.value = ""; // allows the same file to be chosen again
    if (file) void page.openPhotograph(file, file.name);
  });
  elements.example.addEventListener("click", () => void page.openExample());
  elements.camera.addEventListener("click", () => void page.toggleCamera());
  elements.savePicture.addEventListener("click", () => page.savePicture());
  elements.savePoints.addEventListener("click", () => page.savePoints());
  elements.mirror.addEventListener("change", mirrorOrNot);
  for (const input of [elements.points, elements.boxes, elements.filters]) input.addEventListener("change", () => stage.redraw());
  window.addEventListener("resize", () => stage.redraw());
  acceptDrops(page);
}

function mirrorOrNot(): void {
  elements.stage.classList.toggle("mirrored", elements.mirror.checked);
}

/** Pictures may be dropped anywhere on the page; otherwise the browser would open the file. */
function acceptDrops(page: Page): void {
  const over = (event: DragEvent, inside: boolean) => {
    event.preventDefault();
    elements.stage.classList.toggle("dragging", inside);
  };
  document.addEventListener("dragover", (event) => over(event, true));
  document.addEventListener("dragleave", (event) => over(event, event.relatedTarget !== null));
  document.addEventListener("drop", (event) => {
    over(event, false);
    const [file] = event.dataTransfer?.files ?? [];
    if (file) void page.openPhotograph(file, file.name);
    else warn("The dropped object is not a file. Drop a picture file here.");
  });
}

async function start(): Promise<void> {
  tell("Loading the model…");
  const engine = await Engine.start(BASE);
  const stage = new Stage(engine.spec.schema, await offerFilters(engine.settings, engine.spec), engine.settings.mean_face);
  connect(new Page(engine, stage), stage);
  mirrorOrNot();
  elements.model.textContent = describe(engine.spec);
  for (const button of [elements.open, elements.example, elements.camera]) button.disabled = false;
  setBusy(false);
  tell(READY);
}

start().catch((error: unknown) => {
  setBusy(false);
  warn(`The page cannot start: ${error instanceof Error ? error.message : error}`);
});
