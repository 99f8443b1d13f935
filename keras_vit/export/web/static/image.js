/* Makes an image into what the model takes, to the same numbers as keras_vit's evaluation. */

const f = Math.fround; // TensorFlow counts in float32: rounded after each step, halves fall to the same side

/** Decodes a file: upright by EXIF, its first image, colour profile not applied. */
export function decode(file) {
  return createImageBitmap(file, {
    imageOrientation: "from-image",
    colorSpaceConversion: "none",
    premultiplyAlpha: "none",
  });
}

/**
 * Returns the whole image at another size, Float32Array (rows * columns * 3) of whole levels from 0 to 255.
 *
 * Bilinear between pixel centres, both sides on their own, not antialiased; on white where it is transparent. Two rows
 * of the image at a time go through a canvas: a phone's photograph is larger than some canvases may be.
 */
export function resized(image, [rows, columns]) {
  const { width, height } = image;
  const canvas = new OffscreenCanvas(width, 2);
  const context = canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
  context.imageSmoothingEnabled = false;
  context.fillStyle = "white";
  const across = places(width, columns);
  const out = new Float32Array(rows * columns * 3);
  let next = 0;
  for (const { low, high, part } of places(height, rows)) {
    context.fillRect(0, 0, width, 2);
    context.drawImage(image, 0, low, width, high - low + 1, 0, 0, width, high - low + 1);
    const { data } = context.getImageData(0, 0, width, 2);
    const below = (high - low) * width;
    for (const column of across) {
      for (let channel = 0; channel < 3; channel++) {
        const level = (row, x) => data[4 * (row + x) + channel];
        const top = between(level(0, column.low), level(0, column.high), column.part);
        const bottom = between(level(below, column.low), level(below, column.high), column.part);
        out[next++] = rounded(between(top, bottom, part));
      }
    }
  }
  return out;
}

/** Returns for each of `to` places between which two of `from` it lies, and how far along. */
function places(from, to) {
  const scale = f(from / to);
  return Array.from({ length: to }, (_, index) => {
    const at = f(f(f(index + 0.5) * scale) - 0.5);
    const low = Math.floor(at);
    return { low: Math.max(low, 0), high: Math.min(Math.ceil(at), from - 1), part: f(at - low) };
  });
}

function between(low, high, part) {
  return f(low + f(f(high - low) * part));
}

/** Rounds to the nearest whole number, halves to the even one. */
function rounded(value) {
  const low = Math.floor(value);
  const rest = value - low;
  return rest > 0.5 || (rest === 0.5 && low % 2 === 1) ? low + 1 : low;
}
