/* Runs a job in headless Chromium: JSON from standard input, what the work returns as JSON to standard output. */

import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";

// Nothing but this machine has a name, whatever a page asks for. By the name page.test it is no secure context.
const OFFLINE = [
  "--no-sandbox", "--no-first-run", "--disable-quic", "--disable-background-networking", "--disable-component-update",
  "--disable-sync", "--host-resolver-rules=MAP page.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
  "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
];
const DEVICE = {
  cpu: ["--disable-gpu"],
  // WebGPU in software, where there is no GPU.
  gpu: [
    "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan",
    "--use-vulkan=swiftshader", "--use-angle=swiftshader",
  ],
};

/**
 * Calls `work({ page, job, console, requests })`; what it returns is printed.
 *
 * `console` and `requests` fill while the page runs: the lines it prints, and the addresses it asks for.
 */
export async function run(work) {
  const job = JSON.parse(await text(process.stdin));
  const { chromium } = createRequire(join(job.modules, "/"))("playwright-core");
  const profile = mkdtempSync(join(tmpdir(), "chromium-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: job.chromium,
    args: [...OFFLINE, ...DEVICE[job.device ?? "cpu"]],
    viewport: { width: 390, height: 844 },
  });
  try {
    const lines = [];
    const requests = [];
    const page = context.pages()[0];
    page.setDefaultTimeout(60_000);
    page.on("console", (message) => lines.push(message.text()));
    page.on("pageerror", (error) => lines.push(`uncaught: ${error.message}`));
    context.on("request", (request) => requests.push(request.url()));
    const result = await work({ page, job, console: lines, requests });
    process.stdout.write(JSON.stringify({ ...result, console: lines, requests }));
  } finally {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
  }
}
