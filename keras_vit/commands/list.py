"""`keras-vit list`: the architectures and their published checkpoints, and the cache of these. Needs no Keras."""

import textwrap
from collections.abc import Iterator

from keras_vit.models.config import VARIANTS, get_variant
from keras_vit.weights.checkpoints import checkpoints
from keras_vit.weights.download import CachedFile


def variant_lines(variant: str | None = None) -> Iterator[str]:
    """Yields a line for each architecture, followed by a line for each of its published checkpoints.

    Args:
        variant: the name of one architecture; None for all.

    Raises:
        ValueError: if the variant is unknown.
    """
    if variant is not None:
        get_variant(variant)
    for name, row in VARIANTS.items():
        if variant not in (None, name):
            continue
        yield f"{name}, {row.parameters:,} parameters"
        for checkpoint in checkpoints(name):
            accuracy = f"{checkpoint.top1:.2f} %, {checkpoint.published}" if checkpoint.top1 else ""
            line = f"  {checkpoint.name:<40s} {checkpoint.image_size:4d}  {checkpoint.trained_on:<26s} {accuracy}"
            yield line.rstrip()


def cached_file_line(file: CachedFile) -> str:
    """Returns a line for a file of the cache, followed by what is wrong with it."""
    return f"wrong  {file.path}\n{textwrap.indent(file.fault, '  ')}" if file.fault else f"right  {file.path}"
