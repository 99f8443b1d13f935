/* Runs the exported file. */

import { loadAndCompile, loadLiteRt, Tensor } from "@litertjs/core";

let runtime = null;

/** Returns a compiled `Classifier`; `accelerator` is "wasm" (the CPU) or "webgpu". */
export async function load({ image_size, channels, classes, returns, outputs }, accelerator) {
  runtime ??= loadLiteRt(new URL("runtime/core/wasm/", document.baseURI).href);
  await runtime;
  const model = await loadAndCompile(new URL("model.tflite", document.baseURI).href, { accelerator });
  const shape = [1, ...image_size, channels];
  const classifier = new Classifier(model, shape);
  try {
    if (accelerator === "webgpu" && !model.isFullyAccelerated) {
      throw new Error("The GPU does not support all operators.");
    }
    // The first run is the slowest: it allocates memory, and on a GPU it compiles the programs.
    const { probabilities, ...others } = await classifier.run(new Float32Array(shape.reduce((a, b) => a * b)));
    if (returns === "numbers") {
      const missing = outputs.filter((name) => !(name in others));
      if (missing.length) throw new Error(`The file lacks the outputs ${missing.join(", ")} that model.json names.`);
    } else if (probabilities.length !== classes.length) {
      throw new Error(`The file has ${probabilities.length} classes, model.json names ${classes.length}.`);
    }
  } catch (error) {
    classifier.delete();
    throw error;
  }
  return classifier;
}

class Classifier {
  constructor(model, shape) {
    this.model = model;
    this.shape = shape;
    this.outputs = model.getOutputDetails();
  }

  /**
   * Returns {probabilities, known, rollout, grid, milliseconds}, or the outputs by name where they are numbers. Rollout
   * and grid, [rows, columns] of patches, and known, which is below 0 for an image that is none of the classes, are
   * there if the file has the output.
   *
   * `pixels` is a Float32Array (height * width * channels), from 0 to 255. The time is that of the model alone.
   */
  async run(pixels) {
    const started = performance.now();
    const images = new Tensor(pixels, this.shape);
    const tensors = await this.model.run([images]);
    const values = await Promise.all(tensors.map((tensor) => tensor.data()));
    const milliseconds = performance.now() - started;
    [images, ...tensors].forEach((tensor) => tensor.deleted || tensor.delete());
    const named = Object.fromEntries(this.outputs.map(({ name }, index) => [name, values[index]]));
    const map = this.outputs.find(({ name }) => name === "rollout");
    return { ...named, grid: map && Array.from(map.shape).slice(-2), milliseconds };
  }

  delete() {
    this.model.delete();
  }
}
