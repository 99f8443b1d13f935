/* Runs .tflite files by LiteRT.js on WebGPU; returns their outputs, and the console's lines on their operators. */

import { run } from "./browser.mjs";

run(async ({ page, job, console: lines }) => {
  await page.goto(job.url); // an exported page: it brings the runtime
  await page.waitForSelector("#choose:enabled");
  await page.setInputFiles("#file", job.image);
  await page.waitForSelector("#predictions li");
  const statuses = [await page.innerText("#status")];
  await page.check("[value=webgpu]");
  await page.waitForFunction(() => document.querySelector("#status").innerText.includes("on the GPU"));
  statuses.push(await page.innerText("#status"));
  const files = {};
  for (const [name, { input, kind }] of Object.entries(job.files)) {
    const before = lines.length;
    const result = await page.evaluate(
      async ([url, input, kind]) => {
        const { loadAndCompile, Tensor } = await import("@litertjs/core");
        const model = await loadAndCompile(url, { accelerator: "webgpu" });
        const { shape } = model.getInputDetails()[0];
        const pixels = kind === "uint8" ? Uint8Array.from(input) : Float32Array.from(input);
        const tensors = await model.run([new Tensor(pixels, shape)]);
        const outputs = {};
        for (const [index, { name }] of model.getOutputDetails().entries()) {
          outputs[name] = Array.from(await tensors[index].data());
        }
        const result = { accelerated: model.isFullyAccelerated, outputs };
        model.delete();
        return result;
      },
      [new URL(name, job.url).href, input, kind],
    ).catch((error) => ({ error: error.message }));
    files[name] = { ...result, console: lines.slice(before) };
  }
  return { statuses, files };
});
