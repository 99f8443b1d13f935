/* Drops an image into the page of a model of numbers; returns the numbers that the page shows. */

import { run } from "./browser.mjs";

run(async ({ page, job }) => {
  await page.goto(job.url);
  await page.waitForSelector("#choose:enabled");
  await page.setInputFiles("#file", job.image);
  await page.waitForSelector("#predictions li");
  if (job.screenshot) await page.screenshot({ path: job.screenshot });
  return page.evaluate(() => ({
    status: document.querySelector("#status strong").textContent,
    answers: Array.from(document.querySelectorAll("#predictions li"), (item) => item.innerText.split(/\n+/)),
    bars: Array.from(document.querySelectorAll("#predictions li i"), (bar) => bar.checkVisibility()),
    about: document.querySelector("#about").textContent,
  }));
});
