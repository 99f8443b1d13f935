"""`keras-vit check`: checks a folder of images before training."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from keras_vit.data.check import FolderReport, as_setting, check_folder
from keras_vit.data.listing import Learns
from keras_vit.training.transfer import DEFAULT_MODEL, DEFAULT_SIZE, PATCH_SIZE, fitting_size, like_size


def check_images(
    folder: str | os.PathLike[str],
    class_depth: int | None = None,
    groups: str | None = None,
    objective: Learns | None = None,
    target: Sequence[str] = (),
    corrections: str | os.PathLike[str] | None = None,
    image_size: tuple[int, int] | None = None,
    channels: int = 3,
) -> FolderReport:
    """Checks a folder of images for the recipe that `keras-vit fit` uses for a folder.

    Args:
        folder: one folder of images per class, train/ and test/ with such folders, a .zip file of one, or a .csv file.
        class_depth: folder levels down to the class folders; None for 1.
        groups: pattern of the names, as in a recipe.
        objective: what is to be learned of an image; None for its class, or the numbers in `target`.
        target: the columns of numbers in a .csv file.
        corrections: a .csv file with other labels for some images, as in a recipe.
        image_size: (height, width) of the model's images, pixels; None for that of the recipe, or for one of the
            proportions of the images if all have the same. The command to train has the nearest size that the recipe's
            checkpoint reads.
        channels: of the images, as in a recipe.

    Returns:
        The report. Its `problems` are the reasons for which `fit` would refuse the folder.
    """
    learns = objective or ("numbers" if target else None)
    options: dict[str, Any] = {"class_depth": class_depth, "groups": groups, "channels": channels}
    fitting = fitting_size(image_size) if image_size else DEFAULT_SIZE
    options |= {"image_size": fitting, "propose_size": None if image_size else like_size}
    report = check_folder(folder, learns=learns, target=target, corrections=corrections, **options)
    if not image_size or image_size == fitting:
        return report
    note = (
        f"fit starts from {DEFAULT_MODEL}, which reads multiples of its patch size, {PATCH_SIZE}, not "
        f"image_size={as_setting(image_size)}: the command below has image_size={as_setting(fitting)}; set model= for "
        "a checkpoint of another patch size"
    )
    return dataclasses.replace(report, notes=(*report.notes, note))
