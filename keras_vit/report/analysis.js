"use strict";
// Draws the attention of the chosen block and head, or of the chosen patch, over every image.
(() => {
  const { shape, colours, looks } = JSON.parse(document.getElementById("looks").textContent);
  const block = document.getElementById("block"), head = document.getElementById("head");
  const said = document.getElementById("said");
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const patches = shape.rows * shape.columns;

  const figures = looks.map(({ maps, between }, index) => {
    const box = document.querySelectorAll(".look > div")[index];
    const canvas = box.querySelector("canvas");
    canvas.width = shape.columns;
    canvas.height = shape.rows;
    return {
      box, mark: box.querySelector("i"), context: canvas.getContext("2d"),
      maps: bytes(maps), between: between && bytes(between), patch: null,
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
    shown.forEach((value, place) => image.data.set(colours[value], 4 * place));
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
    document.getElementById("block-said").value = `${b + 1} of ${shape.blocks}`;
    document.getElementById("head-said").value = h ? `${h} of ${shape.heads}` : "mean of all";
    const some = h ? [h - 1] : [...Array(shape.heads).keys()];
    const mean = (table) => some.reduce((sum, i) => sum + table[b][i], 0) / some.length;
    said.textContent = `looks ${mean(shape.distances).toFixed(0)} pixels far on average, `
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
