/** Face detection in its own worker: OpenCV's Haar cascades, as in kpdetect/detection/haar.py. */

import * as Comlink from "comlink";
import { area, type Box } from "./geometry";
import { faceBox, mergeBoxes, type Vote } from "./merging";
import { loadOpenCv, type Classifier, type Mat, type OpenCv } from "./opencv";
import { toChannels, type Frame } from "./pixels";
import { fetchFile, type Cascade, type DetectorSettings } from "./spec";

export interface Found {
  /** Tight boxes of the points, largest first. */
  readonly boxes: readonly Box[];
  readonly ms: number;
}

class DetectorWorker {
  private detector: Detector | undefined;

  async load(settings: DetectorSettings, base: string): Promise<void> {
    this.detector = await Detector.load(settings, base);
  }

  /** @param minFace the smallest face, as a fraction of the picture's longer side */
  async find(frame: Frame, minFace: number, minVotes: number): Promise<Found> {
    if (!this.detector) throw new Error("the detector is not loaded");
    const start = performance.now();
    const boxes = this.detector.find(frame, minFace, minVotes);
    return { boxes, ms: performance.now() - start };
  }
}

class Detector {
  private constructor(
    private readonly cv: OpenCv,
    private readonly settings: DetectorSettings,
    private readonly classifiers: ReadonlyMap<string, Classifier>,
  ) {}

  static async load(settings: DetectorSettings, base: string): Promise<Detector> {
    const cv = await loadOpenCv(base);
    const files = [...new Set(settings.cascades.map(({ file }) => file))];
    const classifiers = await Promise.all(files.map((file) => loadCascade(cv, file, base)));
    return new Detector(cv, settings, new Map(files.map((file, i) => [file, classifiers[i]])));
  }

  find(frame: Frame, minFace: number, minVotes: number): Box[] {
    const working = workingPicture(this.cv, this.settings, frame, minFace);
    try {
      const votes = this.settings.cascades.flatMap((cascade) => this.votes(working, cascade));
      const boxes = mergeBoxes(votes, this.settings).filter((vote) => vote.votes >= minVotes);
      return boxes.map(({ box }) => box).sort((one, other) => area(other) - area(one));
    } finally {
      working.grey.delete();
    }
  }

  /** The detections of one cascade, as face boxes in pixels of the frame. */
  private votes(working: Working, cascade: Cascade): Vote[] {
    const cv = this.cv;
    const [found, counts, picture] = [new cv.RectVector(), new cv.IntVector(), new cv.Mat()];
    try {
      if (cascade.mirrored) cv.flip(working.grey, picture, 1);
      const window = new cv.Size(this.settings.smallest_window, this.settings.smallest_window);
      const looked = cascade.mirrored ? picture : working.grey;
      this.classifiers.get(cascade.file)!.detectMultiScale2(looked, found, counts, 1.1, 2, 0, window);
      return Array.from({ length: found.size() }, (_, i) => {
        const { x, y, width, height } = found.get(i);
        const left = cascade.mirrored ? working.grey.cols - x - width : x;
        return { box: faceBox(cascade, working.toFrame([left, y, left + width, y + height])), votes: counts.get(i) };
      });
    } finally {
      for (const one of [found, counts, picture]) one.delete();
    }
  }
}

async function loadCascade(cv: OpenCv, file: string, base: string): Promise<Classifier> {
  const data = new Uint8Array(await (await fetchFile(`cascades/${file}`, base)).arrayBuffer());
  cv.FS_createDataFile("/", file, data, true, false, false);
  const classifier = new cv.CascadeClassifier();
  if (!classifier.load(file)) throw new Error(`${file}: OpenCV cannot read this cascade; export the page anew`);
  return classifier;
}

/** The cascades' input: grey, scaled, with a border, and with equalised contrast. */
interface Working {
  readonly grey: Mat;
  toFrame(square: Box): Box;
}

function workingPicture(cv: OpenCv, settings: DetectorSettings, frame: Frame, minFace: number): Working {
  const { width, height } = frame;
  const scale = settings.smallest_window / Math.max(minFace * Math.max(width, height), settings.smallest_face);
  const [columns, rows] = [Math.max(Math.round(width * scale), 1), Math.max(Math.round(height * scale), 1)];
  const border = Math.floor(settings.border * Math.min(columns, rows));
  const grey = new cv.Mat(height, width, cv.CV_8UC1);
  grey.data.set(toChannels(frame, 1).data);
  cv.resize(grey, grey, new cv.Size(columns, rows), 0, 0, scale < 1 ? cv.INTER_AREA : cv.INTER_LINEAR);
  cv.copyMakeBorder(grey, grey, border, border, border, border, cv.BORDER_REPLICATE, new cv.Scalar());
  cv.equalizeHist(grey, grey);
// Rectangles have coordinates of pixel edges, half a pixel before the centres.
  const x = (edge: number) => ((edge - border) * width) / columns - 0.5;
  const y = (edge: number) => ((edge - border) * height) / rows - 0.5;
  return { grey, toFrame: ([x0, y0, x1, y1]) => [x(x0), y(y0), x(x1), y(y1)] };
}

export type DetectorApi = DetectorWorker;

Comlink.expose(new DetectorWorker());
