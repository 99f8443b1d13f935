"""Finds classes by name, as folders and lists of ImageNet-V2, -A and -R have them."""

import difflib
import pathlib


def find_classes(entries, *namings):
    """Returns the numbers of classes that are named in one way or another, a list in the order of the entries.

    Args:
        entries: names.
        namings: each a name of every class, in their order: words, wnids, numbers. What is in one is not looked for in
            the next.

    Raises:
        ValueError: if entries are unknown, or two classes share the name; all of a kind in one message.
    """
    known = {}
    for naming in namings:
        fresh = {}
        for number, name in enumerate(naming):
            fresh.setdefault(name, []).append(number)
        known = fresh | known
    unknown = [entry for entry in dict.fromkeys(entries) if entry not in known]
    if unknown:
        near = {entry: difflib.get_close_matches(entry, known, 1) for entry in unknown[:20]}
        told = [f"{entry} (nearest: {found[0]})" if found else entry for entry, found in near.items()]
        more = f" and {len(unknown) - 20:,} more" if len(unknown) > 20 else ""
        raise ValueError(
            f"Expected the model's classes, {_few(namings[0])}. "
            f"Received classes it does not have: {', '.join(told)}{more}"
        )
    shared = {entry: known[entry] for entry in entries if len(known[entry]) > 1}
    if shared:
        told = ", ".join(f"{entry} for {' and '.join(map(str, numbers))}" for entry, numbers in shared.items())
        raise ValueError(f"Expected names of one class each; name them by number or wnid. Received: {told}")
    return [known[entry][0] for entry in entries]


def read_classes(path, *namings):
    """Returns the numbers of the classes that a text file lists, one a line, in the order of the classes.

    Raises:
        ValueError: if it cannot be read, lists nothing, or names classes as `find_classes` refuses them.
    """
    try:
        lines = pathlib.Path(path).read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ValueError(f"Expected a list of classes, a text file. {path} cannot be read: {error}") from error
    entries = [line.strip() for line in lines if line.strip()]
    if not entries:
        raise ValueError(f"Expected a list of classes, one a line. Received: {path}, which is empty")
    return sorted(set(find_classes(entries, *namings)))


def _few(names):
    return ", ".join(names[:10]) + (f" and {len(names) - 10:,} more" if len(names) > 10 else "")
