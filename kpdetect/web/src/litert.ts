/** Starts LiteRT in a worker, and runs a `.tflite` file as a function of crops. */

import { loadAndCompile, loadLiteRt, Tensor } from "@litertjs/core";
import type { Model } from "./marking";
import { address, fetchFile, type Spec } from "./spec";

/** @param base the address of the page's folder */
export async function loadModel(spec: Spec, base: string): Promise<Model> {
  const [file] = await Promise.all([fetchFile("model.tflite", base), startLiteRt(base)]);
  const compiled = await loadAndCompile(new Uint8Array(await file.arrayBuffer()), { accelerator: "wasm" });
  const shape = [1, ...spec.crop.size_hw, spec.input.channels];
  return async (crop) => {
    const image = new Tensor(Float32Array.from(crop), shape);
    const outputs = await compiled.run({ [spec.input.name]: image });
    const numbers = (name: string) => outputs[name].toTypedArray().slice() as Float32Array;
    const uncertainty = spec.uncertainty && numbers(spec.uncertainty.name);
    const marks = { keypoints: numbers(spec.output.name), uncertainty };
    for (const tensor of [image, ...Object.values(outputs)]) tensor.delete(); // LiteRT does not free tensors
    return marks;
  };
}

async function startLiteRt(base: string): Promise<void> {
  const folder = address("litert/", base);
  const module = {
    locateFile: (file: string) => address(file, folder), // the default is the folder of the worker's script
    print: () => undefined, // LiteRT logs each component
    printErr: (line: string) => /^(INFO|WARNING|VERBOSE):/.test(line) || console.error(line),
  };
  Object.assign(globalThis, { Module: module }); // read by its loader
  await loadLiteRt(folder);
}
