"""Loads a weight file: whole, or an error that lists every fault."""

import logging
import math
import re

from keras_vit.layers.positions import resize_positions, square_grid
from keras_vit.models.config import ResNet
from keras_vit.weights.channels import adapt_channels
from keras_vit.weights.names import SOURCES, source_cells
from keras_vit.weights.reshaping import Cell

logger = logging.getLogger("keras_vit")

_POSITIONS = "encoder/position_embedding"
OF_THE_HEAD = ("head/", "pre_logits/")
ZERO_HEAD = (
    "%s: the head is all zeros, as in the original ImageNet-21k files: every class comes out alike. The AugReg files "
    "have a trained one; for features pass include_top=False, to fine-tune new_head=True."
)


def read_weights(
    file, shapes, variant, *, grid=None, include_top=True, new_head=False, mode="corner", channels=None, names=None
):
    """Reads the arrays of a weight file, named and shaped as ours.

    All names and shapes are compared before the first array is read; then one at a time is in memory.

    Args:
        file: a `SourceFile`.
        shapes: {our path: shape} of all weights of the model.
        variant: the model's row.
        grid: (rows, columns) of the model's patches; None for a BiT.
        include_top: whether the model has a head; without one, the file's head is left out.
        new_head: whether the model keeps a head of its own; the file's is left out.
        mode: how positions are resized, a key of `position.MODES`.
        channels: (channels of the file's images, of the model's, how the kernel is adapted) where they differ; see
            `adapt_channels`.
        names: {our path: name in the file} where the file is Keras' own.

    Returns:
        An iterator of (our path, float32 array), the head's missing with `new_head`.

    Raises:
        ValueError: if the file lacks a weight, has one more, or has one of another shape; from the iterator, if an
            array cannot be read or holds NaN.
    """
    cells = _cells(file, shapes, variant, names)
    wanted = {ours: cells.get(ours, Cell(ours)) for ours in shapes}
    if new_head:
        wanted = {ours: cell for ours, cell in wanted.items() if not _is_new(ours, cell, file.shapes)}
    left_out = _left_out(file.shapes, wanted, cells, include_top, new_head)
    expected = dict(shapes)
    source_grid = _source_grid(file, cells, shapes, grid, variant)
    if source_grid:
        patches, target = (rows * columns for rows, columns in (source_grid, grid))
        _, tokens, width = shapes[_POSITIONS]
        expected[_POSITIONS] = (1, tokens - target + patches, width)
    first = _first_kernel(variant)
    if channels:
        expected[first] = _with_channels(shapes[first], channels[1], channels[0])
    faults = _faults(file.shapes, expected, wanted, left_out, variant)
    if faults:
        raise ValueError(f"{file.path} does not fit the model:\n{faults}{_advice(file, shapes, cells)}")
    for what in (left_out, file.left_out):
        if what:
            logger.info("%s: left out %s", file.path, _few(what))
    if source_grid:
        logger.info("%s: positions resized from %d x %d to %d x %d patches, %s", file.path, *source_grid, *grid, mode)

    def arrays():
        for ours, cell in wanted.items():
            array = _read(file, cell, expected[ours])
            if source_grid and ours == _POSITIONS:
                array = resize_positions(array, source_grid, grid, mode)
            elif channels and ours == first:
                array = _adapted(array, variant, channels).reshape(shapes[first])
            elif ours == "head/kernel" and not array.any():
                logger.warning(ZERO_HEAD, file.path)
            yield ours, array

    return arrays()


def _cells(file, shapes, variant, names):
    if names is not None:
        return {ours: Cell(name) for ours, name in names.items()}
    if file.source not in SOURCES:
        return {ours: Cell(ours) for ours in {*shapes, *file.shapes}}
    if isinstance(variant, ResNet):
        return source_cells(file.source, 0, variant.units)
    return source_cells(file.source, variant.num_layers, variant.stem.units if variant.stem else ())


def _is_new(ours, cell, file_shapes):
    return ours.startswith("head/") or (ours.startswith("pre_logits/") and cell.name not in file_shapes)


def _left_out(file_shapes, wanted, cells, include_top, new_head):
    """Returns the names in the file that the caller asked to leave out: the head's, and what only the head reads."""
    if include_top and not new_head:
        return set()
    of_head = {cell.name for ours, cell in cells.items() if ours.startswith(OF_THE_HEAD)}
    return (of_head & set(file_shapes)) - {cell.name for cell in wanted.values()}


def _source_grid(file, cells, shapes, grid, variant):
    """Returns the file's grid where positions must be resized, else None; one that nothing tells is a square."""
    if _POSITIONS not in cells or _POSITIONS not in shapes:
        return None
    found = file.shapes.get(cells[_POSITIONS].name, ())
    fitting = [tokens for _, tokens, _ in cells[_POSITIONS].shapes(shapes[_POSITIONS], variant)]
    if len(found) != 3:
        return None
    counts = [max(found[1] - (tokens - math.prod(grid)), 0) for tokens in fitting]
    known = file.grid or (file.image_size and variant.grid(*file.image_size))
    if known and math.prod(known) in counts:
        return None if known == grid else known
    return None if found[1] in fitting else next(filter(None, map(square_grid, counts)), None)


def _first_kernel(variant):
    has_stem = isinstance(variant, ResNet) or variant.stem
    return "stem/conv/kernel" if has_stem else "encoder/projection/kernel"


def _with_channels(shape, ours, theirs):
    if len(shape) == 2:
        return shape[0] // ours * theirs, shape[1]
    return (*shape[:2], theirs, shape[3])


def _adapted(kernel, variant, channels):
    theirs, ours, how = channels
    if kernel.ndim == 2:
        kernel = kernel.reshape(variant.patch_size, variant.patch_size, theirs, -1)
    return adapt_channels(kernel, ours, how)


def _read(file, cell, shape):
    rows = None
    if cell.part is not None:
        height = file.shapes[cell.name][0] // 3
        rows = cell.part * height, (cell.part + 1) * height
    array = file.read(cell.name, rows)
    return cell.arrangement.to_ours(array, shape) if cell.arrangement else array


def _faults(file_shapes, shapes, wanted, left_out, variant):
    lines = []
    for ours, cell in wanted.items():
        fitting = cell.shapes(shapes[ours], variant)
        if cell.name not in file_shapes:
            lines.append(f"  missing: {cell.name} {fitting[0]}, for {ours}")
        elif file_shapes[cell.name] not in fitting:
            lines.append(f"  misfit:  {cell.name} {file_shapes[cell.name]}, expected {fitting[0]} for {ours}")
    unused = sorted(set(file_shapes) - {cell.name for cell in wanted.values()} - left_out)
    lines += [f"  unused:  {name} {file_shapes[name]}" for name in unused]
    return "\n".join(_grouped(lines))


def _grouped(lines):
    """Returns the lines with those that differ in the number of the block alone as one: a screen holds them all."""
    groups = {}
    for line in lines:
        groups.setdefault(re.sub(r"block_\d+|layer\.\d+|blocks\.\d+", "block_*", line), []).append(line)
    return [one[0] if len(one) == 1 else f"{pattern}, in {len(one)} blocks" for pattern, one in groups.items()]


def _few(names):
    names = sorted(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _advice(file, shapes, cells):
    """Returns what the caller can do, where the shapes tell."""
    advice = []
    head, pre_logits = (cells.get(f"{name}/bias") for name in ("head", "pre_logits"))
    if head and "head/bias" in shapes and file.shapes.get(head.name, ()) != shapes["head/bias"]:
        has = f"has a head of {file.shapes[head.name][-1]} classes" if head.name in file.shapes else "has no head"
        advice.append(f"The file {has}: pass new_head=True to start a new one, or include_top=False.")
    if pre_logits and pre_logits.name in file.shapes and "pre_logits/bias" not in shapes:
        width = file.shapes[pre_logits.name][-1]
        advice.append(f"The file's head reads a layer more: pass representation_size={width}.")
    if "fc_norm.weight" in file.shapes:
        advice.append("The file's model takes the mean of its tokens before its last norm, fc_norm; ours after it.")
    return "".join(f"\n{line}" for line in advice)
