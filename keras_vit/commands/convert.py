"""`keras-vit convert`: converts a checkpoint to another format."""

import os
from typing import Any, Literal

from keras_vit.conversion import convert


def convert_checkpoint(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    format: Literal["npz", "bit", "hf", "timm"] | None = None,
    image_size: tuple[int, int] | None = None,
    **options: Any,
) -> None:
    """Converts a checkpoint to another format with `keras_vit.convert`.

    Args:
        source: a file, an address or a published name, as in `keras_vit.load`.
        target: the file or folder to write.
        format: the format to write, as in `keras_vit.save_checkpoint`; None to choose it by the name of `target`.
        image_size: (height, width) in pixels to resize the model to; None for its own.
        **options: `num_heads`, `patch_size` and `gelu` of `keras_vit.load`.

    Raises:
        ValueError: if the checkpoint cannot be loaded, or the format cannot store it.
    """
    convert(source, target, format, input_shape=(*image_size, 3) if image_size else None, **options)
