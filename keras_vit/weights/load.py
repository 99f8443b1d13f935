"""Reads a weight file into our weights: all of them, or one error with each missing, unused and misfitting array."""

import dataclasses
import logging
import math
import re
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from keras_vit import _arguments as checked
from keras_vit.layers.positions import resize_bias, resize_patches, resize_positions, square_grid
from keras_vit.models.config import ResNet, TextTower, Variant
from keras_vit.weights.channels import adapt_channels
from keras_vit.weights.formats import CheckpointFile
from keras_vit.weights.names import FORMATS, format_column
from keras_vit.weights.reshaping import ArrayShape, Cell

logger = logging.getLogger("keras_vit")

Architectural = Variant | ResNet | TextTower

LINES = 5  # of each kind of fault, in a message
_POSITIONS, _BIAS = "encoder/position_embedding", "/relative_bias"
OF_THE_HEAD = ("head/", "pre_logits/", "projection/")
ZERO_WHERE_ABSENT = ("projection/bias",)  # CLIP's projection has a bias in timm's files alone
ZERO_HEAD = (
    "%s: the head is all zeros, as in the original ImageNet-21k files: every class has the same score. The AugReg "
    "files have a trained head. Pass include_top=False for features, or new_head=True to fine-tune."
)


def read_weights(
    file: CheckpointFile,
    shapes: Mapping[str, ArrayShape],
    variant: Architectural,
    *,
    grid: tuple[int, int] | None = None,
    include_top: bool = True,
    new_head: bool = False,
    mode: str = "corner",
    channels: tuple[int, int, str] | None = None,
    patch_size: int | None = None,
    names: Mapping[str, str] | None = None,
) -> Iterator[tuple[str, np.ndarray]]:
    """Reads the arrays of a weight file under our names and in our shapes.

    All names and shapes are compared before the first array is read. Then one array at a time is in memory.

    Args:
        file: the opened file.
        shapes: {our path: shape} of all weights of the model.
        variant: the model's architecture.
        grid: (rows, columns) of the model's patches; None for a BiT.
        include_top: whether the model has a head. Without one, the file's head is left out.
        new_head: whether the model keeps its own head. The file's head is left out.
        mode: how the position embedding is resized, a key of `keras_vit.layers.positions.INTERPOLATIONS`.
        channels: (channels of the file's images, channels of the model's images, how the first kernel is adapted)
            where they differ; see `adapt_channels`.
        patch_size: of the file's model, if its patch embedding is to be resized to the variant's patch size.
        names: {our path: name in the file} for a .weights.h5 file of Keras.

    Returns:
        An iterator over (our path, float32 array). With `new_head`, the head's weights are absent.

    Raises:
        ValueError: if arrays are missing, unused or of another shape (one error lists all). The iterator raises it if
            an array cannot be read or holds NaN or infinity.
    """
    cells = _cells(file, shapes, variant, names)
    needed = {ours: cells.get(ours, Cell(ours)) for ours in shapes}
    if new_head:
        keeps = any(cell.name in file.shapes for ours, cell in needed.items() if ours.startswith("pre_logits/"))
        of_new_head = ("head/",) if keeps else OF_THE_HEAD
        needed = {ours: cell for ours, cell in needed.items() if not ours.startswith(of_new_head)}
    left_out = _left_out(file.shapes, needed, cells, include_top, new_head)
    expected = dict(shapes)
    in_file = variant
    if patch_size and isinstance(variant, Variant):
        in_file = dataclasses.replace(variant, patch_size=patch_size)
    file_grid = _grid_to_resize(file, cells, shapes, grid, in_file)
    if file_grid and grid and _POSITIONS in shapes:
        _, tokens, hidden_size = shapes[_POSITIONS]
        expected[_POSITIONS] = (1, tokens - math.prod(grid) + math.prod(file_grid), hidden_size)
    biases = {ours for ours in shapes if ours.endswith(_BIAS)} if file_grid else set()
    for ours in biases:
        expected[ours] = (math.prod(2 * side - 1 for side in file_grid or ()) + 3, shapes[ours][1])
    first = _first_kernel(variant)
    if channels:
        expected[first] = _with_channels(shapes[first], channels[1], channels[0])
    if patch_size:
        rows, hidden_size = expected[first]
        expected[first] = rows // variant.patch_size**2 * patch_size**2, hidden_size  # type: ignore[union-attr]
    faults = _faults(file.shapes, expected, needed, left_out, in_file)
    if faults:
        raise ValueError(f"{file.path} does not fit the model:\n{faults}{_advice(file, shapes, cells)}")
    for names_left_out in (left_out, file.left_out):
        if names_left_out:
            logger.info("%s: left out %s", file.path, checked.first_few(sorted(names_left_out)))
    if file_grid and grid:
        logger.info("%s: positions resized from %d x %d to %d x %d patches, %s", file.path, *file_grid, *grid, mode)

    def arrays() -> Iterator[tuple[str, np.ndarray]]:
        for ours, cell in needed.items():
            if cell.name not in file.shapes:
                yield ours, np.zeros(shapes[ours], np.float32)
                continue
            array = _read(file, cell, expected[ours], in_file)
            if file_grid and grid and ours == _POSITIONS:
                array = resize_positions(array, file_grid, grid, mode)
            elif file_grid and grid and ours in biases:
                array = resize_bias(array, file_grid, grid, mode)
            elif (channels or patch_size) and ours == first:
                array = _adapted(array, in_file, channels, variant, file.patch_resize).reshape(shapes[first])
            elif ours == "head/kernel" and not array.any():
                logger.warning(ZERO_HEAD, file.path)
            yield ours, array

    return arrays()


def _cells(
    file: CheckpointFile, shapes: Mapping[str, ArrayShape], variant: Architectural, names: Mapping[str, str] | None
) -> dict[str, Cell]:
    if names is not None:
        return {ours: Cell(name) for ours, name in names.items()}
    if file.format not in FORMATS:
        return {ours: Cell(ours) for ours in {*shapes, *file.shapes}}
    if isinstance(variant, ResNet):
        return format_column(file.format, 0, variant.units)
    return format_column(file.format, variant.num_layers, variant.stem.units if variant.stem else ())


def _left_out(
    file_shapes: Mapping[str, ArrayShape],
    needed: Mapping[str, Cell],
    cells: Mapping[str, Cell],
    include_top: bool,
    new_head: bool,
) -> set[str]:
    """Returns the file's names that are left out on request: the head's, and those of the layer that only it reads."""
    if include_top and not new_head:
        return set()
    of_head = {name for ours, cell in cells.items() if ours.startswith(OF_THE_HEAD) for name in cell.names}
    return (of_head & set(file_shapes)) - _names(needed)


def _names(cells: Mapping[str, Cell]) -> set[str]:
    return {name for cell in cells.values() for name in cell.names}


def _grid_to_resize(
    file: CheckpointFile,
    cells: Mapping[str, Cell],
    shapes: Mapping[str, ArrayShape],
    grid: tuple[int, int] | None,
    variant: Architectural,
) -> tuple[int, int] | None:
    """Returns the file's grid if positions must be resized, else None. An unknown grid is assumed to be a square."""
    bias = next((ours for ours in shapes if ours.endswith(_BIAS)), "")
    if bias in cells and grid and cells[bias].name in file.shapes:
        rows = file.shapes[cells[bias].name][0]
        if rows == shapes[bias][0]:
            return None
        return square_grid(((math.isqrt(max(rows - 3, 0)) + 1) // 2) ** 2)
    if _POSITIONS not in cells or _POSITIONS not in shapes or not isinstance(variant, Variant):
        return None
    shape = file.shapes.get(cells[_POSITIONS].name, ())
    fitting = [tokens for *_, tokens, _ in cells[_POSITIONS].shapes(shapes[_POSITIONS], variant)]
    if len(shape) not in (2, 3) or grid is None:
        return None
    counts = [max(shape[-2] - (tokens - math.prod(grid)), 0) for tokens in fitting]
    known = file.grid or (file.image_size and variant.grid(*file.image_size))
    if known and math.prod(known) in counts:
        return None if known == grid else known
    return None if shape[-2] in fitting else next(filter(None, map(square_grid, counts)), None)


def _first_kernel(variant: Architectural) -> str:
    has_stem = isinstance(variant, ResNet) or variant.stem
    return "stem/conv/kernel" if has_stem else "encoder/projection/kernel"


def _with_channels(shape: ArrayShape, ours: int, in_file: int) -> ArrayShape:
    if len(shape) == 2:
        return shape[0] // ours * in_file, shape[1]
    return (*shape[:2], in_file, shape[3])


def _adapted(
    kernel: np.ndarray,
    in_file: Architectural,
    channels: tuple[int, int, str] | None,
    variant: Architectural,
    mode: str,
) -> np.ndarray:
    """Returns the first kernel for another number of channels, another patch size or both."""
    if isinstance(in_file, Variant) and isinstance(variant, Variant) and kernel.ndim == 2:
        side = in_file.patch_size
        kernel = kernel.reshape(side, side, -1, kernel.shape[1])
        if side != variant.patch_size:
            kernel = resize_patches(kernel, variant.patch_size, mode)
    return adapt_channels(kernel, *channels[1:]) if channels else kernel


def _read(file: CheckpointFile, cell: Cell, shape: ArrayShape, variant: Architectural) -> np.ndarray:
    rows = None
    if cell.part is not None:
        index, count = cell.part
        length = file.shapes[cell.name][0] // count
        rows = index * length, (index + 1) * length
    array = (
        np.concatenate([file.read(name, rows) for name in cell.names]) if cell.second else file.read(cell.name, rows)
    )
    return cell.reshaper.from_file(array, shape, variant) if cell.reshaper else array


def _faults(
    file_shapes: Mapping[str, ArrayShape],
    shapes: Mapping[str, ArrayShape],
    needed: Mapping[str, Cell],
    left_out: set[str],
    variant: Architectural,
) -> str:
    """Returns a line for each missing, misfitting and unused array."""
    lines: dict[str, list[str]] = {"missing": [], "misfit": [], "unused": []}
    for ours, cell in needed.items():
        fitting = cell.shapes(shapes[ours], variant)
        for name in cell.names:
            if name not in file_shapes:
                if ours not in ZERO_WHERE_ABSENT:
                    lines["missing"].append(f"  missing: {name} {fitting[0]}, for {ours}")
            elif file_shapes[name] not in fitting:
                line = f"  misfit:  {name} {file_shapes[name]}, expected {fitting[0]} for {ours}"
                lines["misfit"].append(line)
    unused = sorted(set(file_shapes) - _names(needed) - left_out)
    lines["unused"] = [f"  unused:  {name} {file_shapes[name]}" for name in unused]
    kinds = [_grouped(of_kind) for of_kind in lines.values()]
    return "\n".join(checked.first_few((f"{line:.120}" for line in kind), "\n", LINES) for kind in kinds if kind)


def _grouped(lines: Iterable[str]) -> list[str]:
    """Joins the lines that differ in the index of the block alone, so that a screen holds them all."""
    groups: dict[str, list[str]] = {}
    for line in lines:
        groups.setdefault(re.sub(r"block_\d+|layer\.\d+|blocks\.\d+", "block_*", line), []).append(line)
    return [one[0] if len(one) == 1 else f"{pattern}, in {len(one)} blocks" for pattern, one in groups.items()]


def _advice(file: CheckpointFile, shapes: Mapping[str, ArrayShape], cells: Mapping[str, Cell]) -> str:
    """Returns the arguments that would make the file fit, where the shapes show it."""
    advice = []
    head, kernel, pre_logits = (cells.get(name) for name in ("head/bias", "head/kernel", "pre_logits/bias"))
    is_partial = head and kernel and head.name not in file.shapes and kernel.name in file.shapes
    if head and "head/bias" in shapes and file.shapes.get(head.name, ()) != shapes["head/bias"] and not is_partial:
        has = f"has a head of {file.shapes[head.name][-1]} classes" if file.shapes.get(head.name) else "has no head"
        advice.append(f"The file {has}: pass new_head=True to start a new one, or include_top=False.")
    if pre_logits and file.shapes.get(pre_logits.name) and "pre_logits/bias" not in shapes:
        width = file.shapes[pre_logits.name][-1]
        advice.append(f"The file has a layer pre_logits before the head: pass representation_size={width}.")
    return "".join(f"\n{line}" for line in advice)
