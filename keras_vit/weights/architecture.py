"""Detects the architecture of a weight file from the shapes of its arrays."""

import dataclasses
import logging
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from keras_vit import _arguments as checked
from keras_vit.layers.positions import square_grid
from keras_vit.models.config import VARIANTS, Pooling, ResNet, Variant, name_of
from keras_vit.weights.arrays import UNCOUNTED
from keras_vit.weights.families import Shown
from keras_vit.weights.formats import CheckpointFile
from keras_vit.weights.names import FORMATS, find_layers, format_column
from keras_vit.weights.reshaping import ArrayShape

logger = logging.getLogger("keras_vit")


@dataclasses.dataclass(frozen=True)
class Architecture:
    """The architecture of a weight file.

    Args:
        variant: its sizes; equal to a published row where one has these sizes.
        name: of the published row, or None.
        channels: of the images.
        classes: of the head; None without a head.
        representation_size: units of the layer `pre_logits` before the head; None without this layer.
        image_size: (height, width) in pixels, or None where the file does not show it: a BiT has no positions, and a
            number of patches that is not a square belongs to several grids.
    """

    variant: Variant | ResNet
    name: str | None
    channels: int
    classes: int | None
    representation_size: int | None
    image_size: tuple[int, int] | None


def detect_architecture(file: CheckpointFile, num_heads: int | None = None) -> Architecture:
    """Returns the architecture of a weight file.

    Args:
        file: the opened file.
        num_heads: attention heads, where neither shapes nor a configuration show them; by default, heads of width 64.

    Raises:
        ValueError: if the shapes are not those of a Vision Transformer or a BiT, or `num_heads` is needed.
    """
    try:
        return _detect(file, num_heads)
    except (KeyError, IndexError, TypeError, ZeroDivisionError) as error:
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else "an array has too few or many axes"
        raise ValueError(
            f"{file.path}: the architecture cannot be detected from the shapes: {reason}. Name the architecture: "
            "keras_vit.build(variant, weights=...) lists each array that does not fit."
        ) from error


def refuse_other_sizes(file: CheckpointFile, architecture: Architecture) -> None:
    """Raises a ValueError if the configuration next to a file contradicts the shapes of its arrays."""
    sizes = vars(architecture.variant) | vars(architecture)
    wrong = [
        f"{name}: {value:,}, in the arrays {sizes[field]:,}"
        for name, (field, value) in file.stated.items()
        if sizes.get(field) is not None and sizes[field] != value
    ]
    if wrong:
        separator = "\n  "
        raise ValueError(
            f"{file.path}: the config.json next to it is of another model:\n  {checked.first_few(wrong, separator)}\n"
            "Replace it by the file's own, or remove it."
        )


def _detect(file: CheckpointFile, num_heads: int | None) -> Architecture:
    format, names = file.format or "", file.shapes
    is_torch = FORMATS[format].family == "torch"
    num_layers, units = count_layers(format, names)
    num_layers = max(num_layers, file.num_layers)
    if (most := max((num_layers, *units))) > len(names):
        raise ValueError(f"{file.path}: {len(names)} arrays cannot be those of {most} layers")
    cells, family = format_column(format, num_layers, units), file.family
    present = {ours for ours, cell in cells.items() if cell.name in names}

    def shape(ours: str) -> ArrayShape:
        return names[cells[ours].name]

    def has(part: str) -> bool:
        """Returns whether the file has any array of an optional part; if another lacks, it is missing."""
        return any(re.match(part, ours) for ours in present)

    def units_of(layer: str) -> int:
        """Returns the number of outputs of a dense layer, from either of its arrays."""
        if f"{layer}/bias" in present:
            return shape(f"{layer}/bias")[0]
        return shape(f"{layer}/kernel")[0 if is_torch and cells[f"{layer}/kernel"].reshaper else -1]

    def kernel(ours: str) -> ArrayShape:
        """Returns (height, width, channels in, channels out)."""
        sizes = shape(ours)
        if is_torch and len(sizes) == 2:  # NaFlex: the values of a patch of three channels in a row
            side = math.isqrt(sizes[1] // 3)
            return side, side, 3, sizes[0]
        return (*sizes[2:], sizes[1], sizes[0]) if is_torch else sizes

    resnet = None
    if has("stem/|stage"):
        widths = tuple(kernel(f"stage{s}_unit01/conv3/kernel")[3] for s in range(1, len(units) + 1))
        resnet = ResNet(units, widths, kernel("stem/conv/kernel")[3])
    projects = family and family.projects(file.config) or has("projection/") and not has("head/")
    projection_size = units_of("projection") if projects and has("projection/") else None
    classes = units_of("head") if has("head/(kernel|bias)") and not projects else None
    channels = kernel("stem/conv/kernel" if resnet else "encoder/projection/kernel")[2]
    stem_weights = sum(count * width**2 for count, width in zip(resnet.units, resnet.widths)) if resnet else 0
    if resnet and not num_layers:
        _refuse_small(file, stem_weights + (classes or 0) * max(resnet.widths, default=0))
        return _published(resnet, channels, classes, None, None)

    def input_size(ours: str) -> int:
        """Returns the number of inputs of a dense kernel."""
        return shape(ours)[1 if is_torch else 0]

    patch_size, _, _, hidden_size = kernel("encoder/projection/kernel")
    has_table = has("encoder/position_embedding")
    if not has_table and not (family and "positions" in family.optional):
        shape("encoder/position_embedding")  # raises
    tokens = shape("encoder/position_embedding")[-2] if has_table else 0
    known = (
        math.prod(Variant(patch_size, 1, 1, 1, 1, resnet).grid(*file.image_size)) if file.image_size else 0
    )  # patches
    of_transformers = FORMATS[format].column == "hf"
    # Of the models of transformers, SigLIP and I-JEPA have no class token.
    lacks_token = format == "hf_tower" or "embeddings.cls_token" not in names and square_grid(tokens) is not None
    distilled = has("encoder/distillation_token|head/distillation/") or (of_transformers and tokens - 2 == known)
    has_token = has("encoder/(class_token|register_tokens)") or distilled or (of_transformers and not lacks_token)
    pooling: Pooling = "token" if has_token else "map" if has("pooling/") else "gap"
    if has("head/distillation/"):
        pooling = "token+distillation"
    elif pooling == "token" and "head/kernel" in present and not has("pre_logits/"):
        pooling = "token+gap" if input_size("head/kernel") == 2 * hidden_size else pooling
    elif pooling == "token" and classes and format.startswith("hf_dinov2"):
        pooling = "token+gap"  # the head's kernel is missing
    elif pooling == "gap" and not square_grid(tokens) and square_grid(tokens - 1):
        pooling = "token"  # the class token is missing, which is an error when the file is loaded
    query, mlp_dim = shape("block_00/attention/query/kernel"), input_size("block_00/mlp/out/kernel")
    hidden_units = shape("block_00/mlp/hidden/bias")[0] * len(cells["block_00/mlp/hidden/bias"].names)
    is_gated = hidden_units == 2 * mlp_dim
    fields: dict[str, Any] = {}
    # timm averages the patch tokens of a DINOv3 without a head; its authors take the class token.
    averages = file.averages and not (classes is None and family and family.returns_token)
    if pooling == "token" and (has("pooled_norm/") or FORMATS[format].column == "timm" and averages):
        fields = {"pooling": "gap", "class_token": True}
    if has("pooled_norm/"):
        fields["norm_at"] = "pooled"
    if family:
        shown = Shown(hidden_size, is_gated, square_grid(tokens - has_token) if has_table else None)
        fields |= family.fields(file.config, shown) | {"projection_size": projection_size}
        fields |= {
            "pre_norm": has("pre_norm/"),
            "patch_bias": "encoder/projection/bias" in present or not has("pre_norm/"),
            "relative_bias": has(".*/relative_bias"),
            "swiglu_norm": has(".*/mlp/norm/"),
        }
        if "biases" in family.optional:
            fields["qkv_bias"] = "qkv" if has(".*/key/bias") else "qv" if has(".*/query/bias") else "none"
        if fields.get("pooling", pooling) == "map" and has("pooling/mlp/out/kernel"):
            width = input_size("pooling/mlp/out/kernel")
            fields["pooling_mlp_dim"] = None if width == input_size("block_00/mlp/out/kernel") else width
        if not has_table:
            fields["positions"] = "none"
        if has_token != (fields.get("pooling", pooling).startswith("token")):
            fields["class_token"] = has_token
    own_heads = query[1] if FORMATS[format].family == "flax" else file.num_heads
    variant = Variant(
        patch_size,
        hidden_size,
        num_layers,
        num_heads or own_heads or heads_of(file, hidden_size, num_layers, mlp_dim),
        mlp_dim,
        resnet,
        distillation_token=distilled,
        register_tokens=shape("encoder/register_tokens")[1] if has("encoder/register_tokens") else file.num_registers,
        layer_scale=1e-5 if has(".*_scale/") else None,
        swiglu=is_gated,
        **{"pooling": pooling, **fields},
    )
    own = 1, variant.has_class_token + variant.distillation_token, hidden_size
    if has_table:
        table = cells["encoder/position_embedding"]
        counts = [tokens - rows for *_, rows, _ in table.shapes(own, variant)]
    elif variant.relative_bias:
        side = math.isqrt(shape("block_00/attention/relative_bias")[0] - 3)
        counts = [((side + 1) // 2) ** 2]
    else:
        counts = [known or 14 * 14]  # no positions in the file: any size
    patches = next((count for count in counts if count == known or square_grid(count)), counts[0])
    grid = square_grid(patches)
    size = (grid[0] * variant.stride, grid[1] * variant.stride) if grid else None
    if known == patches:
        size = file.image_size
    representation = units_of("pre_logits") if has("pre_logits/") else None
    block = 4 * hidden_size + 2 * mlp_dim
    rest = (classes or 0) + patch_size**2 * channels
    _refuse_small(file, stem_weights + (num_layers * block + rest) * hidden_size)
    return _published(variant, channels, classes, representation, size)


def count_layers(format: str, names: Iterable[str]) -> tuple[int, tuple[int, ...]]:
    """Returns the number of blocks, and that of the units of each stage, from any of their arrays."""
    blocks, count = 0, dict[int, int]()
    for table in FORMATS[format].tables:
        for row in table:
            if row.startswith("block_"):
                blocks = max([blocks, *(layer["i"] + 1 for layer in find_layers(format, row, names) if layer)])
            elif row.startswith("stage"):
                for layer in find_layers(format, row, names):
                    count[layer["s"]] = max(count.get(layer["s"], 0), layer["u"] + 1)
    return blocks, tuple(count[stage] for stage in range(len(count)))


def _refuse_small(file: CheckpointFile, weights: int) -> None:
    """Raises a ValueError for a model of far more weights than the file holds, before anyone builds it."""
    held = sum(map(math.prod, file.shapes.values()))
    if weights > 2 * held + UNCOUNTED:
        raise ValueError(f"{file.path}: its sizes are those of a model of {weights:,} weights, it holds {held:,}")


# {(hidden_size, mlp_dim): attention heads} of published vision towers with heads of another width than 64.
OTHER_HEADS = {
    (1152, 4304): 16,  # So400m
    (1280, 5120): 16,  # H
    (1408, 6144): 16,  # g
    (1536, 6144): 16,  # SigLIP 2 g-opt
    (1536, 8960): 16,  # PE G
    (1664, 8192): 16,  # G, and OpenCLIP's bigG
}


def heads_of(file: CheckpointFile, hidden_size: int, num_layers: int, mlp_dim: int) -> int:
    """Returns the attention heads of a file that does not state them: those of a published size, or heads of 64."""
    known: Mapping[tuple[int, int], int] = (
        {} if (file.format or "").endswith("_text") else OTHER_HEADS
    )  # text towers have heads of 64
    if file.family and file.family.heads is not None:
        known = file.family.heads
    heads = known.get((hidden_size, mlp_dim), hidden_size // 64)
    if (hidden_size, mlp_dim) not in known and hidden_size % 64:
        raise ValueError(
            f"{file.path}: the number of attention heads is not in its shapes, and hidden_size={hidden_size} is not a "
            "multiple of 64. Pass num_heads=."
        )
    logger.info(
        "%s: %d attention heads of width %d assumed; else pass num_heads=", file.path, heads, hidden_size // heads
    )
    return heads


def _published(
    variant: Variant | ResNet,
    channels: int,
    classes: int | None,
    representation_size: int | None,
    image_size: tuple[int, int] | None,
) -> Architecture:
    """Returns the architecture, with the name and the dropout of the published row of these sizes, if there is one."""
    name = name_of(variant)
    published = VARIANTS[name] if name else None
    if isinstance(variant, Variant) and isinstance(published, Variant):
        variant = dataclasses.replace(variant, dropout=published.dropout)
    return Architecture(variant, name, channels, classes, representation_size, image_size)
