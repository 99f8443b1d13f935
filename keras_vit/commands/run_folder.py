"""The folder of a run: whose it is, and what is in it."""

import dataclasses
import json
import logging
import pathlib
import platform

import keras

import keras_vit.builders  # registers the layers, without which no model of ours loads
from keras_vit.commands.image_list import image_changes
from keras_vit.models.config import ResNet, Variant, get_variant, name_of
from keras_vit.training.fit import CHECKPOINTS
from keras_vit.training.recipe import MAY_CHANGE_ON_RESUME, Recipe
from keras_vit.weights.open import checkpoint_digest

RUN, METRICS, MODEL, LABELS = "run.json", "metrics.json", "model.keras", "labels.txt"
logger = logging.getLogger("keras_vit")


def run_facts(recipe, source, devices, contract, weights):
    """Returns what run.json says of a run: its recipe, data, devices, and how pixels are scaled.

    Args:
        recipe, source, devices: of the run.
        contract: the `Pixels` of its model.
        weights: the SHA-256 of the checkpoint that it starts from, or None.
    """
    return {
        "recipe": dataclasses.asdict(recipe),
        "data": _data(source),
        "weights_sha256": weights,
        "versions": {
            "keras_vit": keras_vit.__version__,
            "keras": keras.__version__,
            "backend": keras.backend.backend(),
            "python": platform.python_version(),
        },
        "devices": devices.description,
        "pixels": {"words": contract.description, **dataclasses.asdict(contract)},
    }


def _data(source):
    return {
        "sha256": source.digest,
        **{split: len(getattr(source, split).labels) for split in ("train", "validation", "test")},
        "classes": list(source.class_names),
    }


def finished(folder, recipe):
    """Returns the metrics of a finished run of this recipe, or None if it is still to be made.

    A run of other settings that has not got as far as its first checkpoint gives way to this one.

    Raises:
        ValueError: if the folder holds anything but a run of this recipe.
    """
    folder = pathlib.Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"Expected a folder for the run. Received: {folder}, a file. Choose another with --output.")
    if not folder.exists() or not any(not path.name.startswith(".") for path in folder.iterdir()):
        return None
    if not (folder / RUN).exists():
        raise ValueError(f"{folder} holds files that are no run's. Choose another folder with --output, or empty it.")
    if not _has_begun(folder):
        return None
    theirs, ours = dataclasses.asdict(_recipe(folder / RUN)), dataclasses.asdict(recipe)
    if other := _differences({name: theirs[name] for name in ours if name not in MAY_CHANGE_ON_RESUME}, ours):
        raise _other_run(folder, "settings", other)
    return _read_json(folder / METRICS) if (folder / METRICS).exists() else None


def refuse_other_data(folder, source):
    """Raises a ValueError with what differs, if the data is not what the folder's run learned from."""
    folder = pathlib.Path(folder)
    if not (folder / RUN).exists() or not _has_begun(folder):
        return
    theirs, ours = _read_json(folder / RUN).get("data", {}), _data(source)
    other = _differences(theirs, ours)
    if other and (images := image_changes(folder, source)):
        # The images by name say more than the digest and the counts that follow from them.
        other = images + _differences({"classes": theirs.get("classes")}, ours)
    if other:
        raise _other_run(folder, "data", other, " Or put the data back as it was, to keep to that run.")


def weights_digest(folder, recipe):
    """Returns the SHA-256 of the checkpoint that a recipe starts from, or None if it starts from random weights.

    Raises:
        ValueError: if it cannot be read, or is not what the folder's run began with.
    """
    if recipe.weights is None:
        return None
    folder = pathlib.Path(folder)
    begun = (folder / RUN).exists() and _has_begun(folder)
    try:
        ours = checkpoint_digest(recipe.weights, name_of(get_variant(recipe.variant)), (recipe.image_size,) * 2 + (3,))
    except ValueError as error:
        if begun:
            raise ValueError(f"{error}\n{folder} began with it; put it back to go on.") from error
        raise
    theirs = _read_json(folder / RUN).get("weights_sha256") if begun else None
    if theirs not in (None, ours):
        changed = [f"  {recipe.weights}: sha256 {theirs} there, {ours} here"]
        raise _other_run(folder, "weights", changed, " Or put the file back as it was, to keep to that run.")
    return ours


def _has_begun(folder):
    """Returns whether a run has anything to go on from, or to lose."""
    return any((folder / name).exists() for name in (MODEL, METRICS)) or any((folder / CHECKPOINTS).glob("[!.]*"))


def _differences(theirs, ours):
    return [f"  {name}: {theirs[name]!r} there, {ours[name]!r} here" for name in theirs if theirs[name] != ours[name]]


def _other_run(folder, what, other, instead=""):
    return ValueError(
        f"{folder} holds a run of other {what}:\n" + "\n".join(other) + "\nChoose another folder with --output."
        f"{instead}"
    )


def recipe_of(model_path):
    """Returns the recipe that a model file's folder was made by, or None if there is none."""
    path = pathlib.Path(model_path).parent / RUN
    return _recipe(path) if path.exists() else None


def recipe_in(folder):
    """Returns the recipe of a run's folder.

    Raises:
        ValueError: if there is no run in it.
    """
    path = pathlib.Path(folder) / RUN
    if not path.exists():
        raise ValueError(f"Expected the folder of a run. Received: {folder}, without {RUN}")
    return _recipe(path)


def _recipe(path):
    settings = _read_json(path).get("recipe", {})
    if isinstance(settings.get("variant"), dict):
        settings["variant"] = (ResNet if "units" in settings["variant"] else Variant)(**settings["variant"])
    try:
        # JSON has no tuples, the recipe no lists.
        return Recipe(**{name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is of another version of keras_vit: {error}") from error


def _read_json(path):
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
