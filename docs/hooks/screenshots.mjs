/*
 * Takes the screenshots of docs/images, with the browser of `make clients`, from the demo's report, its web page on a
 * local server, and a page of `keras-vit analyze`; make them again when these pages change.
 *
 *     echo '{"modules": "tests/clients/node_modules", "chromium": "/usr/bin/chromium", "out": "docs/images",
 *            "report": "runs/digits/report.html", "web": "http://127.0.0.1:8000", "image": "scan.png",
 *            "analysis": "analysis.html"}' | node docs/hooks/screenshots.mjs
 *
 * The images were then reduced to 256 colours.
 */

import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { run } from "../../tests/clients/browser.mjs";

const address = (path) => pathToFileURL(resolve(path)).href;

run(async ({ page, job }) => {
  const shoot = async (name, width, height) => {
    await page.setViewportSize({ width, height });
    await page.waitForTimeout(400);
    await page.screenshot({ path: `${job.out}/${name}.png` });
  };
  await page.goto(address(job.report));
  await shoot("report", 1200, 660);
  await page.goto(address(job.analysis));
  await shoot("analysis", 1200, 1000);
  await page.goto(job.web);
  await page.waitForSelector("#choose:enabled");
  await page.setInputFiles("#file", job.image);
  await page.waitForSelector("#predictions li");
  await page.locator("#attention").check();
  await shoot("web", 1200, 760);
  return {};
});
