/* Drops an image into the page of a model of numbers; returns what the page shows of it. */

import { run } from "./browser.mjs";

run(async ({ page, job }) => {
  await page.goto(job.url);
  await page.waitForSelector("#choose:enabled");
  await page.setInputFiles("#file", job.image);
  await page.waitForSelector("#answers li");
  if (job.screenshot) await page.screenshot({ path: job.screenshot });
  return page.evaluate(() => ({
    status: document.querySelector("#status strong").textContent,
    answers: Array.from(document.querySelectorAll("#answers li"), (item) => item.innerText.split(/\n+/)),
    bars: Array.from(document.querySelectorAll("#answers li i"), (bar) => bar.checkVisibility()),
    about: document.querySelector("#about").textContent,
  }));
});
