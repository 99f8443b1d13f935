"""The docstrings: every public name explains its arguments, and every example runs as it stands."""

import ast
import importlib
import inspect
import pathlib
import re

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.models.config import VARIANTS

PACKAGE = pathlib.Path(keras_vit.__file__).parent
MAX_COLUMNS = 120

# Examples that compile a training step or start a converter anew; `make test-all` runs them.
SLOW_EXAMPLES = {
    "export/api.py:onnx",
    "export/api.py:openvino",
    "export/api.py:savedmodel",
    "training/fit.py:train",
    "training/lr_finder.py:search_learning_rate",
    "training/trainer.py:make_trainer",
}


def public_names():
    """Yields the full name of everything that an `__all__` lists."""
    for module in (keras_vit, *(importlib.import_module(f"keras_vit.{part}") for part in keras_vit._PARTS)):
        for name in getattr(module, "__all__", ()):
            yield f"{module.__name__}.{name}"


def resolved(full_name):
    module, name = full_name.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)


def sections(docstring):
    """Returns {title: text} of a cleaned docstring; the text before the first section has the title ""."""
    parts = re.split(r"^([A-Z]\w+):(?=\s)", docstring, flags=re.MULTILINE)
    return {"": parts[0], **{title: inspect.cleandoc(text) for title, text in zip(parts[1::2], parts[2::2])}}


def examples(docstring):
    """Returns the Python blocks of a cleaned docstring."""
    return [inspect.cleandoc(block).rstrip() for block in re.findall(r"```python\n(.*?)```", docstring, re.DOTALL)]


def documented_arguments(text):
    """Returns the names that a section of arguments explains, but for `kwargs`; several may share one explanation."""
    entries = [line for line in text.splitlines() if line and not line.startswith(" ")]
    names = [name.strip("* ") for entry in entries for name in entry.partition(": ")[0].rstrip(":").split(",")]
    return [name for name in names if name != "kwargs"]


def arguments(thing):
    """Returns the names of the arguments of a function or a class, but for `kwargs`, which goes to Keras."""
    if inspect.isclass(thing):
        owner = next(base for base in thing.__mro__ if "__init__" in vars(base) or "__new__" in vars(base))
        if not owner.__module__.startswith("keras_vit"):
            return []
    return [name for name in inspect.signature(thing).parameters if name != "kwargs"]


def faults(thing):
    """Returns what the docstring of a public function, class or module lacks, a sentence each."""
    if not thing.__doc__:
        return ["no docstring"]
    docstring = inspect.cleandoc(thing.__doc__)
    first, parts = docstring.splitlines()[0], sections(docstring)
    result = []
    if not re.fullmatch(r"[A-Z0-9`].*\.", first) or len(first) > MAX_COLUMNS:
        result.append(f"the first line is no sentence of at most {MAX_COLUMNS} columns: {first}")
    if inspect.ismodule(thing):
        return result
    if inspect.isclass(thing) and issubclass(thing, BaseException):
        return result
    expected, documented = arguments(thing), documented_arguments(parts.get("Args", ""))
    if sorted(expected) != sorted(documented):
        result.append(f"Args names {documented}, the signature {expected}")
    returns = inspect.isfunction(thing) and inspect.signature(thing).return_annotation not in (None, "None")
    if returns and not {"Returns", "Yields"} & {*parts}:
        result.append("no Returns")
    if not examples(parts.get("Example", "")):
        result.append("no Example with a Python block")
    return result


@pytest.mark.parametrize("name", list(public_names()))
def test_a_public_name_is_documented(name):
    thing = resolved(name)
    if not (inspect.isclass(thing) or inspect.isroutine(thing) or inspect.ismodule(thing)):
        return  # a constant
    assert faults(thing) == []


def written_examples():
    """Yields each Python block of the package's docstrings with its place."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                place = f"{path.relative_to(PACKAGE)}:{getattr(node, 'name', '')}"
                for i, block in enumerate(examples(ast.get_docstring(node) or "")):
                    marks = pytest.mark.soak if place in SLOW_EXAMPLES else ()
                    yield pytest.param(block, id=f"{place}{f'-{i}' if i else ''}", marks=marks)


def examples_of_builders():
    """Yields the example of each builder whose model is small; they differ in the builder's name alone."""
    for variant, row in VARIANTS.items():
        if row.parameters < 7e6:
            name = variant.replace("-", "_").replace("+", "_").replace("/", "")
            yield pytest.param(*examples(inspect.getdoc(getattr(keras_vit, name))), id=name)


@pytest.mark.parametrize("block", [*written_examples(), *examples_of_builders()])
def test_an_example_runs(block, tmp_path, monkeypatch, words, oracle):
    monkeypatch.chdir(tmp_path)
    if "tiny_clip" in block:
        words.write(oracle, "clip", tmp_path / "tiny_clip")
    keras.utils.set_random_seed(0)
    exec(compile(block, "<example>", "exec"), {"keras_vit": keras_vit, "np": np, "keras": keras})


def complete(image, size=2, *more, scale: int = 1, **options) -> int:
    """Scales an image.

    Args:
        image: pixels (height,
            width): of any size.
        size, scale: how much.
        *more: other images.
        **options: all else.

    Returns:
        A number.

    Example:
        ```python
        assert keras_vit
        ```
    """


def wrong(image):
    """scales"""


def nothing_to_return(**kwargs) -> None:
    """Does it.

    Example:
        ```python
        pass
        ```
    """


def renamed(image):
    """Scales an image.

    Args:
        photo: pixels.
    """


def test_the_check_itself():
    assert faults(complete) == faults(nothing_to_return) == []
    assert [fault.split(":")[0] for fault in faults(wrong)] == [
        "the first line is no sentence of at most 120 columns",
        "Args names [], the signature ['image']",
        "no Returns",
        "no Example with a Python block",
    ]
    assert faults(renamed)[0] == "Args names ['photo'], the signature ['image']"
    assert faults(lambda: 0) == ["no docstring"]
    assert examples(inspect.cleandoc(complete.__doc__)) == ["assert keras_vit"]
