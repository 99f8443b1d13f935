/* What is seen of an answer: bars, words and the attention map. */

export const SHOWN = 5; // classes or numbers
const LARGEST_SIDE = 1280; // pixels of an image on the page
const TINY_SIDE = 64; // pixels; up to here an image is shown as crisp squares

// Five stops of matplotlib's "inferno" (CC0), as in the report; style.css draws its key from the same.
const RAMP = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];

/** Writes a probability as a percentage, without rounding what is nearly sure to sure. */
export function percent(share) {
  if (share > 0 && share < 0.001) return "< 0.1 %";
  if (share > 0.999 && share < 1) return "> 99.9 %";
  return `${(100 * share).toFixed(share < 0.01 || share > 0.99 ? 1 : 0)} %`;
}

/** Returns [class, probability] of the likeliest classes, the likeliest first. */
export function likeliest(probabilities, classes) {
  const order = Array.from(probabilities.keys()).sort((a, b) => probabilities[b] - probabilities[a]);
  return order.slice(0, SHOWN).map((index) => [classes[index], probabilities[index]]);
}

/** Returns [name, number] of outputs that are numbers, with their place where an output has several. */
export function numbers(found, outputs) {
  return outputs.filter((name) => name !== "rollout").flatMap((name) =>
    Array.from(found[name], (value, index) => [found[name].length > 1 ? `${name} ${index}` : name, value]));
}

/** Writes a number with six significant digits. */
export const figure = (value) => String(Number(value.toPrecision(6)));

/** Fills the list; its items are kept from answer to answer, so that bars move. */
export function showAnswers(list, answers, write = percent) {
  while (list.children.length < answers.length) {
    const item = list.appendChild(document.createElement("li"));
    item.append(...["span", "b", "i"].map((tag) => document.createElement(tag)));
    item.lastChild.append(document.createElement("u"));
  }
  answers.forEach(([name, share], index) => {
    const [label, said, bar] = list.children[index].children;
    label.textContent = name;
    said.textContent = write(share);
    bar.hidden = write !== percent;
    bar.firstChild.style.width = `${100 * share}%`;
  });
}

/** Draws an image, at most `LARGEST_SIDE` pixels a side; `heat` is made as large, so that the two lie on each other. */
export function showImage(canvas, heat, image) {
  const scale = Math.min(1, LARGEST_SIDE / Math.max(image.width, image.height));
  canvas.width = heat.width = Math.max(1, Math.round(image.width * scale));
  canvas.height = heat.height = Math.max(1, Math.round(image.height * scale));
  canvas.classList.toggle("crisp", Math.max(image.width, image.height) <= TINY_SIDE);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
}

/** Draws an attention map over the whole of `canvas`, coloured from its least to its most. */
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
