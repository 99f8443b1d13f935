"""Finds what is wrong with images before a model is trained on them; `keras-vit check` and `fit` both print it."""

from collections import Counter, defaultdict
from dataclasses import replace

from keras_vit.data.listing import ListedImage, Listing, read_listing
from keras_vit.data.names import class_notes, class_problems
from keras_vit.data.splits import assign_splits


def find_problems(
    listing: Listing, *, validation: float, test: float, seed: int, require_test: bool
) -> tuple[Listing, tuple[ListedImage, ...]]:
    """Reads every image once, draws the splits that are missing, and names all that is wrong.

    Args:
        listing: the images, not read yet.
        validation: share to draw for validation, where the listing has no such split.
        test: the same for testing.
        seed: another seed draws other splits.
        require_test: whether it is a problem if no image is left to test on.

    Returns:
        The listing with images read and `problems` and `notes` complete, and the readable images in their splits.
    """
    listing = read_listing(listing)
    images = assign_splits(listing, validation=validation, test=test, seed=seed)
    problems = [*listing.problems, *class_problems(listing.class_names)]
    if require_test and images and not any(image.split == "test" for image in images):
        problems.append(_no_test(listing, images, test))
    notes = [*listing.notes, *class_notes(listing.class_names)]
    return replace(listing, problems=tuple(problems), notes=tuple(notes)), images


def _no_test(listing: Listing, images: tuple[ListedImage, ...], test: float) -> str:
    if "test" in listing.given:
        return "no image is left to test on: the test split is empty"
    if not test:
        return "no image is left to test on: test=0 keeps none aside; raise test"
    classes_of = defaultdict(set)
    for image in images:
        classes_of[image.digest].add(image.class_name)
    # Copies stay together, and what lies in two classes stays in train.
    own = Counter(name for names in classes_of.values() if len(names) == 1 for name in names)
    return (
        f"no image is left to test on: test={test} of {max(own.values(), default=0)} different images, the most that a "
        "class has to itself, rounds to none; add images (of 3 in a class, 1 is tested on) or raise test"
    )
