"""A run's settings."""

import ast
import contextlib
import dataclasses
import difflib
import math
import types
import typing

from keras_vit.variants import ResNet, Variant


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Describes a training run: what is trained, on what, how, and what is made of it.

    Args:
        data: "digits" (embedded), or a folder of class folders.
        variant: name of an architecture, such as "ViT-S/16", or a `Variant` or `ResNet`.
        image_size: side of the pictures that enter the model, pixels.
        weights: checkpoint to start from, as in `keras_vit.build`; None to start from nothing.
        pooling: what the head reads; None is the variant's own.
        gelu: "tanh" or "erf"; None is the checkpoint's own, or "tanh".
        dropout: rate after each dense layer and after the positions.
        stochastic_depth: rate of dropped branches in the last block.
        epochs: passes over the training pictures.
        batch_size: pictures a step.
        learning_rate: at the end of the warm-up; follows a half cosine to 0 from there.
        warmup_epochs: epochs of linear growth at the start.
        weight_decay: decoupled, on kernels alone.
        clip_norm: bound on the global norm of the gradients; 0 for none.
        label_smoothing: part of each label spread over all classes.
        rotate: augmentation: largest angle to either side, degrees.
        shift: augmentation: largest shift to either side, part of the picture's side.
        zoom: augmentation: largest change of size either way, part of the size.
        shear: augmentation: largest shear to either side, part of the picture's side.
        flip: augmentation: whether half of the pictures are mirrored left to right.
        validation: part of the training pictures kept aside for the curves, where the data has no such split.
        test: part of all pictures kept aside for the final score, where the data has no such split.
        seed: of the split, the first weights, the order and the augmentation.
        on_bad_image: "error", or "skip" to go on without pictures that cannot be read.
        exports: files to make of the trained model: "savedmodel", "tflite-float32", "tflite-int8".

    Raises:
        TypeError: if fields have another type; all of them in one message.
        ValueError: if fields are out of their range; all of them in one message.
    """

    data: str
    variant: str | Variant | ResNet
    image_size: int
    weights: str | None = None
    pooling: str | None = None
    gelu: str | None = None
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-3
    warmup_epochs: int = 1
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    label_smoothing: float = 0.1
    rotate: float = 0.0
    shift: float = 0.0
    zoom: float = 0.0
    shear: float = 0.0
    flip: bool = False
    validation: float = 0.1
    test: float = 0.2
    seed: int = 0
    on_bad_image: str = "error"
    exports: tuple[str, ...] = ("savedmodel", "tflite-float32", "tflite-int8")

    def __post_init__(self):
        wrong = [
            f"  {name}={getattr(self, name)!r}, expected {_words(kind)}"
            for name, kind in FIELDS.items()
            if not _fits(getattr(self, name), kind)
        ]
        if wrong:
            raise TypeError("Fields of the recipe have the wrong type. Received:\n" + "\n".join(wrong))
        wrong = [
            f"  {name}={getattr(self, name)!r}, expected {words}"
            for names, words, holds in RANGES
            for name in names
            if not holds(getattr(self, name))
        ]
        if wrong:
            raise ValueError("Fields of the recipe are out of their range. Received:\n" + "\n".join(wrong))


FIELDS = typing.get_type_hints(Recipe)
RANGES = (
    (("image_size", "epochs", "batch_size"), "1 or more", lambda value: value >= 1),
    (("learning_rate",), "more than 0", lambda value: 0 < value < math.inf),
    (
        ("warmup_epochs", "weight_decay", "clip_norm", "rotate", "shift", "zoom", "shear", "seed"),
        "0 or more",
        lambda value: 0 <= value < math.inf,
    ),
    (
        ("dropout", "stochastic_depth", "label_smoothing", "validation", "test"),
        "0 or more and less than 1",
        lambda value: 0 <= value < 1,
    ),
    (("on_bad_image",), "'error' or 'skip'", lambda value: value in ("error", "skip")),
    (("gelu",), "None, 'tanh' or 'erf'", lambda value: value in (None, "tanh", "erf")),
)


def change(recipe, settings):
    """Returns the recipe with fields changed by "field=value" texts.

    Raises:
        ValueError: if a text is no such pair, a field does not exist (the nearest names are offered) or a value cannot
            be read as the field's type; all faults in one message.
    """
    changes, faults = {}, []
    for setting in settings:
        name, equals, text = setting.partition("=")
        values = [value for value in _readings(text) if name in FIELDS and _fits(value, FIELDS[name])]
        if not equals:
            faults.append(f"  {setting!r}: expected field=value")
        elif name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, n=3, cutoff=0.4) or sorted(FIELDS)
            faults.append(f"  {name!r} is no field of a recipe. Nearest: {', '.join(near)}")
        elif not values:
            faults.append(f"  {name}={text!r}: expected {_words(FIELDS[name])}")
        else:
            changes[name] = values[0]
    if faults:
        raise ValueError("The settings cannot be used:\n" + "\n".join(faults))
    return dataclasses.replace(recipe, **changes)


def _readings(text):
    """Yields what a text from the command line can stand for: a Python value, itself, a list of names."""
    with contextlib.suppress(ValueError, SyntaxError):
        yield ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
    yield text
    yield tuple(part for part in text.split(",") if part)


def _kinds(kind):
    return typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)


def _fits(value, kind):
    for one in _kinds(kind):
        if typing.get_origin(one) is tuple:
            if isinstance(value, tuple) and all(isinstance(item, str) for item in value):
                return True
        elif isinstance(value, bool):
            if one is bool:
                return True
        elif isinstance(value, (int, float) if one is float else one):
            return True
    return False


def _words(kind):
    names = {str: "text", int: "a whole number", float: "a number", bool: "True or False", types.NoneType: "None"}
    return " or ".join(
        names.get(one, "names with commas between" if typing.get_origin(one) else one.__name__) for one in _kinds(kind)
    )
