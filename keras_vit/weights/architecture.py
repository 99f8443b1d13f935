"""Tells the architecture of a weight file from its shapes."""

import dataclasses
import logging
import math

from keras_vit.layers.positions import square_grid
from keras_vit.models.config import VARIANTS, ResNet, Variant, name_of
from keras_vit.weights.names import NAME_FAMILIES, found_places, source_cells

logger = logging.getLogger("keras_vit")


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What a weight file is of.

    Args:
        variant: the row, a `Variant` or a `ResNet`; a published one where there is one of these sizes.
        name: of the published row, or None.
        channels: of the images.
        classes: of the head; None without one.
        representation_size: width of the layer before the head; None without one.
        image_size: (rows, columns) in pixels, or None where the file does not tell: BiT has no positions, and a grid
            that is no square has many shapes.
    """

    variant: Variant | ResNet
    name: str | None
    channels: int
    classes: int | None
    representation_size: int | None
    image_size: tuple[int, int] | None


def detect_architecture(file, num_heads=None):
    """Returns the `Architecture` of a `SourceFile`.

    Args:
        file: the file.
        num_heads: attention heads, where neither shapes nor a configuration tell; a width of 64 a head without it.

    Raises:
        ValueError: if the shapes are of no Vision Transformer or BiT, or the number of heads is needed.
    """
    try:
        return _describe(file, num_heads)
    except (KeyError, IndexError, TypeError, ZeroDivisionError) as error:
        what = f"{error.args[0]} is missing" if isinstance(error, KeyError) else "an array has an odd number of axes"
        raise ValueError(
            f"{file.path}: the architecture cannot be told from its shapes, {what}. Name it: "
            "keras_vit.build(variant, weights=...) lists all that is wrong."
        ) from error


def _describe(file, num_heads):
    source, names = file.source, file.shapes
    num_layers = 1 + max((place["i"] for place in found_places(source, "block_{i:02d}/mlp/hidden", names)), default=-1)
    units = {}
    for place in found_places(source, "stage{s}_unit{u:02d}/conv2", names):
        units[place["s"]] = max(units.get(place["s"], 0), place["u"] + 1)
    units = tuple(units[stage] for stage in range(len(units)))
    cells = source_cells(source, num_layers, units)

    def shape(ours):
        return names[cells[ours].name]

    def has(ours):
        return ours in cells and cells[ours].name in names

    def kernel(ours):
        """Returns (rows, columns, channels in, channels out)."""
        found = shape(ours)
        return (*found[2:], found[1], found[0]) if NAME_FAMILIES[source] == "torch" else found

    resnet = None
    if has("stem/conv/kernel"):
        widths = tuple(kernel(f"stage{s}_unit01/conv3/kernel")[3] for s in range(1, len(units) + 1))
        resnet = ResNet(units, widths, kernel("stem/conv/kernel")[3])
    classes = shape("head/bias")[0] if has("head/bias") else None
    channels = kernel("stem/conv/kernel" if resnet else "encoder/projection/kernel")[2]
    if not num_layers:
        return _published(resnet, channels, classes, None, None)

    def width(ours):
        """Returns the width of what a kernel reads."""
        return shape(ours)[1 if NAME_FAMILIES[source] == "torch" else 0]

    patch_size, _, _, hidden_size = kernel("encoder/projection/kernel")
    table, tokens = cells["encoder/position_embedding"], shape("encoder/position_embedding")[1]
    pooling = "token" if has("encoder/class_token") else "map" if has("pooling/probe") else "gap"
    if has("head/distillation/kernel"):
        pooling = "token+distillation"
    elif pooling == "token" and has("head/kernel") and not has("pre_logits/kernel"):
        pooling = "token+gap" if width("head/kernel") == 2 * hidden_size else pooling
    elif pooling == "gap" and not square_grid(tokens) and square_grid(tokens - 1):
        pooling = "token"  # its class token is missing, which is said when it is loaded
    query, mlp_dim = shape("block_00/attention/query/kernel"), width("block_00/mlp/out/kernel")
    own_heads = query[1] if NAME_FAMILIES[source] == "flax" else file.num_heads
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
    known = math.prod(variant.grid(*file.image_size)) if file.image_size else 0
    own = 1, variant.has_class_token + variant.distillation_token, hidden_size
    counts = [tokens - rows for _, rows, _ in table.shapes(own, variant)]
    patches = next((count for count in counts if count == known or square_grid(count)), counts[0])
    grid = square_grid(patches)
    side = grid and grid[0] * variant.stride
    size = side and (side, side)
    if known == patches:
        size = file.image_size
    representation = shape("pre_logits/bias")[0] if has("pre_logits/bias") else None
    return _published(variant, channels, classes, representation, size)


def _heads(file, hidden_size):
    if hidden_size % 64:
        raise ValueError(
            f"{file.path}: the number of attention heads is not in its shapes, and a width of {hidden_size} does not "
            "divide into heads of 64. Pass num_heads=."
        )
    logger.info(
        "%s: taken to have %d attention heads, of width 64; pass num_heads= otherwise", file.path, hidden_size // 64
    )
    return hidden_size // 64


def _published(row, *facts):
    """Returns the architecture, with the dropout of the published row of these sizes, where there is one."""
    name = name_of(row)
    if name and isinstance(row, Variant):
        row = dataclasses.replace(row, dropout=VARIANTS[name].dropout)
    return Architecture(row, name, *facts)
