/** The page: pictures, camera and video on the stage, their faces in the panel. */

import { applyFilters, asCoco, asCsv, asJson, loadFilters, Predictor, type Face, type Filter, type Result } from "../../package/src/index";
import { byId, calm, download, icon, make } from "./dom";
import { filesOf, isVideo } from "./files";
import { Live } from "./live";
import { NoCamera } from "./camera";
import { Panel } from "./panel";

import { keepForOffline } from "./offline";
import { Stage } from "./stage";
import { foundText, initialLanguage, LANGUAGES, say, setLanguage, type Language, type Word } from "./words";

const BASE = new URL("./", document.baseURI).href;
const SAMPLES: readonly (readonly [file: string, word: Word])[] = [
  ["samples/group.jpg", "sampleGroup"],
  ["samples/astronaut.jpg", "sampleAstronaut"],
  ["samples/tilted.jpg", "sampleTilted"],
];
const TILE = { width: 168, height: 136 };
const GREATEST_SIDE = 4096;

/** A picture of the film strip. */
interface Item {
  readonly name: string;
  readonly word: Word | null; // of a sample
  readonly load: () => Promise<Blob>;
  readonly tile: HTMLButtonElement;
  readonly thumb: HTMLCanvasElement;
  readonly badge: HTMLElement;
  size: { width: number; height: number } | null;
  faces: readonly Face[] | null;
  times: string;
}

const stage = new Stage(byId<HTMLCanvasElement>("canvas"));
const panel = new Panel((index) => chooseFace(index, true));
const items: Item[] = [];
let current: Item | null = null;
let bitmap: ImageBitmap | null = null;
let chosen: number | null = null;
let live: Live | null = null;
let filters: readonly Filter[] = [];
let language: Language = initialLanguage();
let told: () => string = () => say("starting");
let ready: (predictor: Predictor) => void;
const predictorLoaded = new Promise<Predictor>((resolve) => (ready = resolve));
let predictor: Predictor | null = null;
let working: Promise<void> = Promise.resolve();

/** Shows a text in the status line, again in another language if that is changed. */
function tell(text: () => string): void {
  told = text;
  byId("status").textContent = text();
}

function warn(text: string): void {
  byId("alert").textContent = text;
}

function isBusy(busy: boolean): void {
  byId("stage").setAttribute("aria-busy", String(busy));
}

/** Puts a picture into the film strip. */
function addItem(name: string, load: () => Promise<Blob>, word: Word | null = null): Item {
  const thumb = make("canvas", { ...TILE, "aria-hidden": true });
  const badge = make("span", { className: "badge", hidden: true });
  const tile = make("button", { type: "button", className: "tile" }, thumb, badge);
  const item: Item = { name, word, load, tile, thumb, badge, size: null, faces: null, times: "" };
  tile.addEventListener("click", () => void open(item));
  byId("items").append(make("li", {}, tile));
  items.push(item);
  label(item);
  return item;
}

function label(item: Item): void {
  const name = item.word ? say(item.word) : item.name;
  const text = item.faces ? `${name}. ${foundText(item.faces.length)}` : name;
  item.tile.setAttribute("aria-label", text);
  item.tile.title = name;
  if (item === current) byId("canvas").setAttribute("aria-label", text);
}

async function decode(item: Item): Promise<ImageBitmap> {
  const blob = await item.load();
  const whole = await createImageBitmap(blob, { imageOrientation: "from-image" });
  const shrink = GREATEST_SIDE / Math.max(whole.width, whole.height);
  if (shrink >= 1) return whole;
  const [resizeWidth, resizeHeight] = [Math.round(whole.width * shrink), Math.round(whole.height * shrink)];
  return createImageBitmap(whole, { resizeWidth, resizeHeight, resizeQuality: "high" });
}

function drawThumb(item: Item, picture: CanvasImageSource, width: number, height: number): void {
  const scale = Math.max(TILE.width / width, TILE.height / height);
  const context = item.thumb.getContext("2d");
  if (context === null) return;
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, (TILE.width - width * scale) / 2, (TILE.height - height * scale) / 2, width * scale, height * scale);
}

/** Shows a picture, and finds its faces if that was not done before. */
async function open(item: Item): Promise<void> {
  stopLive();
  warn("");
  current = item;
  chosen = null;
  for (const other of items) other.tile.setAttribute("aria-current", String(other === item));
  item.tile.scrollIntoView({ block: "nearest", inline: "nearest", behavior: calm.matches ? "auto" : "smooth" });
  isBusy(true);
  let picture: ImageBitmap;
  try {
    picture = await decode(item);
  } catch {
    remove(item);
    warn(say("notPicture", { name: item.name }));
    isBusy(false);
    return;
  }
  if (current !== item) return picture.close();
  bitmap?.close();
  bitmap = picture;
  item.size = { width: picture.width, height: picture.height };
  drawThumb(item, picture, picture.width, picture.height);
  label(item);
  present(item, false);
  if (item.faces === null) await analyse(item, picture);
  else tellFound(item);
  if (current === item) isBusy(false);
}

function remove(item: Item): void {
  item.tile.parentElement?.remove();
  items.splice(items.indexOf(item), 1);
  if (current === item) current = null;
}

/** Finds the faces of a picture; pictures wait for one another. */
function analyse(item: Item, picture: ImageBitmap | null): Promise<void> {
  item.badge.hidden = false;
  item.badge.className = "badge busy";
  item.badge.textContent = "";
  if (item === current) tell(() => (predictor ? say("searching") : say("starting")));
  working = working.then(async () => {
    const model = await predictorLoaded;
    if (item.faces !== null) return;
    if (item === current) tell(() => say("searching"));
    try {
      const source = item === current && picture && bitmap === picture ? picture : await decode(item);
      item.size = { width: source.width, height: source.height };
      drawThumb(item, source, source.width, source.height);
      const start = performance.now();
      item.faces = await model(source);
      const { detect, crop, model: run } = model.times;
      item.times = `${[detect, crop, run].map((ms) => `${ms.toFixed(0)} ms`).join(" + ")} = ${(performance.now() - start).toFixed(0)} ms`;
      if (source !== bitmap) source.close();
    } catch (error) {
      warn(item.size ? String(error instanceof Error ? error.message : error) : say("notPicture", { name: item.name }));
      item.faces = [];
    }
    item.badge.className = "badge";
    item.badge.textContent = String(item.faces.length);
    label(item);
    if (item === current && bitmap) {
      present(item, true);
      tellFound(item);
    }
    enableData();
  });
  return working;
}

function tellFound(item: Item): void {
  tell(() => {
    const mine = items.filter((one) => one.word === null);
    const done = mine.filter(({ faces }) => faces !== null).length;
    const queue = done < mine.length ? ` · ${say("queue", { done, count: mine.length })}` : "";
    return `${foundText(item.faces?.length ?? 0)}${queue}`;
  });
  byId("times").textContent = item.times;
}

function present(item: Item, appear: boolean): void {
  if (bitmap === null) return;
  stage.show({ source: bitmap, width: bitmap.width, height: bitmap.height, faces: item.faces ?? [] }, appear);
  panel.show(stage.current, chosen);
  showFilterThumbs();
  enableData();
}

function enableData(): void {
  const hasPicture = stage.current !== null;
  byId<HTMLButtonElement>("save").disabled = byId<HTMLButtonElement>("share").disabled = !hasPicture;
  const some = results().some(({ faces }) => faces.length > 0);
  for (const id of ["save-json", "save-csv", "save-coco"]) byId<HTMLButtonElement>(id).disabled = !some;
}

function chooseFace(index: number | null, zoom: boolean): void {
  chosen = index;
  stage.choose(index, zoom && live === null);
  byId("zoom-out").hidden = !stage.isZoomed;
  panel.show(stage.current, chosen);
  showFilterThumbs();
  if (index !== null && stage.current) {
    const text = () => say("faceOf", { n: index + 1, count: stage.current?.faces.length ?? 0 });
    if (live === null) tell(text);
  } else if (current) tellFound(current);
}

/** Files of the user: the first is shown, all are marked. */
async function addFiles(files: readonly File[]): Promise<void> {
  warn("");
  const video = files.find(isVideo);
  if (video && files.length === 1) return startLive({ video });
  const added = files.filter((file) => !isVideo(file)).map((file) => addItem(file.name, async () => file));
  const [first, ...rest] = added;
  if (first === undefined) return;
  await open(first);
  for (const item of rest) void analyse(item, null);
  if (first === current) tellFound(first);
}

async function startLive(from: { facing: "user" | "environment" } | { video: File }): Promise<void> {
  stopLive();
  warn("");
  try {
    const model = await predictorLoaded;
    live = await Live.open(model, byId<HTMLVideoElement>("video"), from);
  } catch (error) {
    warn(error instanceof NoCamera ? say(error.word) : say("notPicture", { name: "video" in from ? from.video.name : "" }));
    return;
  }
  current = null;
  for (const { tile } of items) tile.setAttribute("aria-current", "false");
  const isCamera = "facing" in from;
  byId("live").hidden = false;
  byId("photo").hidden = !isCamera;
  byId("flip").hidden = !isCamera || !(await live.hasOther());
  setCameraButton(true);
  const running = live;
  chosen = null;
  let shownFaces = -1;
  try {
    await running.run((frame, faces, fps) => {
      if (live !== running) return;
      stage.show({ source: frame, width: frame.width, height: frame.height, faces });
      if (faces.length !== shownFaces) {
        shownFaces = faces.length;
        chosen = faces.length > 0 ? 0 : null;
        stage.choose(null, false);
        panel.show(stage.current, chosen);
        enableData();
      }
      panel.update(chosen === null ? undefined : faces[chosen], chosen, faces.length);
      running.compose((target) => stage.drawFull(target));
      told = () => `${foundText(faces.length)} · ${say("fps", { n: Math.round(fps) })}`;
      byId("status").textContent = told();
    });
  } catch (error) {
    warn(error instanceof NoCamera ? say(error.word) : String(error instanceof Error ? error.message : error));
  }
  if (live === running) stopLive();
}

function stopLive(): void {
  if (live === null) return;
  if (live.isRecording) void stopRecording();
  live.stop();
  live = null;
  byId("live").hidden = true;
  setCameraButton(false);
  tell(() => say("ready"));
}

function setCameraButton(pressed: boolean): void {
  byId("camera").setAttribute("aria-pressed", String(pressed));
  byId("camera").replaceChildren(icon(pressed ? "stop" : "camera"), byId("camera-word"));
  byId("camera-word").dataset["word"] = pressed ? "stop" : "camera";
  byId("camera-word").textContent = say(pressed ? "stop" : "camera");
}

/** The camera's picture becomes one of the film strip, as it is seen: a mirrored one stays mirrored. */
async function takePhoto(): Promise<void> {
  const frame = live?.still();
  if (!frame) return;
  const blob = await new Promise<Blob | null>((resolve) => frame.toBlob(resolve, "image/png"));
  if (blob) await open(addItem(`camera-${items.length + 1}.png`, async () => blob));
}

async function stopRecording(): Promise<void> {
  const recorded = await live?.stopRecording();
  byId("record").setAttribute("aria-pressed", "false");
  if (recorded) download(recorded.content, recorded.name);
}

async function markedPicture(): Promise<{ blob: Blob; name: string } | null> {
  const full = document.createElement("canvas");
  stage.drawFull(full);
  const blob = await new Promise<Blob | null>((resolve) => full.toBlob(resolve, "image/png"));
  const stem = (current?.name ?? "camera").replace(/\.\w+$/, "").replace(/^.*\//, "");
  return blob && { blob, name: `${stem}-kpdetect.png` };
}

async function share(): Promise<void> {
  const marked = await markedPicture();
  if (marked === null) return;
  const file = new File([marked.blob], marked.name, { type: "image/png" });
  if (navigator.canShare?.({ files: [file] })) {
    await navigator.share({ files: [file] }).catch(() => undefined); // the user closed it
    return;
  }
  await navigator.clipboard.write([new ClipboardItem({ "image/png": marked.blob })]);
  tell(() => say("copied"));
}

/** The picture on the stage, or all of the user's if there are several. */
function results(): Result[] {
  if (live && stage.current) return [{ image: "camera.png", ...stage.current }];
  const mine = items.filter(({ word, faces }) => word === null && faces !== null);
  const wanted = current?.word === null && mine.length > 1 ? mine : current ? [current] : [];
  return wanted.flatMap(({ name, size, faces }) => (size && faces ? [{ image: name, ...size, faces }] : []));
}

function saveData(kind: "json" | "csv" | "coco"): void {
  if (predictor === null) return;
  const write = { json: asJson, csv: asCsv, coco: asCoco }[kind];
  const all = results();
  const stem = all.length === 1 ? all[0].image.replace(/\.\w+$/, "").replace(/^.*\//, "") : "faces";
  const type = kind === "csv" ? "text/csv" : "application/json";
  download(new Blob([write(all, predictor.schema)], { type }), `${stem}.${kind === "coco" ? "coco.json" : kind}`);
}

/** Each filter on the chosen face, or the largest. */
function showFilterThumbs(): void {
  const face = stage.current?.faces[chosen ?? 0];
  if (!stage.current || !face || live) return;
  const [x0, y0, x1, y1] = face.box;
  const side = 2 * Math.max(x1 - x0, y1 - y0);
  const [left, top] = [(x0 + x1) / 2 - side / 2, (y0 + y1) / 2 - side * 0.58];
  for (const [index, filter] of filters.entries()) {
    const canvas = byId("filter-list").querySelectorAll("canvas")[index];
    const context = canvas.getContext("2d");
    if (context === null) continue;
    const zoom = canvas.width / side;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.setTransform(zoom, 0, 0, zoom, -(left + 0.5) * zoom, -(top + 0.5) * zoom);
    context.imageSmoothingQuality = "high";
    context.drawImage(stage.current.source, 0, 0);
    applyFilters(context, [face], [filter]);
  }
}

async function offerFilters(model: Predictor): Promise<void> {
  filters = await loadFilters(model);
  byId("filters").hidden = filters.length === 0;
  byId("filter-list").replaceChildren(
    ...filters.map((filter) => {
      const name = filter.settings.name;
      const text = make("span", { "data-word": `filter_${name}` }, say(`filter_${name}` as Word) || name);
      const canvas = make("canvas", { width: 184, height: 184, "aria-hidden": true });
      const button = make("button", { type: "button", className: "filter", "aria-pressed": false, value: name }, canvas, text);
      button.addEventListener("click", () => {
        const on = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", String(on));
        stage.shown.filters = filters.filter((one) => (one === filter ? on : stage.shown.filters.includes(one)));
        stage.redraw();
      });
      return make("li", {}, button);
    }),
  );
  showFilterThumbs();
}

function toggle(id: "points" | "contours" | "boxes"): void {
  stage.shown[id] = !stage.shown[id];
  byId(`show-${id}`).setAttribute("aria-pressed", String(stage.shown[id]));
  stage.redraw();
}

function connectStage(): void {
  const canvas = byId<HTMLCanvasElement>("canvas");
  const tip = byId("tip");
  const pointers = new Map<number, { x: number; y: number }>();
  let moved = 0;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    moved = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    const now = { x: event.offsetX, y: event.offsetY };
    if (before) {
      const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
      moved += Math.hypot(now.x - before.x, now.y - before.y);
      if (other) {
        const [was, is] = [before, now].map((place) => Math.hypot(place.x - other.x, place.y - other.y));
        stage.zoomAt(is / Math.max(was, 1), (now.x + other.x) / 2, (now.y + other.y) / 2);
        byId("zoom-out").hidden = !stage.isZoomed;
      } else {
        stage.pan(now.x - before.x, now.y - before.y);
      }
      pointers.set(event.pointerId, now);
    }
    const near = event.pointerType === "mouse" && stage.shown.points ? stage.pointAt(now.x, now.y) : null;
    tip.hidden = near === null;
    if (near) {
      tip.textContent = near.face.schema.point_names[near.index].replaceAll("_", " ");
      [tip.style.left, tip.style.top] = [`${near.x}px`, `${near.y}px`];
    }
    canvas.classList.toggle("pick", stage.faceAt(now.x, now.y) !== null);
  });
  const leave = (event: PointerEvent) => {
    if (pointers.delete(event.pointerId) && event.type === "pointerup" && moved < 8 && live === null) {
      const index = stage.faceAt(event.offsetX, event.offsetY);
      chooseFace(index === chosen ? null : index, true);
    }
  };
  canvas.addEventListener("pointerup", leave);
  canvas.addEventListener("pointercancel", leave);
  canvas.addEventListener("pointerleave", () => (tip.hidden = true));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    stage.zoomAt(Math.exp(-event.deltaY / 300), event.offsetX, event.offsetY);
    byId("zoom-out").hidden = !stage.isZoomed;
  }, { passive: false });
}

function connectKeys(): void {
  document.addEventListener("keydown", (event) => {
    const target = event.target as HTMLElement;
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName)) return;
    const count = stage.current?.faces.length ?? 0;
    if (event.key === "Escape") chooseFace(null, true);
    else if (event.key === "p") toggle("points");
    else if (event.key === "c") toggle("contours");
    else if (event.key === "b") toggle("boxes");
    else if (target.id === "canvas" && count > 0 && live === null && /^Arrow(Left|Right)$/.test(event.key)) {
      const step = event.key === "ArrowRight" ? 1 : -1;
      chooseFace(chosen === null ? (step > 0 ? 0 : count - 1) : (chosen + step + count) % count, true);
      event.preventDefault();
    }
  });
}

/** Files may be dropped anywhere on the page; otherwise the browser would open them. */
function connectFiles(): void {
  const input = byId<HTMLInputElement>("file");
  byId("open").addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    const files = [...(input.files ?? [])];
    input.value = ""; // allows the same file to be chosen again
    if (files.length > 0) void addFiles(files);
  });
  const over = (event: DragEvent, inside: boolean) => {
    event.preventDefault();
    byId("drop").hidden = !inside;
  };
  document.addEventListener("dragover", (event) => over(event, true));
  document.addEventListener("dragleave", (event) => over(event, event.relatedTarget !== null));
  document.addEventListener("drop", (event) => {
    over(event, false);
    void filesOf(event.dataTransfer).then((files) => (files.length > 0 ? addFiles(files) : warn(say("noFile"))));
  });
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length > 0) void addFiles(files);
  });
  byId("paste").addEventListener("click", () => void paste());
}

async function paste(): Promise<void> {
  try {
    for (const entry of await navigator.clipboard.read()) {
      const type = entry.types.find((one) => one.startsWith("image/"));
      if (type) return await addFiles([new File([await entry.getType(type)], `pasted.${type.slice(6)}`, { type })]);
    }
  } catch {
    // Not allowed or not supported, like an empty clipboard.
  }
  warn(say("noClipboard"));
}

function connectButtons(): void {
  for (const id of ["points", "contours", "boxes"] as const) byId(`show-${id}`).addEventListener("click", () => toggle(id));
  byId("zoom-out").addEventListener("click", () => chooseFace(null, true));
  byId("camera").addEventListener("click", () => (live ? stopLive() : void startLive({ facing: "user" })));
  byId("flip").addEventListener("click", () => void startLive({ facing: live?.facing === "user" ? "environment" : "user" }));
  byId("photo").addEventListener("click", () => void takePhoto());
  byId("record").addEventListener("click", () => {
    if (live?.isRecording) return void stopRecording();
    live?.startRecording();
    byId("record").setAttribute("aria-pressed", "true");
  });
  byId("save").addEventListener("click", () => void markedPicture().then((marked) => marked && download(marked.blob, marked.name)));
  byId("share").addEventListener("click", () => void share().catch((error: unknown) => warn(String(error))));
  for (const kind of ["json", "csv", "coco"] as const) byId(`save-${kind}`).addEventListener("click", () => saveData(kind));
  const grip = byId("grip");
  grip.addEventListener("click", () => {
    const isOpen = byId("panel").classList.toggle("open");
    grip.setAttribute("aria-expanded", String(isOpen));
    byId("sheet").scrollTop = 0; // closed, the sheet shows its top
    grip.setAttribute("aria-label", say(isOpen ? "sheetClose" : "sheetOpen"));
  });
}

function connectLooks(): void {
  const select = byId<HTMLSelectElement>("language");
  select.append(...Object.entries(LANGUAGES).map(([value, name]) => make("option", { value, selected: value === language }, name)));
  const apply = () => {
    setLanguage(language);
    byId("status").textContent = told();
    byId("grip").setAttribute("aria-label", say(byId("panel").classList.contains("open") ? "sheetClose" : "sheetOpen"));
    const shares = typeof navigator.canShare === "function";
    byId("share-word").textContent = say(shares ? "share" : "copy");
    for (const item of items) label(item);
    panel.show(stage.current, chosen);
    if (predictor) describe(predictor);
  };
  select.addEventListener("change", () => {
    language = select.value as Language;
    localStorage.setItem("language", language);
    apply();
  });
  apply();
  const light = matchMedia("(prefers-color-scheme: light)");
  const paint = () => {
    const theme = localStorage.getItem("theme") ?? (light.matches ? "light" : "dark");
    document.documentElement.dataset["theme"] = theme;
    document.querySelector('meta[name="theme-color"]')?.setAttribute("content", theme === "light" ? "#f6f7f9" : "#0d0f13");
    panel.show(stage.current, chosen);
  };
  light.addEventListener("change", paint);
  byId("theme").addEventListener("click", () => {
    localStorage.setItem("theme", document.documentElement.dataset["theme"] === "light" ? "dark" : "light");
    paint();
  });
  paint();
}

function describe({ spec, accelerator }: Predictor): void {
  const { schema, crop, terms } = spec;
  const text = say("modelText", {
    points: schema.point_names.length, scheme: schema.name, side: Math.max(...crop.size_hw),
    accelerator: accelerator === "webgpu" ? "WebGPU" : "WebAssembly",
  });
  const each = [...new Set(terms.split(/(?<=\.)\s+/))].join(" "); // transfer learning repeats terms
  byId("model-text").textContent = terms === "" ? text : `${text} ${say("trainedOn", { terms: each })}`;
}

async function start(): Promise<void> {
  connectLooks();
  connectStage();
  connectKeys();
  connectFiles();
  connectButtons();
  for (const [file, word] of SAMPLES) {
    const item = addItem(file, async () => (await fetch(new URL(file, BASE))).blob(), word);
    void decode(item).then((picture) => {
      drawThumb(item, picture, picture.width, picture.height);
      picture.close();
    });
  }
  void open(items[0]);
  const progress = byId("progress");
  predictor = await Predictor.load({
    base: BASE,
    onProgress: ({ loaded, total }) => {
      progress.hidden = loaded >= total;
      byId("progress-fill").style.setProperty("--share", String(loaded / total));
      const megabytes = (bytes: number) => (bytes / 1e6).toFixed(1);
      byId("progress-text").textContent = say("loading", { loaded: megabytes(loaded), total: megabytes(total) });
    },
  });
  progress.hidden = true;
  describe(predictor);
  ready(predictor);
  await offerFilters(predictor);
  keepForOffline(predictor);
}

start().catch((error: unknown) => {
  isBusy(false);
  byId("progress").hidden = true;
  warn(say("noStart", { reason: error instanceof Error ? error.message : String(error) }));
});
