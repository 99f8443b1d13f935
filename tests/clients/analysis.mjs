/* Moves the sliders of an analysis page and clicks a patch; returns what the first image's map shows each time. */

import { run } from "./browser.mjs";

run(async ({ page, job }) => {
  const shown = [], wide = {};
  await page.goto(job.url);
  const look = async () => shown.push(await page.evaluate(() => {
    const canvas = document.querySelector(".analyzed-image canvas");
    return {
      pixels: [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data],
      block: document.getElementById("block-value").value,
      head: document.getElementById("head-value").value,
      statistics: document.getElementById("statistics").textContent,
      marked: !document.querySelector(".analyzed-image i").hidden,
    };
  }));

  await look();
  await page.locator("#block").fill("0");
  await page.locator("#head").fill("2");
  await look();
  const box = page.locator(".analyzed-image > div").first();
  const { width, height } = await box.boundingBox();
  const [row, column] = job.patch, [rows, columns] = job.grid;
  const position = { x: (width * (column + 0.5)) / columns, y: (height * (row + 0.5)) / rows };
  await box.click({ position });
  await look();
  await box.click({ position });
  await look();

  for (const pixels of [390, 1200]) {
    await page.setViewportSize({ width: pixels, height: 800 });
    wide[pixels] = await page.evaluate(() => document.documentElement.scrollWidth);
  }
  return { shown, wide };
});
