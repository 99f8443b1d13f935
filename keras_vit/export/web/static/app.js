/* Joins the page's parts: reads an image by file dialog, drop, paste or camera, and shows its prediction. */

import { Camera } from "./camera.js";
import { load } from "./classifier.js";
import { decode, resized } from "./image.js";
import { labelsOf, mostProbable, NONE_OF_THESE, number, numbersOf, percent, SHOWN, showAttention, showImage, showPredictions } from "./view.js";

const KINDS = { 1: " in grey", 4: " with its transparency" };
const PAUSE = 200; // milliseconds between two frames of the camera: keeps the page responsive and the phone cool

const part = Object.fromEntries(Array.from(document.querySelectorAll("[id]"), (element) => [element.id, element]));
const camera = new Camera(part.video);
let facts, classifier, image;
let queue = Promise.resolve(); // the last task; the model runs on one image at a time

part.unserved.remove();
start();

async function start() {
  try {
    facts = await (await fetch("model.json")).json();
    describe();
    listen();
    part.insecure.hidden = Camera.offered;
    part.origin.textContent = location.origin;
    part.accelerators.hidden = !(await navigator.gpu?.requestAdapter());
    await loadModel("wasm");
  } catch (error) {
    showError(`The model does not load (${reason(error)}). Serve the whole folder, as python -m http.server does.`);
    showStatus("Not ready");
    return;
  }
  showStatus("Ready for an image");
}

function describe() {
  const [height, width] = facts.image_size;
  const entries = [
    facts.returns === "numbers"
      ? ["Outputs", `${facts.outputs.join(", ")}: numbers, no classes`]
      : [facts.thresholds ? "Labels" : "Classes", facts.classes.length.toLocaleString("en")],
    ["Image", `the whole image${KINDS[facts.channels] ?? ""}, resized to height ${height} and width ${width} pixels, bilinear`],
    ["Scaling", `(pixel / 255 − mean) / std, inside the file; mean ${facts.mean.join(", ")}, std ${facts.std.join(", ")}`],
    ["File", `model.tflite, ${(facts.bytes / 1e6).toFixed(1)} MB`],
    ["Runtime", facts.runtime],
  ];
  for (const [name, value] of entries) {
    const row = part.about.appendChild(document.createElement("div"));
    row.append(document.createElement("dt"), document.createElement("dd"));
    [row.firstChild.textContent, row.lastChild.textContent] = [name, value];
  }
}

async function loadModel(accelerator) {
  showStatus(`Loading the model, ${(facts.bytes / 1e6).toFixed(1)} MB`);
  const loaded = await load(facts, accelerator);
  classifier?.delete();
  classifier = loaded;
  part.choose.disabled = false;
  part.camera.disabled = !Camera.offered;
}

function listen() {
  part.choose.onclick = () => part.file.click();
  part.file.onchange = () => classifyFile(part.file.files[0]);
  part.stage.onclick = () => camera.running || part.choose.click();
  document.ondragover = (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  };
  document.ondragleave = () => document.body.classList.remove("over");
  document.ondrop = (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    classifyFile(event.dataTransfer.files[0]);
  };
  document.onpaste = (event) => classifyFile(event.clipboardData.files[0]);
  part.camera.onclick = () => (camera.running ? takePhoto() : runCamera());
  part.turn.onclick = () => {
    camera.turn();
    runCamera();
  };
  document.onvisibilitychange = () => document.hidden && camera.running && stopCamera();
  part.attention.onchange = part.strength.oninput = updateHeat;
  part.accelerators.onchange = ({ target }) => enqueue(() => switchTo(target.value));
}

/** Runs tasks one after the other: a task that comes while the model is busy waits. */
function enqueue(task) {
  queue = queue.then(task).catch((error) => showError(reason(error)));
  return queue;
}

function classifyFile(file) {
  if (!file || !classifier) return;
  if (camera.running) stopCamera();
  part.file.value = ""; // the same file can be chosen again
  enqueue(async () => {
    const decoded = await decode(file).catch(() => {
      throw new Error(`${file.name || "This"} is not an image that this browser can read. Try a JPEG or PNG file.`);
    });
    await classify(decoded);
  });
}

async function classify(decoded) {
  part.alert.hidden = true;
  image?.close();
  image = decoded;
  const outputs = await classifier.run(resized(image, facts.image_size, facts.channels));
  const { rollout, grid, milliseconds } = outputs;
  showImage(part.image, part.heat, image);
  part.empty.hidden = true;
  part.image.hidden = camera.running;
  part.stage.style.aspectRatio = Math.min(2, Math.max(0.9, image.width / image.height));
  if (rollout) showAttention(part.heat, rollout, grid);
  part.attentionControls.hidden = !rollout;
  updateHeat();
  const isNumbers = facts.returns === "numbers";
  const predictions = isNumbers
    ? numbersOf(outputs, facts.outputs)
    : mostProbable(outputs.probabilities, facts.classes);
  const format = isNumbers ? number : percent;
  showPredictions(part.predictions, predictions.slice(0, SHOWN), format);
  const [[name, value]] = predictions;
  const first = predictions.length > 1 ? `${name} ${format(value)}` : format(value);
  const labels = facts.thresholds && labelsOf(outputs.probabilities, facts.classes, facts.thresholds);
  const isKnown = !(outputs.known?.[0] < 0); // a file without this output knows every image
  const shown = labels ? labels.join(", ") || "No label" : isKnown ? name : NONE_OF_THESE;
  part.image.ariaLabel = `The image: ${isNumbers ? first : shown}`;
  const latency = `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms on the ${device()}`;
  if (isNumbers) showStatus(first, latency);
  else if (labels || !isKnown) showStatus(shown, latency);
  else showStatus(name, `${format(value)} · ${latency}`);
  document.dispatchEvent(new CustomEvent("prediction", { detail: outputs })); // for code that is added to this page
}

const device = () => (classifier.model.options.accelerator === "webgpu" ? "GPU" : "CPU");

function updateHeat() {
  part.heat.hidden = !part.attention.checked || !image;
  part.heat.style.opacity = part.strength.value / 100;
  part.strength.hidden = part.key.hidden = !part.attention.checked;
}

/** Classifies frame after frame, until the camera is stopped or turned. */
async function runCamera() {
  part.camera.disabled = true;
  try {
    await camera.start();
  } catch (error) {
    stopCamera();
    showError(error.message);
    return;
  } finally {
    part.camera.disabled = false;
  }
  const { stream } = camera;
  part.status.ariaLive = "off"; // a screen reader does not read out every frame
  part.camera.textContent = "Take photo";
  part.video.hidden = false;
  part.empty.hidden = part.image.hidden = true;
  part.turn.hidden = !(await camera.several());
  while (camera.stream === stream) {
    await enqueue(async () => {
      const frame = await camera.frame().catch(() => null); // null if it was stopped meanwhile
      if (frame) await classify(frame);
    });
    await new Promise((resume) => setTimeout(resume, PAUSE));
  }
}

async function takePhoto() {
  const frame = await camera.frame();
  stopCamera();
  enqueue(() => classify(frame));
}

/** Stops the camera; the last classified frame stays as the image. */
function stopCamera() {
  camera.stop();
  part.status.ariaLive = "polite";
  part.camera.textContent = "Camera";
  part.video.hidden = part.turn.hidden = true;
  part.image.hidden = !image;
  part.empty.hidden = Boolean(image);
}

async function switchTo(accelerator) {
  const before = classifier.model.options.accelerator;
  try {
    await loadModel(accelerator);
    if (image) await classify(await createImageBitmap(image));
    else showStatus("Ready for an image");
  } catch (error) {
    part.accelerators.querySelector(`[value=${before}]`).checked = true;
    showStatus("Ready for an image");
    console.error(error); // the runtime's own long message
    throw new Error("This browser cannot run the model on that device. It runs on the device as before.");
  }
}

/** Shows a text in the status line, of which a screen reader reads out the changes. */
function showStatus(text, details = "") {
  const [strong, small] = [document.createElement("strong"), document.createElement("span")];
  [strong.textContent, small.textContent] = [text, details];
  part.status.replaceChildren(strong, " ", small);
}

function showError(text) {
  part.alert.textContent = text;
  part.alert.hidden = false;
}

const reason = (error) => error?.message || String(error);
