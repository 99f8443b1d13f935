"""The pictures of a run, and those to judge a model on."""

import numpy as np

from keras_vit.data.sources import Examples, open_source
from keras_vit.run_folder import recipe_of


def open_data(recipe):
    """Returns the `Source` of a recipe; a ValueError if it leaves no pictures to test on."""
    source = open_source(
        recipe.data,
        data_dir=recipe.data_dir,
        train_split=recipe.train_split,
        validation_split=recipe.validation_split,
        test_split=recipe.test_split,
        validation=recipe.validation,
        test=recipe.test,
        seed=recipe.seed,
        on_bad_image=recipe.on_bad_image,
    )
    if not len(source.test.labels):
        raise ValueError(f"{recipe.data} leaves no pictures to test on. Raise test, the part kept aside, above 0.")
    return source


def examples_for(path, class_names, data=None):
    """Returns the examples to judge a model on, and others of the same data; labels number the model's classes.

    Args:
        path: the model's file; a recipe beside it tells its data.
        class_names: of the model.
        data: what `open_source` takes; None for that of the run that the file came from.

    Returns:
        The test and the training pictures; twice the same object, all pictures, where none are to test on.

    Raises:
        ValueError: if there is no data, or it has a class that the model has not.
    """
    if data is None:
        recipe = recipe_of(path)
        if recipe is None:
            raise ValueError(f"Expected pictures to judge {path} on: a folder of class folders. Received none.")
        source = open_data(recipe)
    else:
        source = open_source(data, **({} if data == "digits" else {"validation": 0.0, "test": 0.0}))
    unknown = sorted(set(source.class_names) - set(class_names))
    if unknown:
        raise ValueError(
            f"Expected pictures of the model's classes, {', '.join(class_names)}. "
            f"Received classes it does not have: {', '.join(unknown)}"
        )
    numbers = np.array([class_names.index(name) for name in source.class_names])
    train, test = (Examples(it.pictures, numbers[it.labels], it.names) for it in (source.train, source.test))
    return (test, train) if len(test.labels) else (train, train)
