"""Class numbers from class names, wnids or a text file of them, as ImageNet-V2, -A and -R use them."""

import difflib
import os
import pathlib
from collections.abc import Iterable, Sequence


def find_classes(entries: Iterable[str], *namings: Sequence[str]) -> list[int]:
    """Returns the numbers of classes from their names.

    Args:
        entries: Names of classes.
        namings: Sequences with a name for every class, in the order of the classes: words, wnids, numbers. An entry
            that occurs in one of them is not looked up in the next.

    Returns:
        The class numbers, in the order of the entries.

    Raises:
        ValueError: If entries are unknown, or a name belongs to two classes; all of a kind in one message.

    Example:
        ```python
        from keras_vit.evaluation.class_subsets import find_classes

        assert find_classes(["zebra", "n01440764"], ("tench", "zebra"), ("n01440764", "n02391049")) == [1, 0]
        ```
    """
    entries = list(entries)
    known: dict[str, list[int]] = {}
    for naming in namings:
        numbers_of: dict[str, list[int]] = {}
        for number, name in enumerate(naming):
            numbers_of.setdefault(name, []).append(number)
        known = numbers_of | known
    unknown = [entry for entry in dict.fromkeys(entries) if entry not in known]
    if unknown:
        nearest = {entry: difflib.get_close_matches(entry, known, 1) for entry in unknown[:20]}
        listed = [f"{entry} (nearest: {names[0]})" if names else entry for entry, names in nearest.items()]
        more = f" and {len(unknown) - 20:,} more" if len(unknown) > 20 else ""
        raise ValueError(
            f"Expected the model's classes, {_first_ten(namings[0])}. "
            f"Received unknown classes: {', '.join(listed)}{more}"
        )
    shared = {entry: known[entry] for entry in entries if len(known[entry]) > 1}
    if shared:
        text = ", ".join(f"{entry} for {' and '.join(map(str, numbers))}" for entry, numbers in shared.items())
        raise ValueError(f"Expected names of one class each. Received: {text}. Use class numbers or wnids instead.")
    return [known[entry][0] for entry in entries]


def read_classes(path: str | os.PathLike[str], *namings: Sequence[str]) -> list[int]:
    """Reads a text file of classes, one a line, and returns their numbers in rising order.

    Args:
        path: The file, in UTF-8.
        namings: As of `find_classes`.

    Raises:
        ValueError: If the file cannot be read or is empty, or for the reasons of `find_classes`.
    """
    try:
        lines = pathlib.Path(path).read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ValueError(f"Expected a list of classes, a text file. {path} cannot be read: {error}") from error
    entries = [line.strip() for line in lines if line.strip()]
    if not entries:
        raise ValueError(f"Expected a list of classes, one a line. Received: {path}, which is empty")
    return sorted(set(find_classes(entries, *namings)))


def _first_ten(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10:,} more" if len(names) > 10 else "")
