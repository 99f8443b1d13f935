"""What a finished model reads and returns, traced through its graph: the pixel contract, and the kind of its outputs.

Neither depends on the model's class: a functional model around our layers, a `Sequential`, a clone or a model that was
saved and loaded are traced alike, at any depth of nesting.
"""

import dataclasses
from collections.abc import Callable, Sequence

import keras
import numpy as np

from keras_vit import _compat
from keras_vit.layers import Patches, Stem
from keras_vit.models.config import OUTPUT_KINDS
from keras_vit.preprocessing import CONTRACT_WORDS, CONTRACTS, Pixels, as_pixels

# ---------------------------------------------------------------------------------------------------------------------
# Pixels

# Layers and operations that may stand in front of the first layer of ours, by name: scaling, resizing and cropping,
# and what does nothing outside of training. Augmentation layers are called Random..., of other packages too.
IN_FRONT = {"Rescaling", "Normalization", "Resizing", "CenterCrop", "InputLayer", "Identity", "Activation", "Pipeline"}
IN_FRONT |= {
    "Dropout",
    "SpatialDropout2D",
    "GaussianNoise",
    "GaussianDropout",
    "AlphaDropout",
    "ActivityRegularization",
}
IN_FRONT |= {"RandAugment", "AugMix", "MixUp", "CutMix"}
IN_FRONT |= {"Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Negative", "Cast", "Resize"}  # operations

PROBE = (0.0, 51.0, 204.0, 255.0)  # grey levels
PROBE_SIDE = 32  # pixels, of a model whose input size is open
CLOSE = 0.02  # between two contracts' values; a grey level is 0.004 in the narrowest, 0.017 for ImageNet's std
# A layer that scales brings its input to a range of about this width; images of 0 to 255 or of 0 to 1 lie far apart.
SCALED_RANGE = (0.2, 20.0)

HOW = f"Say it outright: pixels= (on the command line --pixels), one of {CONTRACT_WORDS}"


@dataclasses.dataclass(frozen=True, eq=False)
class _Entrance:
    """A layer of ours that reads the images, and what happens to them before."""

    pixels: Pixels  # as the layer reads them
    front: Callable  # from the model's input to the layer's


def pixels_of(model: keras.Model, pixels: "Pixels | str | dict | None" = None) -> Pixels:
    """Returns the pixel contract of a model: how the images that enter it are made from RGB pixels of 0 to 255.

    It is the contract that our first layer keeps (`Patches` or `Stem`), where the images reach it directly. Layers in
    front that scale, resize, crop or augment are counted in: most such models take raw pixels.

    Args:
        model: any Keras model with layers of ours, (batch, height, width, channels) images first.
        pixels: the contract, where the caller knows it; see `keras_vit.preprocessing.as_pixels`.

    Raises:
        ValueError: if the model does not tell: no layers of ours, an unknown layer in front of them, or two that
            disagree. The message says what to pass.

    Example:
        >>> vit = keras_vit.build(keras_vit.Variant(8, 32, 2, 2, 64), input_shape=(32, 32, 3))
        >>> keras_vit.pixels_of(vit).words
        'pixel / 127.5 - 1, from -1 to 1'
        >>> images = keras.Input((32, 32, 3))
        >>> model = keras.Model(images, vit(keras.layers.Rescaling(1 / 127.5, -1)(images)))
        >>> keras_vit.pixels_of(model).words
        'pixel, from 0 to 255 as it is'
    """
    if pixels is not None:
        return as_pixels(pixels)
    if said := getattr(model, "said_pixels", None):
        return said
    if not _compat.is_graph(model):
        raise ValueError(
            f"{model.name!r} does not tell what pixels it reads. Received: a model that is not functional, or a "
            f"Sequential that is not built yet (call it on a batch, or put keras.Input first). {HOW}"
        )
    if len(model.inputs) != 1:
        raise ValueError(f"Expected a model of one input, images. Received: {_inputs_of(model)}. {HOW}")
    entrances, unknown = _entrances(model, lambda images: images)
    if not entrances:
        what = f"{', '.join(unknown)} in front of the layers of keras_vit" if unknown else "no layers of keras_vit"
        if unknown and not _has_ours(model):
            what = "no layers of keras_vit"
        raise ValueError(f"{model.name!r} does not tell what pixels it reads. Received: a model with {what}. {HOW}")
    found = list(dict.fromkeys(_contract(model, entrance) for entrance in entrances))
    if len(found) > 1:
        raise ValueError(
            f"{model.name!r} has layers that read the same input in different ways: "
            f"{'; '.join(contract.words for contract in found)}. {HOW}"
        )
    return found[0]


def image_size_of(model: keras.Model) -> tuple[int, int]:
    """Returns the (height, width) in pixels of the images that a model reads; of an open size, what it resizes to.

    Raises:
        ValueError: if the model takes images of any size and does not resize them.
    """
    size = tuple(model.inputs[0].shape[1:3])
    if None not in size:
        return size
    resizing = _first(model, keras.layers.Resizing)
    if resizing is None:
        raise ValueError(
            f"Expected a model that reads images of a known size. Received: {model.name!r}, which takes {size}, and no "
            "Resizing layer in it"
        )
    return resizing.height, resizing.width


def _first(model, kind):
    for node in _compat.graph_nodes(model):
        found = node.operation if isinstance(node.operation, kind) else None
        if found := found or (_first(node.operation, kind) if _compat.is_graph(node.operation) else None):
            return found
    return None


def set_pixels(model: keras.Model, pixels: Pixels) -> bool:
    """Keeps a contract in the layers of a model that the images reach as they are; returns whether there are any."""
    layers = list(_direct(model))
    for layer in layers:
        layer.pixels = pixels
    return bool(layers)


def _contract(model, entrance):
    """Returns the contract at a model's input, from that of the layer which reads the images."""
    channels = model.inputs[0].shape[-1] or 3
    inner = entrance.pixels.for_channels(channels)
    factor, offset = _affine(model, entrance.front, channels)
    if np.allclose(factor, 1) and np.allclose(offset, 0):
        return entrance.pixels
    levels = np.array(PROBE)[:, None]
    expected = levels * inner.scale + inner.offset
    for contract in CONTRACTS.values():
        outer = contract.for_channels(channels)
        if np.abs((levels * outer.scale + outer.offset) * factor + offset - expected).max() < CLOSE:
            return dataclasses.replace(entrance.pixels, mean=contract.mean, std=contract.std)
    if all(SCALED_RANGE[0] <= width <= SCALED_RANGE[1] for width in np.abs(255 * factor)):
        raw = CONTRACTS["raw"]  # whatever the layers scale to, it is pixels that they scale
        return dataclasses.replace(entrance.pixels, mean=raw.mean, std=raw.std)
    raise ValueError(
        f"{model.name!r} does not tell what pixels it reads: the layers in front of those of keras_vit multiply by "
        f"{np.round(factor, 4).tolist()} and add {np.round(offset, 4).tolist()}, which fits neither pixels of 0 to 255 "
        f"nor those of another usual range. {HOW}"
    )


def _affine(model, front, channels):
    """Returns (factor, offset), each (channels,), by which the layers in front change a grey level."""
    height, width = (side or PROBE_SIDE for side in model.inputs[0].shape[1:3])
    images = np.broadcast_to(np.float32(PROBE)[:, None, None, None], (len(PROBE), height, width, channels))
    seen = keras.ops.convert_to_numpy(front(keras.ops.convert_to_tensor(images))).astype(np.float64)
    flat = seen.reshape(len(PROBE), -1, seen.shape[-1])
    factor = (flat[-1, 0] - flat[0, 0]) / (PROBE[-1] - PROBE[0])
    offset = flat[0, 0] - factor * PROBE[0]
    line = np.array(PROBE)[:, None, None] * factor + offset
    if seen.shape[-1] != channels or not np.abs(flat - line).max() <= CLOSE * max(1.0, np.abs(line).max()):
        raise ValueError(
            f"{model.name!r} does not tell what pixels it reads: the layers in front of those of keras_vit change them "
            f"by more than a factor and a term. {HOW}"
        )
    return factor, offset


def _entrances(model, front):
    """Returns the `_Entrance`s of a model, and the names of the layers that no way in could be followed through.

    Args:
        model: functional or Sequential.
        front: from the outermost model's input to this one's.
    """
    found, unknown, carried = [], [], {id(tensor) for tensor in model.inputs}
    for node in _compat.graph_nodes(model):
        reads = [tensor for tensor in node.input_tensors if id(tensor) in carried]
        if not reads:
            continue
        layer = node.operation
        until = _composed(front, model.inputs, reads[0])
        if isinstance(layer, (Patches, Stem)):
            found.append(_Entrance(layer.pixels, until))
        elif getattr(layer, "said_pixels", None):
            found.append(_Entrance(layer.said_pixels, until))
        elif _compat.is_graph(layer):
            inside, more = _entrances(layer, until)
            found, unknown = found + inside, unknown + more
            if not inside and not more:
                carried |= {id(tensor) for tensor in node.outputs}
        elif _is_known(layer) and len(node.input_tensors) == 1:
            carried |= {id(tensor) for tensor in node.outputs}
        else:
            unknown.append(f"{type(layer).__name__} {layer.name!r}")
    return found, unknown


def _direct(model):
    """Yields the layers of ours that the images reach as they are."""
    same = {id(tensor) for tensor in model.inputs}
    for node in _compat.graph_nodes(model):
        if any(id(tensor) in same for tensor in node.input_tensors):
            if isinstance(node.operation, (Patches, Stem)):
                yield node.operation
            elif _compat.is_graph(node.operation):
                yield from _direct(node.operation)


def _composed(front, inputs, tensor):
    """Returns the function from the outermost input to a tensor of a nested model."""
    if any(tensor is one for one in inputs):
        return front
    inner = keras.Model(inputs, tensor)
    return lambda images: inner(front(images), training=False)


def _is_known(layer):
    name = type(layer).__name__
    if name == "Activation":
        return layer.activation is keras.activations.linear
    return name in IN_FRONT or (isinstance(layer, keras.layers.Layer) and name.startswith("Random"))


def _has_ours(model):
    return any(
        isinstance(node.operation, (Patches, Stem)) or (_compat.is_graph(node.operation) and _has_ours(node.operation))
        for node in _compat.graph_nodes(model)
    )


def _inputs_of(model):
    return "; ".join(f"{tensor.name} {tuple(tensor.shape)}" for tensor in model.inputs)


# ---------------------------------------------------------------------------------------------------------------------
# Outputs

# What lets its input through as it is, or in another shape or number type, in use.
THROUGH = {"Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout", "AlphaDropout", "ActivityRegularization"}
THROUGH |= {"Identity", "Reshape", "Flatten", "Cast", "Squeeze"}
TAKEN = {"probabilities", "features", "rollout"}  # names of outputs that an exported file has for something else
LINEAR = (keras.layers.Dense, keras.layers.EinsumDense, keras.layers.Conv1D, keras.layers.Conv2D)


def outputs_of(model: keras.Model, outputs: str | None = None, class_names: Sequence[str] | None = None) -> str:
    """Returns the kind of a model's outputs, out of `OUTPUT_KINDS`.

    The last activation is traced through linear activations, dropout, casts, reshapes and nested models. A softmax
    gives probabilities and a sigmoid scores; several linear outputs are logits. One output without a sigmoid is a
    number, or the logit of the second of two classes where `class_names` has two.

    Args:
        model: any Keras model.
        outputs: the kind, where the caller knows it.
        class_names: of the outputs, where they are known.

    Raises:
        ValueError: if the kind is unknown, cannot be traced, or is none that the shape of the outputs allows.
    """
    if outputs is not None and outputs not in OUTPUT_KINDS:
        raise ValueError(f"Expected outputs to be one of {tuple(OUTPUT_KINDS)}. Received: outputs={outputs!r}")
    if not _compat.is_graph(model):
        if outputs is None:
            raise ValueError(
                f"{model.name!r} does not tell what its outputs are. Received: a model that is not functional, or a "
                "Sequential that is not built yet (call it on a batch, or put keras.Input first). Say it outright: "
                f"outputs= (on the command line --outputs), one of {tuple(OUTPUT_KINDS)}"
            )
        return outputs
    shapes = [tuple(tensor.shape) for tensor in model.outputs]
    flat = len(shapes) == 1 and len(shapes[0]) == 2 and shapes[0][1] is not None
    if outputs == "numbers":
        return outputs
    if not flat:
        raise ValueError(
            f"Expected a model of one output, (batch, classes). Received: {_outputs_of(model)}. Say outputs='numbers' "
            "(on the command line --outputs numbers) to have all of them served by name as they are"
            + (", or choose one: keras.Model(model.inputs, model.outputs[0])" if len(shapes) > 1 else "")
        )
    traced = _activation(model.outputs[0])
    count = shapes[0][1]
    if outputs == "probabilities" and count == 1 and class_names is not None and len(class_names) == 2:
        outputs = "scores"  # a binary head: the probability of its second class
    if outputs is None:
        outputs = traced
        if count == 1 and traced != "scores" and traced != "probabilities":
            outputs = "logits" if class_names is not None and len(class_names) == 2 and traced else "numbers"
    if outputs is None:
        raise ValueError(
            f"{model.name!r} does not tell what its outputs {shapes[0]} are: they end in {_last(model.outputs[0])}. "
            f"Say it outright: outputs= (on the command line --outputs), one of {tuple(OUTPUT_KINDS)}"
        )
    if count == 1 and outputs == "probabilities":
        raise ValueError(
            f"Expected probabilities of two classes or more. Received: {model.name!r}, a softmax over one output, "
            "which is 1 for every image. Use a sigmoid for two classes, no activation for a number"
        )
    return outputs


def served(model: keras.Model, outputs: str, class_names: Sequence[str] | None = None) -> keras.Model:
    """Returns the model with its outputs as a client reads them: logits as probabilities, a binary head as two classes.

    Args:
        model: the model.
        outputs: the kind of its outputs, out of `OUTPUT_KINDS`.
        class_names: two names make a binary head of one output.

    Returns:
        The model itself where nothing is to be done, else one on the same weights.
    """
    if outputs in ("numbers", "probabilities"):
        return model
    (x,), count = model.outputs, model.output_shape[-1]
    if outputs == "logits":
        kind = "sigmoid" if count == 1 else "softmax"
        x = keras.layers.Activation(kind, dtype="float32", name=_free_name(model, kind))(x)
    if count == 1 and (class_names is None or len(class_names) == 2):
        x = keras.layers.Concatenate(name=_free_name(model, "both"))([1.0 - x, x])
    return model if x is model.outputs[0] else keras.Model(model.inputs, x, name=model.name)


def in_float32(model: keras.Model) -> keras.Model:
    """Returns a model that computes in float32 with the same weights: itself where it does already.

    A model of mixed precision computes in 16 bits, which TFLite's own operators do not cover.
    """
    if not any(layer.compute_dtype in ("float16", "bfloat16") for layer in (model, *_compat.layers_inside(model))):
        return model

    def copy(layer):
        return type(layer).from_config({**layer.get_config(), "dtype": "float32"})

    plain = keras.models.clone_model(model, clone_function=copy, recursive=True)
    plain.set_weights(model.get_weights())
    return plain


def numbers_of(model: keras.Model) -> dict:
    """Returns {name: tensor} of all outputs of a model, served as they are; a single one is called "numbers"."""
    if len(model.outputs) == 1:
        return {"numbers": model.outputs[0]}
    found = model.output if isinstance(model.output, dict) else dict(zip(model.output_names, model.outputs))
    if len(found) < len(model.outputs) or {*found} & TAKEN:
        return {f"output_{i}": tensor for i, tensor in enumerate(model.outputs)}
    return found


def _free_name(model, name):
    taken = {layer.name for layer in model.layers}
    return name if name not in taken else next(f"{name}_{i}" for i in range(1, 99) if f"{name}_{i}" not in taken)


def _activation(tensor):
    """Returns the kind of output that the last activation before a tensor makes of it; None if unknown."""
    layer = _compat.operation_of(tensor)
    name = type(layer).__name__
    if name == "Softmax" and getattr(layer, "axis", -1) in (-1, len(tensor.shape) - 1):
        return "probabilities"
    if name == "Sigmoid":
        return "scores"
    if isinstance(layer, keras.layers.Activation) or isinstance(layer, LINEAR):
        is_linear = layer.activation in (None, keras.activations.linear)
        if isinstance(layer, LINEAR) or not is_linear:
            if is_linear:
                return "logits"
            kinds = {keras.activations.softmax: "probabilities", keras.activations.sigmoid: "scores"}
            return kinds.get(layer.activation)
        return _activation(_compat.input_of(tensor))
    if _compat.is_graph(layer):
        return _activation(_compat.nested_output(tensor))
    if name in THROUGH:
        return _activation(_compat.input_of(tensor))
    return None


def _last(tensor):
    layer = _compat.operation_of(tensor)
    return _last(_compat.nested_output(tensor)) if _compat.is_graph(layer) else f"{type(layer).__name__} {layer.name!r}"


def _outputs_of(model):
    names = getattr(model, "output_names", None) or [tensor.name for tensor in model.outputs]
    return "; ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in zip(names, model.outputs))
