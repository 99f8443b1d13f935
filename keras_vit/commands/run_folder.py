"""The folder of a run: its run.json, whether it is finished, and whether settings, data and weights are unchanged."""

import contextlib
import dataclasses
import json
import logging
import os
import pathlib
import platform
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras

import keras_vit.builders  # registers the layers, without which no model of ours loads
from keras_vit._atomic import locked
from keras_vit.commands.image_list import image_changes
from keras_vit.commands.range_of_run import use_value_range
from keras_vit.data.decoding import RANGE_SETTING, value_range
from keras_vit.data.sources import Source
from keras_vit.models.config import ResNet, Variant, get_variant, name_of
from keras_vit.models.interface import pixels_of
from keras_vit.training.devices import Devices
from keras_vit.training.fit import CHECKPOINTS
from keras_vit.training.objectives import loss_of
from keras_vit.training.recipe import MAY_CHANGE_ON_RESUME, Recipe
from keras_vit.weights.open import checkpoint_digest

RUN_FILE, METRICS_FILE, MODEL_FILE, LABELS_FILE = "run.json", "metrics.json", "model.keras", "labels.txt"
# Names in the metrics.json of runs before the names of today.
_OLDER_METRICS = {"test_pictures": "test_images", "bad_pictures": "bad_images", "test_share": "test_metric"}
logger = logging.getLogger("keras_vit")


def run_description(
    recipe: Recipe, source: Source, devices: Devices, model: keras.Model, weights: str | None
) -> dict[str, Any]:
    """Returns the contents of run.json: recipe, data, checkpoint's licence, versions, devices and pixels of a run.

    Args:
        recipe: the recipe of the run.
        source: its images.
        devices: the devices that it runs on.
        model: its model, before the training.
        weights: the SHA-256 of the checkpoint that it starts from, or None.
    """
    contract, license = pixels_of(model), getattr(model, "license", None)
    return {
        "recipe": dataclasses.asdict(recipe),
        "data": _data_description(source),
        "weights_sha256": weights,
        "license": license and license.description(),
        "versions": {
            "keras_vit": keras_vit.__version__,
            "keras": keras.__version__,
            "backend": keras.backend.backend(),
            "python": platform.python_version(),
        },
        "devices": devices.description,
        "pixels": {"words": contract.description, **dataclasses.asdict(contract)},
    }


def _data_description(source: Source) -> dict[str, Any]:
    return {
        "sha256": source.digest,
        **{split: len(getattr(source, split).labels) for split in ("train", "validation", "test")},
        "classes": list(source.class_names),
        "value_range": list(value_range() or ()) or None,
    }


def finished_metrics(folder: str | os.PathLike[str], recipe: Recipe) -> dict[str, Any] | None:
    """Returns the metrics of a finished run of a recipe, or None if there is none yet.

    A run of other settings that has not written its first checkpoint does not count: the new run replaces it.

    Args:
        folder: the folder of the run.
        recipe: the recipe to run.

    Raises:
        ValueError: if the folder contains anything else than a run of this recipe.
    """
    folder = pathlib.Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"Expected a folder for the run. Received: {folder}, a file. Choose another with --output.")
    if not folder.exists() or not any(not path.name.startswith(".") for path in folder.iterdir()):
        return None
    if not (folder / RUN_FILE).exists():
        raise ValueError(
            f"Expected an empty folder or the folder of a run. Received: {folder}, which contains other files. Choose "
            "another folder with --output, or empty it."
        )
    if not _has_begun(folder):
        return None
    theirs, ours = map(_settings, (_read_recipe(folder / RUN_FILE), recipe))
    if differences := _differences({name: theirs[name] for name in ours if name not in MAY_CHANGE_ON_RESUME}, ours):
        raise _different_run(folder, "settings", differences)
    if not (folder / METRICS_FILE).exists():
        return None
    metrics = read_object(folder / METRICS_FILE)
    return {_OLDER_METRICS.get(name, name): value for name, value in metrics.items()}


def _settings(recipe: Recipe) -> dict[str, Any]:
    """Returns the settings of a recipe; a default of its objective is equal to the same stated."""
    return dataclasses.asdict(recipe) | {"objective": recipe.objective or "classes", "loss": loss_of(recipe)}


def require_same_data(folder: str | os.PathLike[str], source: Source) -> None:
    """Raises an error that lists the differences if the run in a folder was trained on other data.

    Args:
        folder: the folder of the run; without a run, nothing is raised.
        source: the images as they are now.

    Raises:
        ValueError: if images, classes or splits differ.
    """
    folder = pathlib.Path(folder)
    if not (folder / RUN_FILE).exists() or not _has_begun(folder):
        return
    path, ours = folder / RUN_FILE, _data_description(source)
    theirs = _object_in(read_object(path), "data", path)
    differences = _differences(theirs, ours)
    if differences and (images := image_changes(folder, source)):
        # The names of the images are more useful than the digest and the counts that follow from them.
        differences = images + _differences({"classes": theirs.get("classes")}, ours)
    if differences:
        advice = " Or restore the data to continue that run."
        if theirs.get("value_range", ours["value_range"]) != ours["value_range"]:
            advice = f" Or {'unset' if value_range() else 'set'} {RANGE_SETTING} to continue that run."
        raise _different_run(folder, "data", differences, advice)


def weights_digest(folder: str | os.PathLike[str], recipe: Recipe) -> str | None:
    """Returns the SHA-256 of the checkpoint that a recipe starts from, or None for random weights.

    Args:
        folder: the folder of the run.
        recipe: the recipe.

    Raises:
        ValueError: if the checkpoint cannot be read, or is not the one that the run in the folder started from.
    """
    if recipe.weights is None:
        return None
    folder = pathlib.Path(folder)
    begun = (folder / RUN_FILE).exists() and _has_begun(folder)
    try:
        ours = checkpoint_digest(recipe.weights, name_of(get_variant(recipe.variant)), (*recipe.size, recipe.channels))
    except ValueError as error:
        if begun:
            raise ValueError(f"{error}\n{folder} started from it; restore it to continue the run.") from error
        raise
    theirs = read_object(folder / RUN_FILE).get("weights_sha256") if begun else None
    if theirs not in (None, ours):
        difference = f"  {recipe.weights}: sha256 {theirs} there, {ours} here"
        raise _different_run(folder, "weights", [difference], " Or restore the file to continue that run.")
    return ours


@contextlib.contextmanager
def page_in_run(page: str | os.PathLike[str] | None) -> Iterator[None]:
    """Locks the folder of a page if it is that of a run, so that no other process writes to it meanwhile.

    Args:
        page: the .html file to write; None for none.

    Raises:
        ValueError: if another process writes to the folder.
    """
    folder = pathlib.Path(page).parent if page else None
    with locked(folder) if folder and (folder / RUN_FILE).exists() else contextlib.nullcontext():
        yield


def _has_begun(folder: pathlib.Path) -> bool:
    """Returns whether a run has a checkpoint or results that a new run would overwrite."""
    return any((folder / name).exists() for name in (MODEL_FILE, METRICS_FILE)) or any(
        (folder / CHECKPOINTS).glob("[!.]*")
    )


def _differences(theirs: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    return [
        f"  {name}: {_shortened(theirs[name])} there, {_shortened(ours[name])} here"
        for name in ours
        if name in theirs and theirs[name] != ours[name]
    ]


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _different_run(folder: pathlib.Path, subject: str, differences: Sequence[str], advice: str = "") -> ValueError:
    return ValueError(
        f"{folder} contains a run of other {subject}:\n" + "\n".join(differences) + "\nChoose another folder with "
        f"--output.{advice}"
    )


def recipe_beside(model_path: str | os.PathLike[str]) -> Recipe | None:
    """Returns the recipe of the run whose folder contains a model file, or None without a run.json.

    Args:
        model_path: the file of the model.
    """
    path = pathlib.Path(model_path).parent / RUN_FILE
    return _read_recipe(path) if path.exists() else None


def begun_recipe(folder: str | os.PathLike[str]) -> Recipe | None:
    """Returns the recipe of a run that has written a checkpoint or results, or None if there is none.

    Args:
        folder: the folder of the run; it need not exist.
    """
    folder = pathlib.Path(folder)
    return _read_recipe(folder / RUN_FILE) if (folder / RUN_FILE).exists() and _has_begun(folder) else None


def read_recipe(folder: str | os.PathLike[str]) -> Recipe:
    """Returns the recipe of the run in a folder.

    Args:
        folder: the folder of the run.

    Raises:
        ValueError: if the folder has no run.json.
    """
    path = pathlib.Path(folder) / RUN_FILE
    if not path.exists():
        raise ValueError(f"Expected the folder of a run. Received: {folder}, without {RUN_FILE}")
    return _read_recipe(path)


def _read_recipe(path: pathlib.Path) -> Recipe:
    contents = read_object(path)
    settings = _object_in(contents, "recipe", path)
    use_value_range(path, contents.get("data"))
    if "seed" in settings:  # of older runs, it drew the splits, too
        settings.setdefault("split_seed", settings["seed"])
    try:
        if isinstance(settings.get("variant"), dict):
            settings["variant"] = (ResNet if "units" in settings["variant"] else Variant)(**settings["variant"])
        # JSON has no tuples; a recipe has no lists.
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()}
        return Recipe(**fields)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged, or was written by another version of keras_vit: {str(error)[:1000]}"
        ) from error


def read_object(path: pathlib.Path) -> dict[str, Any]:
    """Returns the JSON object in a file of a run.

    Args:
        path: the file.

    Raises:
        ValueError: if it cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} cannot be read: {error}. Restore the file, or choose another folder with --output."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"Expected a JSON object. Received: {path}, a {type(content).__name__}. Restore the file.")
    return content


def _object_in(content: Mapping[str, Any], name: str, path: pathlib.Path) -> dict[str, Any]:
    """Returns an object in a JSON file; empty if it is missing."""
    value = content.get(name, {})
    if not isinstance(value, dict):
        raise ValueError(
            f'Expected a JSON object "{name}" in {path}. Received: a {type(value).__name__}. Restore the file.'
        )
    return value
