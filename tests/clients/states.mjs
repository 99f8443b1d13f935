/* Uses the exported page as a person might, and returns the texts that it shows. */

import { run } from "./browser.mjs";

const TEXT = { name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("no image") };

run(async ({ page, job }) => {
  const seen = {};
  const visible = (id) => page.locator(`#${id}`).isVisible();
  await page.goto(job.url);
  await page.waitForSelector("#choose:enabled");
  seen.ready = await page.innerText("#status");
  seen.title = [await page.title(), await page.innerText("h1")];
  seen.unserved = await page.locator("#unserved").count();

  await page.setInputFiles("#file", TEXT);
  await page.waitForSelector("#alert:visible");
  seen.noImage = await page.innerText("#alert");

  await page.setInputFiles("#file", job.image);
  await page.waitForSelector("#predictions li");
  seen.alertAfterwards = await visible("alert");
  seen.heatBefore = await visible("heat");
  await page.locator("#attention").press("Space"); // by keyboard
  seen.heatAfter = await visible("heat");
  await page.locator("#strength").fill("25");
  seen.opacity = await page.locator("#heat").evaluate((heat) => getComputedStyle(heat).opacity);
  await page.locator("#attention").uncheck();

  await page.click("#camera");
  await page.waitForSelector("#video:visible");
  await page.evaluate(() => new Promise((resolve) => document.addEventListener("prediction", resolve, { once: true })));
  seen.cameraButton = await page.innerText("#camera");
  seen.tracks = await page.evaluate(() => {
    window.tracks = document.querySelector("#video").srcObject.getTracks();
    Object.defineProperty(document, "hidden", { get: () => true }); // as if another tab came to the front
    document.dispatchEvent(new Event("visibilitychange"));
    return window.tracks.map((track) => track.readyState);
  });
  seen.videoAfterwards = await visible("video");
  seen.imageAfterwards = await visible("image");

  await page.evaluate(() => {
    navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("no", "NotFoundError"));
  });
  await page.click("#camera");
  await page.waitForSelector("#alert:visible");
  seen.noCamera = await page.innerText("#alert");

  seen.insecure = [await visible("insecure")];
  await page.goto(job.insecure);
  await page.waitForSelector("#choose:enabled");
  seen.insecure.push(await page.innerText("#insecure"));
  seen.insecureContext = await page.evaluate(() => [isSecureContext, typeof navigator.mediaDevices]);
  seen.insecureCamera = await page.locator("#camera").isDisabled();
  await page.setInputFiles("#file", job.image); // all but the camera works
  await page.waitForSelector("#predictions li");
  seen.insecurePrediction = await page.innerText("#status strong");
  await page.screenshot({ path: job.screenshot, fullPage: true });

  await page.goto(job.broken);
  await page.waitForSelector("#alert:visible");
  seen.broken = await page.innerText("#alert");
  await page.goto(job.file);
  await page.waitForSelector("#unserved:visible");
  seen.asFile = await page.innerText("#unserved");
  return { seen };
});
