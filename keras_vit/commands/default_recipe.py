"""The recipe for images that come without one: fine-tunes a published checkpoint, by the number of images."""

import difflib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from keras_vit.commands.examples import open_recipe_data
from keras_vit.commands.recipes import SETTINGS
from keras_vit.data.sources import BUILT_IN, Source
from keras_vit.models.config import VARIANTS, Variant
from keras_vit.training.recipe import RANGE_OF, Recipe
from keras_vit.training.settings import parse_settings
from keras_vit.training.transfer import DEFAULT_MODEL, DEFAULT_SIZE, FROM_NOTHING, transfer_settings
from keras_vit.weights.checkpoints import checkpoints, find_checkpoint
from keras_vit.weights.download import fetch as fetch_file
from keras_vit.weights.open import open_checkpoint

_log = logging.getLogger("keras_vit")

_IMAGENET = ("imagenet21k", "imagenet")


class DefaultRecipe(NamedTuple):
    """A recipe for images that come without one.

    Args:
        recipe: the recipe.
        source: the images, if they were opened to count them.
    """

    recipe: Recipe
    source: Source | None = None


def default_recipe(
    data: str, settings: Iterable[str] = (), fetch: bool = True, begun: Recipe | None = None
) -> DefaultRecipe:
    """Returns the recipe for images: it fine-tunes a checkpoint, or trains a small model from random weights.

    The checkpoint is `DEFAULT_MODEL`, or the one of model=NAME: the name of a variant, of a published checkpoint, or a
    file. Random weights are for weights=none, the pre-training objectives, the built-in data sets, which are small, and
    if the default checkpoint cannot be fetched; `missing_weights` of the recipe then has its name.

    Args:
        data: as in `keras_vit.data.open_source`.
        settings: "field=value" texts, which replace these settings.
        fetch: whether the checkpoint, and images that are not on this machine, are downloaded. Without these images,
            the settings are those for many.
        begun: the recipe of the run that is to be continued, if there is one: it starts from the same weights.

    Raises:
        ValueError, OSError: if the settings are not those of a recipe, a checkpoint that they name cannot be used, or
            the data cannot be opened.
    """
    values = parse_settings(settings, SETTINGS, RANGE_OF)
    named = values.keys() & {"model", "weights", "variant"}
    own = {name: value for name, value in values.items() if name not in ("model", "weights", "variant")}
    if values.get("objective") in ("mae", "masked-patches"):
        # From random weights, unless a checkpoint is named, whose pre-training goes on.
        model = {"weights": None} | {name: values[name] for name in ("weights", "variant") if name in values}
        if values.get("weights") or values.get("model"):
            model = named_model(values)
        return DefaultRecipe(Recipe(data=data, **{**FROM_NOTHING, **model, "head": "new", **own}))
    if named:
        model = named_model(values)
    elif data in BUILT_IN or data.split(":")[0] == "synthetic":
        model = {"weights": None}
    else:
        model = _of_checkpoint(DEFAULT_MODEL)
    if model["weights"] is None:
        return DefaultRecipe(Recipe(data=data, **{**FROM_NOTHING, **model, **own}))
    # The images are opened first: a fault in them shows before a download.
    source = open_recipe_data(Recipe(data=data, **{**model, **own})) if fetch or os.path.exists(data) else None
    count = len(source.train.labels) if source else None
    frozen = [name for name in ("lora", "freeze_to") if own.get(name)]
    if not named and not (_has_weights(begun) if begun else not fetch or _fetched(DEFAULT_MODEL, frozen)):
        return DefaultRecipe(Recipe(data=data, **{**FROM_NOTHING, "missing_weights": DEFAULT_MODEL, **own}), source)
    settings_of_size = transfer_settings(count)
    if own.get("representation_size"):
        settings_of_size["head"] = "new"  # a layer before the head changes the features that a probe is fitted on
    if fetch:
        _log.info("fine-tunes %s with the settings for %d training images", model["weights"], count)
    return DefaultRecipe(Recipe(data=data, **{**settings_of_size, **model, **own}), source)


def _has_weights(begun: Recipe) -> bool:
    """Returns whether a run started from a checkpoint; warns if that was missing."""
    if begun.missing_weights:
        _log.warning(
            "%s could not be fetched when this run began from random weights, and it continues so. Choose another "
            "folder with --output to fine-tune it.",
            begun.missing_weights,
        )
    return begun.missing_weights is None


def _fetched(name: str, frozen: Sequence[str] = ()) -> bool:
    """Returns whether a published checkpoint is in the cache, or could be downloaded; warns if not.

    It is needed for settings that freeze most weights.
    """
    try:
        fetch_file(find_checkpoint(name).address)
    except OSError as error:  # no network, or no file at the mirror
        if frozen:
            raise OSError(
                f"{error}\n{' and '.join(frozen)} needs a checkpoint: most weights stay as they are."
            ) from error
        _log.warning(
            "%s\nA small model is trained from random weights instead, as with weights=none (64 x 64 pixels, unless "
            "image_size says another size), and needs many more images. model=NAME names another checkpoint. With the "
            "file in its place, choose another folder with --output: it is another run.",
            error,
        )
        return False
    return True


def named_model(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a recipe that name the model of settings: weights, and its variant and image size.

    Args:
        values: the settings, with model, or with weights or variant or both.

    Raises:
        ValueError, OSError: if there is no such model, or its file does not show its architecture.
    """
    named = {name: values[name] for name in ("model", "weights", "variant") if name in values}
    if "model" in named and len(named) > 1:
        received = ", ".join(f"{name}={value!r}" for name, value in named.items())
        raise ValueError(f"Expected model, or weights and variant, not both. Received: {received}")
    if None in named.values():
        return {"weights": None, **{name: value for name, value in named.items() if name == "variant"}}
    if len(named) == 2:
        return {"image_size": DEFAULT_SIZE, **named}
    (name,) = named.values()
    if name in _IMAGENET:
        return {"variant": find_checkpoint(DEFAULT_MODEL).variant, "image_size": DEFAULT_SIZE, "weights": name}
    if name in VARIANTS:
        return {"variant": name, "image_size": DEFAULT_SIZE, "weights": _published(name)}
    return _of_checkpoint(name, values.get("head") == "kept")


def _published(variant: str) -> str:
    """Returns the name of the published weights that a variant is fine-tuned from."""
    classes = {row.classes for row in checkpoints(variant)}
    if not classes:
        raise ValueError(
            f"Expected a variant with a published checkpoint. Received: {variant}, which has none. Add weights=FILE, "
            "or weights=none for random weights; `keras-vit list` shows the checkpoints."
        )
    return "imagenet21k" if 21843 in classes else "imagenet"


def _of_checkpoint(name: str, keeps_head: bool = False) -> dict[str, Any]:
    """Returns the fields of a recipe for a published checkpoint, or for a file that shows its architecture."""
    if "://" not in name and not os.path.exists(name):
        row = next((row for row in checkpoints() if row.name == name), None)
        if row is None:
            known = [*VARIANTS, *(row.name for row in checkpoints())]
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
            nearest = f" Nearest names: {', '.join(near)}." if near else ""
            raise ValueError(
                "Expected the name of a variant or of a published checkpoint, the path of a file, or an address. "
                f"Received: {name}, and there is no such file.{nearest} `keras-vit list` shows all."
            )
        if row.variant:
            return {"variant": row.variant, "image_size": row.image_size or DEFAULT_SIZE, "weights": row.name}
    with open_checkpoint(name, require_architecture=True) as opened:
        shown = opened.architecture
    if shown is None:
        raise ValueError(f"Expected a checkpoint that shows its architecture. Received: {name}. Add variant=NAME.")
    if keeps_head and shown.classes is None:
        raise ValueError(
            f"Expected a checkpoint with a head for head='kept'. Received: {name}, without. Set head=probe or head=new"
        )
    height, width = shown.image_size or (DEFAULT_SIZE,) * 2
    if height != width:
        raise ValueError(f"Expected a checkpoint of square images. Received: {name}, of {height} x {width} pixels.")
    model = {"variant": shown.name or shown.variant, "image_size": height, "weights": name}
    is_of_words = isinstance(shown.variant, Variant) and shown.variant.unit_embedding
    return model | {"head": "kept"} if is_of_words else model
