/** Loads OpenCV.js and declares the functions that the page uses. */

import { address } from "./spec";

export interface Mat {
  readonly data: Uint8Array;
  readonly cols: number;
  readonly rows: number;
  delete(): void;
}

interface Vector<Item> {
  size(): number;
  get(index: number): Item;
  delete(): void;
}

export interface Rectangle {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

export interface Classifier {
  load(file: string): boolean;
  detectMultiScale2(
    picture: Mat, found: Vector<Rectangle>, votes: Vector<number>, scale: number, neighbours: number, flags: number, smallest: object,
  ): void;
}

export interface OpenCv {
  Mat: new (...args: number[]) => Mat;
  Size: new (width: number, height: number) => object;
  Scalar: new (...values: number[]) => object;
  RectVector: new () => Vector<Rectangle>;
  IntVector: new () => Vector<number>;
  CascadeClassifier: new () => Classifier;
  FS_createDataFile(folder: string, name: string, data: Uint8Array, read: boolean, write: boolean, own: boolean): void;
  resize(from: Mat, to: Mat, size: object, x: number, y: number, interpolation: number): void;
  copyMakeBorder(from: Mat, to: Mat, top: number, bottom: number, left: number, right: number, kind: number, value: object): void;
  equalizeHist(from: Mat, to: Mat): void;
  flip(from: Mat, to: Mat, axis: number): void;
  readonly CV_8UC1: number;
  readonly INTER_AREA: number;
  readonly INTER_LINEAR: number;
  readonly BORDER_REPLICATE: number;
}

declare function importScripts(...addresses: string[]): void;

/** Fetches and starts OpenCV.js (11 MB); only in a worker. */
export async function loadOpenCv(base: string): Promise<OpenCv> {
  importScripts(address("opencv/opencv.js", base));
  const { cv } = globalThis as unknown as { cv: OpenCv };
  const thenable = cv as { then?: (ready: () => void) => void };
  await new Promise<void>((resolve) => thenable.then!(() => resolve()));
  delete thenable.then; // it resolves to itself, so awaiting it would never end
  return cv;
}
