/** Starts LiteRT.js in a worker, and runs `.tflite` files as functions of arrays. */

import { isWebGPUSupported, loadAndCompile, loadLiteRt, Tensor, type CompiledModel } from "@litertjs/core";
import type { Assets } from "./assets";

export type Accelerator = "webgpu" | "wasm";
export type Pixels = Uint8Array | Uint8ClampedArray | Float32Array;
export type Outputs = Readonly<Record<string, Float32Array>>;

/** A module of one function with a relaxed-SIMD instruction. */
const RELAXED_SIMD = Uint8Array.of(
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15, 253, 128, 2, 11,
);

/** The names of LiteRT's two files for this browser. */
export function runtimeFiles(): { script: string; module: string } {
  const build = WebAssembly.validate(RELAXED_SIMD) ? "litert_wasm_internal" : "litert_wasm_compat_internal";
  return { script: `litert/${build}.js`, module: `litert/${build}.wasm.gz` };
}

export async function startLiteRt(assets: Assets): Promise<void> {
  const { script, module } = runtimeFiles();
  const settings = {
    wasmBinary: await assets.bytes(module),
    locateFile: (file: string) => assets.address(`litert/${file}`),
    print: () => undefined, // LiteRT logs each component
    printErr: (line: string) => /^(INFO|WARNING|VERBOSE|ERROR: \[.*gpu)/.test(line) || console.error(line),
  };
  Object.assign(globalThis, { Module: settings }); // read by its loader
  const { warn } = console;
  console.warn = console.error = () => undefined; // LiteRT reports that there is no GPU
  try {
    await loadLiteRt(assets.address(script));
  } finally {
    console.warn = warn;
  }
}

/** Whether there is a WebGPU adapter that is not a software one. */
export async function hasWebGpu(): Promise<boolean> {
  try {
    if (!isWebGPUSupported()) return false;
    const adapter = await (navigator as unknown as GpuNavigator).gpu.requestAdapter();
    return adapter !== null && adapter.info?.isFallbackAdapter !== true;
  } catch {
    return false;
  }
}

/** The part of WebGPU's interface that is used here; TypeScript's library lacks it. */
interface GpuNavigator {
  readonly gpu: { requestAdapter(): Promise<{ readonly info?: { readonly isFallbackAdapter?: boolean } } | null> };
}

/** A compiled file of fixed shapes. */
export class Network {
  private constructor(
    private readonly model: CompiledModel,
    private readonly shape: number[],
    private readonly wantsBytes: boolean,
    readonly accelerator: Accelerator,
  ) {}

  static async compile(file: Uint8Array, accelerator: Accelerator): Promise<Network> {
    const model = await loadAndCompile(file, { accelerator });
    const [input] = model.getInputDetails();
    return new Network(model, Array.from(input.shape), input.dtype === "uint8", accelerator);
  }

  get isFullyAccelerated(): boolean {
    return this.model.isFullyAccelerated;
  }

  async run(pixels: Pixels): Promise<Outputs> {
    const values = this.wantsBytes ? Uint8Array.from(pixels) : Float32Array.from(pixels);
    const image = new Tensor(values, this.shape);
    const tensors: { delete(): void }[] = [image];
    try {
      const given = await this.onDevice(image, tensors);
      const outputs = await this.model.run([given]);
      const names = this.model.getOutputDetails().map(({ name }) => name);
      const results: Record<string, Float32Array> = {};
      for (const [index, output] of outputs.entries()) {
        const there = this.accelerator === "wasm" ? output : await output.moveTo("wasm");
        tensors.push(there);
        results[names[index]] = Float32Array.from(there.toTypedArray());
      }
      return results;
    } finally {
      for (const tensor of tensors) tensor.delete(); // LiteRT does not free tensors
    }
  }

  close(): void {
    this.model.delete();
  }

  private async onDevice(image: Tensor, tensors: { delete(): void }[]): Promise<Tensor> {
    if (this.accelerator === "wasm") return image;
    const there = await image.copyTo("webgpu");
    tensors.push(there);
    return there;
  }
}
