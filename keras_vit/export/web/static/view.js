/* Shows a prediction: bars, texts and the attention map. */

export const SHOWN = 5; // classes or numbers
export const NONE_OF_THESE = "None of these";
const LARGEST_SIDE = 1280; // pixels of an image on the page
const TINY_SIDE = 64; // pixels; images up to this size are shown as sharp squares

// Five stops of matplotlib's "inferno" (CC0), as in the report; style.css draws the color key from the same.
const RAMP = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];

/** Formats a probability as a percentage, without rounding to 0 % or 100 %. */
export function percent(share) {
  if (share > 0 && share < 0.001) return "< 0.1 %";
  if (share > 0.999 && share < 1) return "> 99.9 %";
  return `${(100 * share).toFixed(share < 0.01 || share > 0.99 ? 1 : 0)} %`;
}

/** Returns [class, probability] of the most probable classes, the most probable first. */
export function mostProbable(probabilities, classes) {
  const order = Array.from(probabilities.keys()).sort((a, b) => probabilities[b] - probabilities[a]);
  return order.slice(0, SHOWN).map((index) => [classes[index], probabilities[index]]);
}

/** Returns the labels whose score reaches their threshold, the highest score first. */
export function labelsOf(scores, labels, thresholds) {
  const chosen = Array.from(scores.keys()).filter((index) => scores[index] >= thresholds[index]);
  return chosen.sort((a, b) => scores[b] - scores[a]).map((index) => labels[index]);
}

/** Returns [name, number] of outputs that are numbers, with an index if an output has several. */
export function numbersOf(outputs, names) {
  return names.filter((name) => name !== "rollout").flatMap((name) =>
    Array.from(outputs[name], (value, index) => [outputs[name].length > 1 ? `${name} ${index}` : name, value]));
}

/** Formats a number with six significant digits. */
export const number = (value) => String(Number(value.toPrecision(6)));

/** Fills the list of predictions. Its items stay from one prediction to the next, so that bars move. */
export function showPredictions(list, predictions, format = percent) {
  while (list.children.length < predictions.length) {
    const item = list.appendChild(document.createElement("li"));
    item.append(...["span", "b", "i"].map((tag) => document.createElement(tag)));
    item.lastChild.append(document.createElement("u"));
  }
  predictions.forEach(([name, value], index) => {
    const [label, text, bar] = list.children[index].children;
    label.textContent = name;
    text.textContent = format(value);
    bar.hidden = format !== percent;
    bar.firstChild.style.width = `${100 * value}%`;
  });
}

/** Draws an image of at most `LARGEST_SIDE` pixels a side; the canvas `heat`, which covers it, gets the same size. */
export function showImage(canvas, heat, image) {
  const scale = Math.min(1, LARGEST_SIDE / Math.max(image.width, image.height));
  canvas.width = heat.width = Math.max(1, Math.round(image.width * scale));
  canvas.height = heat.height = Math.max(1, Math.round(image.height * scale));
  canvas.classList.toggle("crisp", Math.max(image.width, image.height) <= TINY_SIDE);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
}

/** Draws an attention map over the whole `canvas`, with colours from its least to its largest value. */
export function showAttention(canvas, values, [rows, columns]) {
  const least = Math.min(...values);
  const spread = Math.max(...values) - least || 1;
  const colours = new ImageData(columns, rows);
  values.forEach((value, index) => colours.data.set([...colour((value - least) / spread), 255], 4 * index));
  const small = new OffscreenCanvas(columns, rows);
  small.getContext("2d").putImageData(colours, 0, 0);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "medium"; // bilinear; "high" blunts the peaks
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
}

function colour(share) {
  const at = share * (RAMP.length - 1);
  const low = Math.min(Math.floor(at), RAMP.length - 2);
  return RAMP[low].map((level, channel) => Math.round(level + (at - low) * (RAMP[low + 1][channel] - level)));
}
