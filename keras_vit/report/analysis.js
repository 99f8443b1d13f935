"use strict";
// Draws the attention map of the selected block and head, or of the selected patch, over every image.
(() => {
  const { shape, colours, images } = JSON.parse(document.getElementById("analysis-data").textContent);
  const block = document.getElementById("block"), head = document.getElementById("head");
  const statistics = document.getElementById("statistics");
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const patches = shape.rows * shape.columns;

  const figures = images.map(({ attention_maps, patch_attention }, index) => {
    const box = document.querySelectorAll(".analyzed-image > div")[index];
    const canvas = box.querySelector("canvas");
    canvas.width = shape.columns;
    canvas.height = shape.rows;
    return {
      box, mark: box.querySelector("i"), context: canvas.getContext("2d"),
      maps: bytes(attention_maps), between: patch_attention && bytes(patch_attention), patch: null,
    };
  });

  function values(figure) {
    const b = Number(block.value), h = Number(head.value);
    if (figure.patch !== null) {
      const start = (b * patches + figure.patch) * patches;
      return figure.between.subarray(start, start + patches);
    }
    const start = (b * (shape.heads + 1) + h) * patches; // head 0 is the mean of all
    return figure.maps.subarray(start, start + patches);
  }

  function draw(figure) {
    const shown = values(figure), image = figure.context.createImageData(shape.columns, shape.rows);
    shown.forEach((value, patch) => image.data.set(colours[value], 4 * patch));
    figure.context.putImageData(image, 0, 0);
    figure.mark.hidden = figure.patch === null;
    if (figure.patch === null) return;
    const row = Math.floor(figure.patch / shape.columns), column = figure.patch % shape.columns;
    Object.assign(figure.mark.style, {
      left: `${100 * column / shape.columns}%`, top: `${100 * row / shape.rows}%`,
      width: `${100 / shape.columns}%`, height: `${100 / shape.rows}%`,
    });
  }

  function show() {
    const b = Number(block.value), h = Number(head.value);
    document.getElementById("block-value").value = `${b + 1} of ${shape.blocks}`;
    document.getElementById("head-value").value = h ? `${h} of ${shape.heads}` : "mean of all";
    const heads = h ? [h - 1] : [...Array(shape.heads).keys()];
    const mean = (table) => heads.reduce((sum, i) => sum + table[b][i], 0) / heads.length;
    statistics.textContent = `mean attention distance ${mean(shape.distances).toFixed(0)} pixels, `
      + `entropy ${mean(shape.entropies).toFixed(2)} of at most ${Math.log(shape.tokens).toFixed(2)} nats`;
    figures.forEach(draw);
  }

  figures.forEach((figure) => {
    if (!figure.between) {
      figure.box.style.cursor = "auto";
      return;
    }
    figure.box.addEventListener("click", (event) => {
      const frame = figure.box.getBoundingClientRect();
      const part = (at, from, size, count) => Math.min(count - 1, Math.max(0, Math.floor(count * (at - from) / size)));
      const patch = part(event.clientY, frame.top, frame.height, shape.rows) * shape.columns
        + part(event.clientX, frame.left, frame.width, shape.columns);
      figure.patch = figure.patch === patch ? null : patch;
      draw(figure);
    });
  });
  block.addEventListener("input", show);
  head.addEventListener("input", show);
  show();
})();
