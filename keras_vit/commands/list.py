"""`keras-vit list`: the architectures and their published checkpoints, and the cache of these. Needs no Keras."""

import textwrap
from collections.abc import Iterator

from keras_vit.models.config import VARIANTS
from keras_vit.weights.checkpoints import Checkpoint, checkpoints, families
from keras_vit.weights.download import CachedFile


def variant_lines(variant: str | None = None) -> Iterator[str]:
    """Yields a line for each architecture and each family, followed by a line for each of its published checkpoints.

    Args:
        variant: the name of one architecture or family; None for all.

    Raises:
        ValueError: if the variant is unknown.
    """
    checkpoints(variant)  # raises for an unknown one
    for name, row in VARIANTS.items():
        if variant in (None, name):
            yield f"{name}, {row.parameters:,} parameters"
            yield from map(_line, checkpoints(name))
    for family in families():
        if variant in (None, family):
            rows = checkpoints(family)
            yield f"{family}, licence {', '.join(dict.fromkeys(row.license for row in rows))}"
            yield from map(_line, rows)


def _line(row: Checkpoint) -> str:
    accuracy = f"{row.top1:.2f} %, {row.published}" if row.top1 else ""
    size = "" if row.variant else f"{(row.parameters or 0) / 1e6:,.0f} M"
    facts = f"{row.image_size:4d}  {row.trained_on:<26s} {size:>7s}  {row.license}"
    return f"  {row.name:<40s} {facts:<60s} {accuracy}".rstrip()


def cached_file_line(file: CachedFile) -> str:
    """Returns a line for a file of the cache, followed by what is wrong with it."""
    return f"wrong  {file.path}\n{textwrap.indent(file.fault, '  ')}" if file.fault else f"right  {file.path}"
