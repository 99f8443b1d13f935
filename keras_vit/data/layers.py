"""keras-cv's augmentation layers, by name."""

import ast
import difflib

import tensorflow as tf

_OURS = {"MixUp": "mixup=", "CutMix": "cutmix="}  # need labels, which the layers here are not given


def keras_cv_layers(names):
    """Returns a function that passes pictures, (batch, rows, columns, 3) of 0 to 255, through keras-cv's layers.

    It gives float32 in whole grey levels. The layers draw their own random numbers from a state of their own: unlike
    all other augmentation, theirs differs from run to run, and from part to part of a batch.

    Args:
        names: a layer each, by name ("GridMask") or with arguments that are plain values
            ("RandAugment(value_range=(0, 255), magnitude=0.4)").

    Raises:
        ImportError: if keras-cv is not installed.
        ValueError: if there is no such layer, it is not read as described, or its arguments do not fit.
    """
    calls = [_call(name) for name in names]
    try:
        import keras_cv.layers as available
    except ImportError as error:
        raise ImportError('keras_cv= needs the extra "keras-cv": pip install keras-cv') from error
    layers = [_layer(available, *call) for call in calls]

    def change(images):
        images = tf.cast(images, tf.float32)
        for layer in layers:
            images = tf.ensure_shape(layer(images, training=True), images.shape)
        return tf.clip_by_value(tf.round(tf.cast(images, tf.float32)), 0, 255)

    return change


def _call(text):
    """Reads "Name" or "Name(argument=value, ...)" into (name, arguments) without running it."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        call = tree if isinstance(tree, ast.Call) else ast.Call(tree, [], [])
        arguments = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise ValueError(_EXPECTED.format(text)) from error
    if not isinstance(call.func, ast.Name) or call.args or None in arguments:
        raise ValueError(_EXPECTED.format(text))
    if call.func.id in _OURS:
        raise ValueError(f"{call.func.id} is our own: set {_OURS[call.func.id]} instead. Received: keras_cv={text!r}")
    return call.func.id, arguments


_EXPECTED = (
    'Expected the name of a keras-cv layer, alone or with named arguments that are plain values, such as "GridMask" or '
    '"RandomHue(factor=0.2, value_range=(0, 255))". Received: keras_cv={!r}'
)


def _layer(available, name, arguments):
    layer = getattr(available, name, None)
    if not isinstance(layer, type) or not any("ImageAugmentationLayer" in base.__name__ for base in layer.__mro__):
        close = difflib.get_close_matches(name, dir(available), n=3)
        hint = f"; near it: {', '.join(close)}" if close else ""
        raise ValueError(f"keras-cv has no augmentation layer of that name{hint}. Received: keras_cv={name!r}")
    try:
        return layer(**arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} of keras-cv does not take these arguments: {error}. Received: {arguments}") from error
