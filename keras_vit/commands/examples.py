"""The images that a command works on: those of a recipe, and those to evaluate a model on."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_vit.commands.run_folder import recipe_beside
from keras_vit.data.decoding import read_file
from keras_vit.data.listing import Learns
from keras_vit.data.sources import Examples, Source, open_source
from keras_vit.evaluation.class_subsets import find_classes
from keras_vit.imagenet import class_names as imagenet_classes
from keras_vit.runtime.images import upright_size
from keras_vit.training.objectives import OBJECTIVES
from keras_vit.training.recipe import Recipe


def open_recipe_data(recipe: Recipe) -> Source:
    """Opens the images of a recipe.

    Args:
        recipe: the recipe.

    Raises:
        ValueError: if the data cannot be used, or has no test images.
    """
    return open_source(
        recipe.data,
        data_dir=recipe.data_dir,
        train_split=recipe.train_split,
        validation_split=recipe.validation_split,
        test_split=recipe.test_split,
        validation=recipe.validation,
        test=recipe.test,
        seed=recipe.split_seed,
        on_bad_image=recipe.on_bad_image,
        class_depth=recipe.class_depth,
        groups=recipe.groups,
        require_test=True,
        learns=None if recipe.objective is None else OBJECTIVES[recipe.objective].learns or "classes",
        target=recipe.target,
        corrections=recipe.corrections,
        channels=recipe.channels,
    )


def open_evaluation_data(
    path: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    test: float = 0.0,
    class_depth: int = 1,
    learns: Learns | None = None,
    target: Sequence[str] = (),
    channels: int = 3,
) -> Source:
    """Opens the images to evaluate a model on.

    Args:
        path: the file of the model.
        data: the images, as in `keras_vit.data.sources.open_source`; None for the data of the run that the model
            came from.
        test: the fraction of each class to use as test images, if `data` has no test split.
        class_depth: folder levels down to the class folders of `data`.
        learns, target, channels: as in `open_source`, of `data`.

    Raises:
        ValueError: if there is no data, or it cannot be used.
    """
    if data is None:
        recipe = recipe_beside(path)
        if recipe is None:
            raise ValueError(
                f"Expected images to evaluate {path} on: a folder of class folders. Received: no folder, and a model "
                "without a run"
            )
        return open_recipe_data(recipe)
    shares: dict[str, Any] = {} if data == "digits" else {"validation": 0.0, "test": test}
    return open_source(data, class_depth=class_depth, learns=learns, target=target, channels=channels, **shares)


def evaluation_split(source: Source) -> str:
    """Returns the split to evaluate a model on: "test" if it has images, else "validation", else "train".

    Args:
        source: the images.
    """
    return next(split for split in ("test", "validation", "train") if len(getattr(source, split).labels))


def accepted_class_names(class_names: Sequence[str], numbers: bool = False) -> tuple[Sequence[str], ...]:
    """Returns the lists of names that folders and text files may use for the classes of a model.

    Args:
        class_names: the class names of the model. For the ImageNet classes, WordNet IDs and numbers are accepted too.
        numbers: whether class numbers are accepted; they never are if a class name is a number.

    Returns:
        The lists, each with a name of every class, in the order of the classes.
    """
    wordnet_ids, names = zip(*imagenet_classes())
    imagenet = tuple(class_names) == names
    numbers = (numbers or imagenet) and not any(name.isdigit() for name in class_names)
    return (class_names, *[wordnet_ids] * imagenet, *[[str(i) for i in range(len(class_names))]] * numbers)


def renumber_labels(source: Source, class_names: Sequence[str]) -> dict[str, Examples]:
    """Returns the splits of a source with labels that index the classes of a model.

    Args:
        source: the images.
        class_names: the class names of the model.

    Returns:
        {"train", "validation" or "test": examples}.

    Raises:
        ValueError: if the source has a class that the model does not have.
    """
    splits = {split: getattr(source, split) for split in ("train", "validation", "test")}
    if source.learns == "numbers":
        columns = [source.class_names.index(name) for name in class_names]
        labels = {split: examples.labels[:, columns] for split, examples in splits.items()}
    else:
        numbers = np.array(find_classes(source.class_names, *accepted_class_names(class_names)))
        labels = {split: _renumbered(examples.labels, numbers, len(class_names)) for split, examples in splits.items()}
    return {split: Examples(examples.images, labels[split], examples.names) for split, examples in splits.items()}


def _renumbered(labels: np.ndarray, numbers: np.ndarray, count: int) -> np.ndarray:
    """Returns class numbers, or columns of labels, in the order of a model of `count` classes."""
    if labels.ndim == 1:
        return numbers[labels]
    renumbered = np.zeros((len(labels), count), labels.dtype)
    renumbered[:, numbers] = labels
    return renumbered


def evaluation_examples(
    path: str | os.PathLike[str],
    class_names: Sequence[str],
    data: str | os.PathLike[str] | None = None,
    learns: Learns | None = None,
    channels: int = 3,
) -> tuple[Examples, Examples]:
    """Returns the examples to evaluate a model on, and training examples of the same data.

    Args:
        path: the file of the model.
        class_names: the class names of the model, which the labels index.
        data, learns, channels: as in `open_evaluation_data`.

    Returns:
        (evaluation examples, training examples); the same object twice if the data has training images only.

    Raises:
        ValueError: if there is no data, or it has a class that the model does not have.
    """
    source = open_evaluation_data(path, data, learns=learns, channels=channels)
    splits = renumber_labels(source, class_names)
    return splits[evaluation_split(source)], splits["train"]


def needs_resize(file: Any, images: Sequence[Any]) -> bool:
    """Returns whether a client of an exported file has to resize any of the encoded images.

    Args:
        file: the exported file, as `keras_vit.runtime.files.open_exported` returns it.
        images: paths or bytes.
    """
    return any(upright_size(read_file(image)) != tuple(file.image_size) for image in images)


def resize_note(file: Any, accuracy: float, evaluation_accuracy: float | None = None) -> str:
    """Returns a sentence on the accuracy of an exported file on images that its client resizes.

    Args:
        file: the exported file, as `keras_vit.runtime.files.open_exported` returns it.
        accuracy: with the resize of the client, 0 to 1.
        evaluation_accuracy: with the resize of evaluation, 0 to 1; None if it is unknown.
    """
    height, width = file.image_size
    compared = "" if evaluation_accuracy is None else f", and {evaluation_accuracy:.2%} with the resize of evaluation"
    return (
        f"{file.path.name} reads images of {height} x {width} pixels and these images have another size: accuracy "
        f"{accuracy:.2%} with the client's own resize{compared}; if all images of a client have the same size, export "
        "the file for that size with --input-size HEIGHT WIDTH"
    )
