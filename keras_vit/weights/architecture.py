"""Detects the architecture of a weight file from the shapes of its arrays."""

import dataclasses
import logging
import math

from keras_vit.layers.positions import square_grid
from keras_vit.models.config import VARIANTS, Pooling, ResNet, Variant, name_of
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


def _detect(file: CheckpointFile, num_heads: int | None) -> Architecture:
    format, names = file.format or "", file.shapes
    is_torch = FORMATS[format].family == "torch"
    num_layers = 1 + max((layer["i"] for layer in find_layers(format, "block_{i:02d}/mlp/hidden", names)), default=-1)
    count: dict[int, int] = {}  # stage -> units
    for layer in find_layers(format, "stage{s}_unit{u:02d}/conv2", names):
        count[layer["s"]] = max(count.get(layer["s"], 0), layer["u"] + 1)
    units = tuple(count[stage] for stage in range(len(count)))
    cells = format_column(format, num_layers, units)

    def shape(ours: str) -> ArrayShape:
        return names[cells[ours].name]

    def has(ours: str) -> bool:
        return ours in cells and cells[ours].name in names

    def kernel(ours: str) -> ArrayShape:
        """Returns (height, width, channels in, channels out)."""
        sizes = shape(ours)
        return (*sizes[2:], sizes[1], sizes[0]) if is_torch else sizes

    resnet = None
    if has("stem/conv/kernel"):
        widths = tuple(kernel(f"stage{s}_unit01/conv3/kernel")[3] for s in range(1, len(units) + 1))
        resnet = ResNet(units, widths, kernel("stem/conv/kernel")[3])
    classes = shape("head/bias")[0] if has("head/bias") else None
    channels = kernel("stem/conv/kernel" if resnet else "encoder/projection/kernel")[2]
    if resnet and not num_layers:
        return _published(resnet, channels, classes, None, None)

    def input_size(ours: str) -> int:
        """Returns the number of inputs of a dense kernel."""
        return shape(ours)[1 if is_torch else 0]

    patch_size, _, _, hidden_size = kernel("encoder/projection/kernel")
    table, tokens = cells["encoder/position_embedding"], shape("encoder/position_embedding")[1]
    pooling: Pooling = "token" if has("encoder/class_token") else "map" if has("pooling/probe") else "gap"
    if has("head/distillation/kernel"):
        pooling = "token+distillation"
    elif pooling == "token" and has("head/kernel") and not has("pre_logits/kernel"):
        pooling = "token+gap" if input_size("head/kernel") == 2 * hidden_size else pooling
    elif pooling == "gap" and not square_grid(tokens) and square_grid(tokens - 1):
        pooling = "token"  # the class token is missing, which is an error when the file is loaded
    query, mlp_dim = shape("block_00/attention/query/kernel"), input_size("block_00/mlp/out/kernel")
    own_heads = query[1] if FORMATS[format].family == "flax" else file.num_heads
    variant = Variant(
        patch_size,
        hidden_size,
        num_layers,
        num_heads or own_heads or _heads(file, hidden_size),
        mlp_dim,
        resnet,
        pooling,
        has("encoder/distillation_token"),
        register_tokens=shape("encoder/register_tokens")[1] if has("encoder/register_tokens") else 0,
        layer_scale=1e-5 if has("block_00/attention_scale/gamma") else None,
        swiglu=shape("block_00/mlp/hidden/bias")[0] == 2 * mlp_dim,
    )
    known = math.prod(variant.grid(*file.image_size)) if file.image_size else 0  # patches
    own = 1, variant.has_class_token + variant.distillation_token, hidden_size
    counts = [tokens - rows for _, rows, _ in table.shapes(own, variant)]
    patches = next((count for count in counts if count == known or square_grid(count)), counts[0])
    grid = square_grid(patches)
    size = (grid[0] * variant.stride, grid[1] * variant.stride) if grid else None
    if known == patches:
        size = file.image_size
    representation = shape("pre_logits/bias")[0] if has("pre_logits/bias") else None
    return _published(variant, channels, classes, representation, size)


def _heads(file: CheckpointFile, hidden_size: int) -> int:
    if hidden_size % 64:
        raise ValueError(
            f"{file.path}: the number of attention heads is not in its shapes, and hidden_size={hidden_size} is not a "
            "multiple of 64. Pass num_heads=."
        )
    logger.info("%s: %d attention heads of width 64 assumed; else pass num_heads=", file.path, hidden_size // 64)
    return hidden_size // 64


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
