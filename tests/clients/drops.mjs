/* Drops images into the exported page; returns the page's predictions. */

import { run } from "./browser.mjs";

/** Drops a file as a person does, and waits for the prediction. */
function dropped(page, base64, imageSize, channels) {
  return page.evaluate(async ([base64, imageSize, channels]) => {
    const file = new File([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))], "image");
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(file);
    const answered = new Promise((resolve) => document.addEventListener("prediction", resolve, { once: true }));
    document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
    const { probabilities, rollout, grid } = (await answered).detail;
    const { decode, resized } = await import(new URL("image.js", document.baseURI).href);
    const heat = document.querySelector("#heat");
    const colours = heat.getContext("2d");
    const middle = (cell, cells, side) => Math.floor(((cell + 0.5) * side) / cells);
    const [rows, columns] = grid;
    const cells = Array.from({ length: rows * columns }, (_, cell) => {
      const x = middle(cell % columns, columns, heat.width);
      const y = middle(Math.floor(cell / columns), rows, heat.height);
      return Array.from(colours.getImageData(x, y, 1, 1).data);
    });
    return {
      pixels: Array.from(resized(await decode(file), imageSize, channels)),
      probabilities: Array.from(probabilities),
      rollout: Array.from(rollout),
      grid,
      status: document.querySelector("#status").innerText,
      answers: Array.from(document.querySelectorAll("#predictions li"), (item) => item.innerText.split(/\n+/)),
      image: [document.querySelector("#image").height, document.querySelector("#image").width],
      heat: cells,
    };
  }, [base64, imageSize, channels]);
}

run(async ({ page, job }) => {
  await page.goto(job.url);
  await page.waitForSelector("#choose:enabled");
  const answers = [];
  for (const image of job.images) answers.push(await dropped(page, image, job.image_size, job.channels ?? 3));
  return { answers };
});
