"""The images of a run, and those to judge a model on."""

import numpy as np

from keras_vit.commands.run_folder import recipe_of
from keras_vit.data.decoding import read_file
from keras_vit.data.sources import Examples, open_source
from keras_vit.evaluation.class_subsets import find_classes
from keras_vit.imagenet import class_names as imagenet_classes
from keras_vit.runtime.images import upright_size


def open_data(recipe):
    """Returns the `Source` of a recipe; a ValueError if it leaves no images to test on."""
    return open_source(
        recipe.data,
        data_dir=recipe.data_dir,
        train_split=recipe.train_split,
        validation_split=recipe.validation_split,
        test_split=recipe.test_split,
        validation=recipe.validation,
        test=recipe.test,
        seed=recipe.seed,
        on_bad_image=recipe.on_bad_image,
        class_depth=recipe.class_depth,
        require_test=True,
    )


def source_for(path, data=None, test=0.0, class_depth=1):
    """Returns the `Source` to judge a model on.

    Args:
        path: the model's file; a recipe beside it tells its data.
        data: what `open_source` takes; None for that of the run that the file came from.
        test: the part of each class to test on, where `data` has no test images of its own.
        class_depth: how many folders down the class folders of `data` lie, as of `open_source`.

    Raises:
        ValueError: if there is no data, or it cannot be used.
    """
    if data is None:
        recipe = recipe_of(path)
        if recipe is None:
            raise ValueError(f"Expected images to judge {path} on: a folder of class folders. Received none.")
        return open_data(recipe)
    shares = {} if data == "digits" else {"validation": 0.0, "test": test}
    return open_source(data, class_depth=class_depth, **shares)


def evaluation_split(source):
    """Returns the name of the split to judge a model on: test, or validation, or all that there is, train."""
    return next(split for split in ("test", "validation", "train") if len(getattr(source, split).labels))


def namings(class_names, numbers=False):
    """Returns the ways in which folders and lists name a model's classes, each the names of all of them.

    Args:
        class_names: of the model; ImageNet's have wnids and numbers beside.
        numbers: whether their numbers are names of theirs, too; never where a class is called by a number.
    """
    wnids, names = zip(*imagenet_classes())
    imagenet = tuple(class_names) == names
    numbers = (numbers or imagenet) and not any(name.isdigit() for name in class_names)
    return (class_names, *[wnids] * imagenet, *[[str(i) for i in range(len(class_names))]] * numbers)


def in_classes(source, class_names):
    """Returns {split: `Examples`} of a source whose labels number a model's classes.

    Raises:
        ValueError: if it has a class that the model has not.
    """
    numbers = np.array(find_classes(source.class_names, *namings(class_names)))
    splits = {split: getattr(source, split) for split in ("train", "validation", "test")}
    return {split: Examples(it.images, numbers[it.labels], it.names) for split, it in splits.items()}


def resizes(file, images) -> bool:
    """Returns whether a client of an exported file has to resize one of the encoded images."""
    return any(upright_size(read_file(image)) != tuple(file.image_size) for image in images)


def resize_note(file, accuracy: float, other: float | None = None) -> str:
    """Returns what to know of an accuracy on images that a client resizes to the size of an exported file.

    Args:
        file: as `keras_vit.runtime.files.open_exported` returns it.
        accuracy: through the client's resize.
        other: on the pixels as evaluation resizes them, where that is at hand.
    """
    rows, columns = file.image_size
    compared = "" if other is None else f", and {other:.2%} on the pixels as evaluation resizes them"
    return (
        f"{file.path.name} takes {rows} x {columns} pixels and the images are of another size: accuracy {accuracy:.2%} "
        f"through the client's own resize{compared}; if all the images of a client have one size, export the file for "
        "it, with --input-size ROWS COLUMNS"
    )


def examples_for(path, class_names, data=None):
    """Returns the examples to judge a model on, and others of the same data; labels number the model's classes.

    Args:
        path, data: as in `source_for`.
        class_names: of the model.

    Returns:
        The images to judge on and the training images; twice the same object where the training images are all.

    Raises:
        ValueError: if there is no data, or it has a class that the model has not.
    """
    source = source_for(path, data)
    examples = in_classes(source, class_names)
    return examples[evaluation_split(source)], examples["train"]
