"""Loads a weight file: whole, or an error that lists every fault."""

import logging
import re

from keras_vit.weights.names import source_cells
from keras_vit.weights.position import resize_positions, square_grid
from keras_vit.weights.readers import NpzFile

logger = logging.getLogger("keras_vit")

POSITIONS = "encoder/position_embedding"


def read_weights(path, shapes, variant, *, grid, include_top=True, new_head=False):
    """Returns the arrays of a checkpoint in the official .npz layout, named and shaped as ours.

    Args:
        path: the file.
        shapes: {our path: shape} of all weights of the model.
        variant: the model's `Variant`.
        grid: (rows, columns) of the model's patches.
        include_top: whether the model has a head; without one, the file's head is left out.
        new_head: whether the model keeps a head of its own; the file's is left out.

    Returns:
        {our path: float32 array}, the head's missing with `new_head`.

    Raises:
        ValueError: if the file is unreadable, or lacks a weight, has one more, or has one of another shape.
    """
    with NpzFile(path) as file:
        cells = source_cells("npz", variant.num_layers)
        wanted = {ours: cells.get(ours, (ours, None)) for ours in shapes}
        if new_head:
            wanted = {ours: cell for ours, cell in wanted.items() if not _is_new(ours, cell, file.shapes)}
        left_out = _left_out(file.shapes, wanted, include_top, new_head)
        source_grid = _source_grid(file.shapes.get(cells[POSITIONS][0]), shapes, grid)
        shapes = dict(shapes)
        if source_grid:
            patches, target = (rows * columns for rows, columns in (source_grid, grid))
            _, tokens, width = shapes[POSITIONS]
            shapes[POSITIONS] = (1, tokens - target + patches, width)
        faults = _faults(file.shapes, shapes, wanted, left_out, variant)
        if faults:
            raise ValueError(f"{path} does not fit the model:\n{faults}{_advice(file.shapes, shapes, cells)}")
        if left_out:
            logger.info("%s: left out %s", path, ", ".join(sorted(left_out)))
        arrays = {}
        for ours, (name, layout) in wanted.items():
            array = file.read(name)
            arrays[ours] = layout.to_ours(array, shapes[ours]) if layout else array
    if source_grid:
        logger.info("%s: positions resized from %d x %d to %d x %d patches", path, *source_grid, *grid)
        arrays[POSITIONS] = resize_positions(arrays[POSITIONS], source_grid, grid)
    return arrays


def _is_new(ours, cell, file_shapes):
    return ours.startswith("head/") or (ours.startswith("pre_logits/") and cell[0] not in file_shapes)


def _left_out(file_shapes, wanted, include_top, new_head):
    """Returns the names in the file that the caller asked to leave out: the head's, and what only the head reads."""
    if include_top and not new_head:
        return set()
    used = {name for name, _ in wanted.values()}
    return {name for name in file_shapes if name.startswith(("head/", "pre_logits/")) and name not in used}


def _source_grid(file_shape, shapes, grid):
    """Returns the file's grid where positions must be resized, else None. A file's grid is taken to be square."""
    if file_shape is None or len(file_shape) != 3 or file_shape[1] == shapes[POSITIONS][1]:
        return None
    class_tokens = shapes[POSITIONS][1] - grid[0] * grid[1]
    return square_grid(max(file_shape[1] - class_tokens, 0))


def _faults(file_shapes, shapes, wanted, left_out, variant):
    lines = []
    for ours, (name, layout) in wanted.items():
        expected = layout.shape(shapes[ours], variant) if layout else shapes[ours]
        if name not in file_shapes:
            lines.append(f"  missing: {name} {expected}, for {ours}")
        elif file_shapes[name] != expected:
            lines.append(f"  misfit:  {name} {file_shapes[name]}, expected {expected} for {ours}")
    unused = sorted(set(file_shapes) - {name for name, _ in wanted.values()} - left_out)
    lines += [f"  unused:  {name} {file_shapes[name]}" for name in unused]
    return "\n".join(_grouped(lines))


def _grouped(lines):
    """Returns the lines with those that differ in the number of the block alone as one: a screen holds them all."""
    groups = {}
    for line in lines:
        groups.setdefault(re.sub(r"block_\d+", "block_*", line), []).append(line)
    return [one[0] if len(one) == 1 else f"{pattern}, in {len(one)} blocks" for pattern, one in groups.items()]


def _advice(file_shapes, shapes, cells):
    """Returns what the caller can do, where the shapes tell."""
    advice = []
    head, pre_logits = (cells[f"{name}/kernel"][0] for name in ("head", "pre_logits"))
    if "head/kernel" in shapes and file_shapes.get(head, ()) != shapes["head/kernel"]:
        has = f"has a head of {file_shapes[head][-1]} classes" if head in file_shapes else "has no head"
        advice.append(f"The file {has}: pass new_head=True to start a new one, or include_top=False.")
    if pre_logits in file_shapes and "pre_logits/kernel" not in shapes:
        advice.append(f"The file's head reads a layer more: pass representation_size={file_shapes[pre_logits][-1]}.")
    return "".join(f"\n{line}" for line in advice)
