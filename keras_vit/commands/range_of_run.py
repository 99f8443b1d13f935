"""The range of numbers that a run was trained with, for commands that read images for it."""

import json
import logging
import os
import pathlib
from typing import Any

from keras_vit import _arguments as checked
from keras_vit.data.decoding import RANGE_SETTING, value_range

logger = logging.getLogger("keras_vit")


def use_value_range(run_file: pathlib.Path, data: Any) -> None:
    """Lets this process read images of more than 8 bits as a run did, unless its environment says how.

    Args:
        run_file: the run.json of the run.
        data: "data" in it.

    Raises:
        ValueError: if the range in the file is damaged.
    """
    if not isinstance(data, dict) or "value_range" not in data:  # of an older version
        return
    trained, here = data["value_range"], value_range()
    is_pair = isinstance(trained, list) and len(trained) == 2 and all(map(checked.is_number, trained))
    if trained is not None and not (is_pair and trained[0] < trained[1]):
        raise ValueError(f"{run_file} is damaged: value_range is {trained!r:.80}, expected two numbers, low and high")
    words = ",".join(f"{number!r}".removesuffix(".0") for number in trained or ())
    if here is None and trained:
        os.environ[RANGE_SETTING] = words
        logger.info("%s=%s, as %s was trained", RANGE_SETTING, words, run_file.parent)
    elif here and [*here] != trained:
        logger.warning(
            "%s=%s replaces the range that %s was trained with, %s",
            *(RANGE_SETTING, os.environ[RANGE_SETTING], run_file.parent, words or "none"),
        )


def use_range_beside(path: str | os.PathLike[str]) -> None:
    """Does the same for a file or a folder that lies in the folder of a run; without a run, nothing.

    Args:
        path: the file, such as model_int8.tflite.
    """
    run_file = pathlib.Path(path).parent / "run.json"
    try:
        contents = json.loads(run_file.read_bytes())
    except (OSError, ValueError):
        return
    use_value_range(run_file, contents.get("data") if isinstance(contents, dict) else None)
