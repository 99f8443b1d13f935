/* Decodes and resizes an image to the model's input, with the same pixels as keras_vit's evaluation. */

const f = Math.fround; // TensorFlow computes in float32: rounding after each step rounds halves to the same side

/** Decodes the first image of a file, upright by EXIF, without applying its colour profile. */
export function decode(file) {
  return createImageBitmap(file, {
    imageOrientation: "from-image",
    colorSpaceConversion: "none",
    premultiplyAlpha: "none",
  });
}

/**
 * Resizes the whole image, to a Float32Array (height * width * channels) of whole levels from 0 to 255: 1 channel is
 * grey, 3 are RGB and 4 RGBA.
 *
 * Bilinear between pixel centers, both sides on their own, without antialiasing; transparent pixels become white, but
 * for RGBA. Two lines of the image at a time go through a canvas: a phone's photo can be larger than the largest canvas.
 */
export function resized(image, [newHeight, newWidth], channels) {
  const { width, height } = image;
  const canvas = new OffscreenCanvas(width, 2);
  const context = canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
  context.imageSmoothingEnabled = false;
  context.fillStyle = "white";
  if (channels === 4) context.globalCompositeOperation = "copy"; // replaces the canvas, also by transparent pixels
  const horizontal = positions(width, newWidth);
  const out = new Float32Array(newHeight * newWidth * channels);
  let next = 0;
  for (const { low, high, part } of positions(height, newHeight)) {
    if (channels !== 4) context.fillRect(0, 0, width, 2);
    context.drawImage(image, 0, low, width, high - low + 1, 0, 0, width, high - low + 1);
    const { data } = context.getImageData(0, 0, width, 2);
    if (channels === 1) greyed(data);
    const below = (high - low) * width;
    for (const { low: left, high: right, part: partRight } of horizontal) {
      for (let channel = 0; channel < channels; channel++) {
        const level = (line, x) => data[4 * (line + x) + channel];
        const top = interpolate(level(0, left), level(0, right), partRight);
        const bottom = interpolate(level(below, left), level(below, right), partRight);
        out[next++] = rounded(interpolate(top, bottom, part));
      }
    }
  }
  return out;
}

/** Replaces the red of RGBA levels by their grey level, by ITU-R 601-2 in whole numbers, as in Pillow. */
function greyed(data) {
  for (let i = 0; i < data.length; i += 4) {
    data[i] = Math.floor((19595 * data[i] + 38470 * data[i + 1] + 7471 * data[i + 2] + 32768) / 65536);
  }
}

/** Returns for each of `to` pixels the two of `from` pixels that it lies between, and the part from low to high. */
function positions(from, to) {
  const scale = f(from / to);
  return Array.from({ length: to }, (_, index) => {
    const at = f(f(f(index + 0.5) * scale) - 0.5);
    const low = Math.floor(at);
    return { low: Math.max(low, 0), high: Math.min(Math.ceil(at), from - 1), part: f(at - low) };
  });
}

function interpolate(low, high, part) {
  return f(low + f(f(high - low) * part));
}

/** Rounds to the nearest whole number, halves to the even one. */
function rounded(value) {
  const low = Math.floor(value);
  const rest = value - low;
  return rest > 0.5 || (rest === 0.5 && low % 2 === 1) ? low + 1 : low;
}
