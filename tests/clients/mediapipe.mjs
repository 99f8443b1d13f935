/* Classifies by MediaPipe Tasks for the web, which reads labels and scaling from the file's own metadata. */

import { run } from "./browser.mjs";

run(async ({ page, job }) => {
  await page.goto(job.url);
  const answers = {};
  for (const model of job.models) {
    answers[model] = await page.evaluate(
      async ([model, base64, width, height]) => {
        const { FilesetResolver, ImageClassifier } = await import("/vision/vision_bundle.mjs");
        const files = await FilesetResolver.forVisionTasks("/vision/wasm");
        const baseOptions = { modelAssetPath: `/${model}`, delegate: "CPU" };
        const classifier = await ImageClassifier.createFromOptions(files, { baseOptions, runningMode: "IMAGE" });
        const rgba = Uint8ClampedArray.from(atob(base64), (letter) => letter.charCodeAt(0));
        const { classifications } = classifier.classify(new ImageData(rgba, width, height));
        classifier.close();
        return classifications.map(({ headName, categories }) => [
          headName,
          Object.fromEntries(categories.map(({ categoryName, score }) => [categoryName, score])),
        ]);
      },
      [model, job.rgba, job.width, job.height],
    );
  }
  return { answers };
});
