"""Names of classes: which ones a labels.txt can hold, and how it is written and read."""

import pathlib
from collections import Counter

from keras_vit._atomic import write_text

FILE = "labels.txt"


def name_faults(names):
    """Returns what is wrong with names of classes, a sentence each: what any file with one name a line would lose.

    Args:
        names: in the order of a model's outputs.
    """
    faults = []
    if other := [name for name in names if not isinstance(name, str)]:
        return [f"names of classes that are no text: {_listed(other)}"]
    if blank := [i for i, name in enumerate(names) if not name.strip()]:
        faults.append(f"blank names of classes: numbers {_listed(blank)}; give each a name")
    # str.splitlines knows more line breaks than "\n": a reader of labels.txt in another language may, too.
    if broken := [
        name for name in names if name.strip() and (len(name.splitlines()) > 1 or name.splitlines()[0] != name)
    ]:
        faults.append(f"names of classes with a line break: {_listed(broken)}; a labels.txt holds one name a line")
    if control := [name for name in names if "\0" in name]:
        faults.append(f"names of classes with a NUL character: {_listed(control)}; rename them")
    if padded := [name for name in names if name.strip() and name != name.strip() and name not in broken]:
        faults.append(f"names of classes that begin or end with a space: {_listed(padded)}; rename them")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        faults.append(f"names of classes that stand for two classes: {_listed(twice)}; rename one of each")
    return faults


def refuse_names(names):
    """Raises a ValueError if a labels.txt cannot hold names of classes; all faults in one message."""
    if faults := name_faults(names):
        raise ValueError("Expected different names of classes of one line each. Received " + "; ".join(faults))


def usable_names(names):
    """Returns names as they were published, those that stand for several classes with their numbers behind them.

    None where a labels.txt could not hold them for another reason.
    """
    count = Counter(names)
    names = tuple(name if count[name] == 1 else f"{name} ({i})" for i, name in enumerate(names))
    return None if name_faults(names) else names


def names_for(path, own=None):
    """Returns the names of a model's classes: its own, or those in the labels.txt of its folder; None for none.

    Args:
        path: of its file or its folder.
        own: the names that the model itself has, or None.

    Raises:
        ValueError: if labels.txt cannot be used, or contradicts the model's own.
    """
    path = pathlib.Path(path)
    file = (path if path.is_dir() else path.parent) / FILE
    if not file.exists():
        return own
    names = read_names(file)
    if own and names != tuple(own):
        there, here = next((pair for pair in zip(names, own) if pair[0] != pair[1]), (len(names), len(own)))
        raise ValueError(
            f"{file} and {path.name} name other classes, {there!r} there and {here!r} in the model: they are not of "
            "one model. Correct or remove labels.txt."
        )
    return names


def write_names(path, names):
    """Writes a labels.txt, one name a line."""
    write_text(path, "".join(f"{name}\n" for name in names))


def read_names(path):
    """Returns the names in a labels.txt.

    Raises:
        ValueError: if it is no UTF-8 text, or names are blank or stand twice.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text. Save it as UTF-8, one name of a class a line.") from error
    names = tuple(line.removesuffix("\r") for line in text.removesuffix("\n").split("\n"))
    if faults := name_faults(names):
        raise ValueError(f"{path} cannot be used: {'; '.join(faults)}")
    return names


def _listed(values, most=5):
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(map(repr, values[:most])) + more
