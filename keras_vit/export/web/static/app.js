/* Joins the page's parts: an image comes in by one of four ways, and its answer is shown. */

import { Camera } from "./camera.js";
import { load } from "./classifier.js";
import { decode, resized } from "./image.js";
import { figure, likeliest, numbers, percent, SHOWN, showAnswers, showAttention, showImage } from "./view.js";

const PAUSE = 200; // milliseconds between two frames of the camera: the page stays quick, the phone cool

const part = Object.fromEntries(Array.from(document.querySelectorAll("[id]"), (element) => [element.id, element]));
const camera = new Camera(part.video);
let facts, classifier, image;
let turn = Promise.resolve(); // what runs now; the model takes one image at a time

part.unserved.remove();
start();

async function start() {
  try {
    facts = await (await fetch("model.json")).json();
    describe();
    listen();
    part.accelerators.hidden = !(await navigator.gpu?.requestAdapter());
    await use("wasm");
  } catch (error) {
    fail(`The model does not load (${reason(error)}). Serve the folder whole, as python -m http.server does.`);
    say("Not ready");
    return;
  }
  say("Ready for an image");
}

function describe() {
  const [rows, columns] = facts.image_size;
  const told = [
    facts.returns === "numbers"
      ? ["Outputs", `${facts.outputs.join(", ")}: numbers, no classes`]
      : ["Classes", facts.classes.length.toLocaleString("en")],
    ["Image", `${rows} rows of ${columns} pixels, the whole of it, bilinear`],
    ["Scaling", `(pixel / 255 − mean) / std, inside the file; mean ${facts.mean.join(", ")}, std ${facts.std.join(", ")}`],
    ["File", `model.tflite, ${(facts.bytes / 1e6).toFixed(1)} MB`],
    ["Runtime", facts.runtime],
  ];
  for (const [name, value] of told) {
    const row = part.about.appendChild(document.createElement("div"));
    row.append(document.createElement("dt"), document.createElement("dd"));
    [row.firstChild.textContent, row.lastChild.textContent] = [name, value];
  }
}

async function use(accelerator) {
  say(`Loading the model, ${(facts.bytes / 1e6).toFixed(1)} MB`);
  const loaded = await load(facts, accelerator);
  classifier?.delete();
  classifier = loaded;
  part.choose.disabled = part.camera.disabled = false;
}

function listen() {
  part.choose.onclick = () => part.file.click();
  part.file.onchange = () => take(part.file.files[0]);
  part.stage.onclick = () => camera.running || part.choose.click();
  document.ondragover = (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  };
  document.ondragleave = () => document.body.classList.remove("over");
  document.ondrop = (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    take(event.dataTransfer.files[0]);
  };
  document.onpaste = (event) => take(event.clipboardData.files[0]);
  part.camera.onclick = () => (camera.running ? shoot() : film());
  part.turn.onclick = () => {
    camera.turn();
    film();
  };
  document.onvisibilitychange = () => document.hidden && camera.running && hold();
  part.attention.onchange = part.strength.oninput = showHeat;
  part.accelerators.onchange = ({ target }) => one(() => change(target.value));
}

/** Runs one thing after the other: what is asked for while the model is busy waits. */
function one(work) {
  turn = turn.then(work).catch((error) => fail(reason(error)));
  return turn;
}

function take(file) {
  if (!file || !classifier) return;
  if (camera.running) hold();
  part.file.value = ""; // the same file can be chosen again
  one(async () => {
    const decoded = await decode(file).catch(() => {
      throw new Error(`${file.name || "This"} is not an image that this browser reads. Try a JPEG or PNG file.`);
    });
    await answer(decoded);
  });
}

async function answer(decoded) {
  part.alert.hidden = true;
  image?.close();
  image = decoded;
  const found = await classifier.run(resized(image, facts.image_size));
  const { rollout, grid, milliseconds } = found;
  showImage(part.image, part.heat, image);
  part.empty.hidden = true;
  part.image.hidden = camera.running;
  part.stage.style.aspectRatio = Math.min(2, Math.max(0.9, image.width / image.height));
  if (rollout) showAttention(part.heat, rollout, grid);
  part.looks.hidden = !rollout;
  showHeat();
  const isNumbers = facts.returns === "numbers";
  const answers = isNumbers ? numbers(found, facts.outputs) : likeliest(found.probabilities, facts.classes);
  const write = isNumbers ? figure : percent;
  showAnswers(part.answers, answers.slice(0, SHOWN), write);
  const [[name, share]] = answers;
  const first = answers.length > 1 ? `${name} ${write(share)}` : write(share);
  part.image.ariaLabel = `The image: ${isNumbers ? first : name}`;
  const took = `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms on the ${device()}`;
  if (isNumbers) say(first, took);
  else say(name, `${write(share)} · ${took}`);
  document.dispatchEvent(new CustomEvent("answer", { detail: found })); // for whoever builds on this page
}

const device = () => (classifier.model.options.accelerator === "webgpu" ? "GPU" : "CPU");

function showHeat() {
  part.heat.hidden = !part.attention.checked || !image;
  part.heat.style.opacity = part.strength.value / 100;
  part.strength.hidden = part.key.hidden = !part.attention.checked;
}

/** Answers frame after frame, until the camera is stopped or turned. */
async function film() {
  part.camera.disabled = true;
  try {
    await camera.start();
  } catch (error) {
    hold();
    fail(error.message);
    return;
  } finally {
    part.camera.disabled = false;
  }
  const { stream } = camera;
  part.status.ariaLive = "off"; // nobody wants every frame read out
  part.camera.textContent = "Take image";
  part.video.hidden = false;
  part.empty.hidden = part.image.hidden = true;
  part.turn.hidden = !(await camera.several());
  while (camera.stream === stream) {
    await one(async () => {
      const frame = await camera.frame().catch(() => null); // none where it was stopped meanwhile
      if (frame) await answer(frame);
    });
    await new Promise((resume) => setTimeout(resume, PAUSE));
  }
}

async function shoot() {
  const frame = await camera.frame();
  hold();
  one(() => answer(frame));
}

/** Stops the camera; the last frame that was answered stays as the image. */
function hold() {
  camera.stop();
  part.status.ariaLive = "polite";
  part.camera.textContent = "Camera";
  part.video.hidden = part.turn.hidden = true;
  part.image.hidden = !image;
  part.empty.hidden = Boolean(image);
}

async function change(accelerator) {
  const before = classifier.model.options.accelerator;
  try {
    await use(accelerator);
    if (image) await answer(await createImageBitmap(image));
    else say("Ready for an image");
  } catch (error) {
    part.accelerators.querySelector(`[value=${before}]`).checked = true;
    say("Ready for an image");
    console.error(error); // long, and in the runtime's own words
    throw new Error("The model does not run there in this browser. It goes on as before.");
  }
}

/** Says something in the status line: a screen reader reads what is new of it. */
function say(words, more = "") {
  const [strong, small] = [document.createElement("strong"), document.createElement("span")];
  [strong.textContent, small.textContent] = [words, more];
  part.status.replaceChildren(strong, " ", small);
}

function fail(words) {
  part.alert.textContent = words;
  part.alert.hidden = false;
}

const reason = (error) => error?.message || String(error);
