"""The interface of a finished model, traced through its graph: its pixel contract, and the kind of its outputs.

Neither depends on the model's class: a functional model around layers of keras_vit, a `Sequential`, a clone and a model
that was saved and loaded are traced in the same way, at any depth of nesting.
"""

import concurrent.futures
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_vit import _compat
from keras_vit._arguments import counted
from keras_vit.layers import NamedNumbers, Patches, Stem
from keras_vit.models.config import OUTPUT_KINDS
from keras_vit.models.hooks import head_of
from keras_vit.models.lean import LeanModel
from keras_vit.preprocessing import CONTRACT_WORDS, CONTRACTS, Pixels, PixelsLike, as_pixels

# ---------------------------------------------------------------------------------------------------------------------
# Pixels

# Layers and operations that are followed on the way from the model's input to the first layer of keras_vit, by name:
# scaling, resizing and cropping, and what is the identity outside of training. Augmentation layers are called
# Random..., in other packages, too.
IN_FRONT = {
    *("Rescaling", "Normalization", "Resizing", "CenterCrop", "InputLayer", "Identity", "Activation", "Pipeline"),
    *("Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "AlphaDropout", "ActivityRegularization"),
    *("RandAugment", "AugMix", "MixUp", "CutMix"),
    *("Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Negative", "Cast", "Resize"),  # operations
}

PROBE = (0.0, 51.0, 204.0, 255.0)  # grey levels
PROBE_SIDE = 32  # pixels, of a model whose input size is open
# Largest difference between values of one contract; a grey level is 0.004 in the narrowest one, 0.017 for ImageNet.
CLOSE = 0.02
# A layer that scales brings its input to a range of about this width; images of 0 to 255 or of 0 to 1 lie far apart.
SCALED_RANGE = (0.2, 20.0)

HOW = f"Pass pixels= (on the command line --pixels): {CONTRACT_WORDS}"
HOW_OUTPUTS = f"Pass outputs= (on the command line --outputs), one of {tuple(OUTPUT_KINDS)}"


@dataclasses.dataclass(frozen=True, eq=False)
class _Entrance:
    """A layer of keras_vit that reads the images, and what is computed before it."""

    pixels: Pixels  # the contract of the layer's input
    front: Callable[[Any], Any]  # from the model's input to the layer's


def pixels_of(model: keras.Model, pixels: PixelsLike | None = None) -> Pixels:
    """Returns the pixel contract of a model: how its input is made from RGB pixels of 0 to 255.

    It is the contract that the first layer of keras_vit (`Patches` or `Stem`) stores, if the images reach it directly.
    Layers in front that scale, resize, crop or augment are included: most models with such layers read raw pixels.

    Args:
        model: any Keras model with layers of keras_vit, whose input is images (batch, height, width, channels).
        pixels: the contract, if the caller knows it: a `keras_vit.Pixels`, its fields as a dictionary, "raw", "0..1",
            "-1..1", "imagenet", or "MEAN/STD".

    Returns:
        The pixel contract, with a mean and a standard deviation for each channel of the model's input. Where it is
        known for another number of channels, as for the RGB of a checkpoint, each has the average of these.

    Raises:
        ValueError: if the contract cannot be detected: there are no layers of keras_vit, an unknown layer in front of
            them, or two that disagree; or if `pixels` is for another number of channels, other than RGB. The message
            says what to pass.

    Example:
        ```python
        tiny = keras_vit.Variant(patch_size=8, hidden_size=32, num_layers=1, num_heads=2, mlp_dim=64)
        vit = keras_vit.build(tiny, input_shape=(32, 32, 3))
        assert keras_vit.pixels_of(vit).description == "pixel / 127.5 - 1, from -1 to 1"
        images = keras.Input((32, 32, 3))
        model = keras.Model(images, vit(keras.layers.Rescaling(1 / 127.5, -1)(images)))
        assert keras_vit.pixels_of(model).description == "pixel, from 0 to 255 as it is"
        ```
    """
    channels = model.inputs[0].shape[-1] if getattr(model, "inputs", None) else None
    contract = _traced_pixels(model) if pixels is None else as_pixels(pixels)
    if pixels is not None and contract.channels not in (3, channels or contract.channels):
        expected = counted(channels or 3, "channel")
        raise ValueError(f"Expected pixels of {expected}. Received: pixels={pixels!r}, of {contract.channels}")
    return contract.for_channels(channels)


def _traced_pixels(model: keras.Model) -> Pixels:
    """Returns the pixel contract in the layers of a model."""
    if own := getattr(model, "own_pixels", None):
        return own
    if not _compat.is_graph(model):
        raise ValueError(
            "Expected a functional model, whose pixel contract can be detected. Received: "
            f"{model.name!r}, which is not functional, or a Sequential that is not built yet (call it on a batch, or "
            f"put keras.Input first). {HOW}"
        )
    if len(model.inputs) != 1:
        raise ValueError(f"Expected a model with one input, images. Received: {_inputs_of(model)}. {HOW}")
    entrances, unknown = _entrances(model, _unchanged)
    if not entrances:
        received = "no layers of keras_vit"
        if unknown and _has_ours(model):
            received = f"{', '.join(unknown)} in front of the layers of keras_vit"
        raise ValueError(
            f"Expected a model whose pixel contract can be detected. Received: {model.name!r}, with {received}. {HOW}"
        )
    contracts = list(dict.fromkeys(_contract(model, entrance) for entrance in entrances))
    if len(contracts) > 1:
        raise ValueError(
            f"Expected layers with one pixel contract. Received: {model.name!r}, whose layers read the same input as "
            f"{'; '.join(contract.description for contract in contracts)}. {HOW}"
        )
    return contracts[0]


def image_size_of(model: keras.Model) -> tuple[int, int]:
    """Returns the (height, width) of a model's input in pixels; if it is unknown, that to which images are resized.

    Raises:
        ValueError: if the input size is unknown and the model has no Resizing layer.
    """
    size = tuple(model.inputs[0].shape[1:3])
    if None not in size:
        return size
    resizing = _first(model, keras.layers.Resizing)
    if resizing is None:
        raise ValueError(
            f"Expected a model that reads images of a known size. Received: {model.name!r}, with an input of {size} "
            "and no Resizing layer"
        )
    return resizing.height, resizing.width


def _first(model: keras.Model, kind: type[keras.layers.Layer]) -> Any:
    """Returns the first layer of a class, in nested models too; None without one."""
    for node in _compat.graph_nodes(model):
        result = node.operation if isinstance(node.operation, kind) else None
        if result := result or (_first(node.operation, kind) if _compat.is_graph(node.operation) else None):
            return result
    return None


def set_pixels(model: keras.Model, pixels: Pixels) -> bool:
    """Stores a pixel contract in the layers of a model that read its input directly; returns whether there are any."""
    layers = list(_direct(model))
    for layer in layers:
        layer.pixels = pixels
    return bool(layers)


def _contract(model: keras.Model, entrance: _Entrance) -> Pixels:
    """Returns the pixel contract of a model's input, from that of the layer which reads the images."""
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
        raw = CONTRACTS["raw"]  # layers that scale to such a range scale raw pixels
        return dataclasses.replace(entrance.pixels, mean=raw.mean, std=raw.std)
    raise ValueError(
        f"Expected a model whose pixel contract can be detected. Received: {model.name!r}, whose layers in front of "
        f"those of keras_vit multiply by {np.round(factor, 4).tolist()} and add {np.round(offset, 4).tolist()}, which "
        f"fits neither pixels of 0 to 255 nor those of another usual range. {HOW}"
    )


def _affine(model: keras.Model, front: Callable[[Any], Any], channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (factor, offset), each (channels,), by which the layers in front change a grey level."""
    if front is _unchanged:
        return np.ones(channels), np.zeros(channels)
    height, width = (side or PROBE_SIDE for side in model.inputs[0].shape[1:3])
    images = np.broadcast_to(np.asarray(PROBE, "float32")[:, None, None, None], (len(PROBE), height, width, channels))
    # In a thread of its own, as a graph that this one is tracing, such as tf.data's, has no values.
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        probe = pool.submit(lambda: keras.ops.convert_to_numpy(front(keras.ops.convert_to_tensor(images))))
        output = probe.result().astype(np.float64)
    flat = output.reshape(len(PROBE), -1, output.shape[-1])
    factor = (flat[-1, 0] - flat[0, 0]) / (PROBE[-1] - PROBE[0])
    offset = flat[0, 0] - factor * PROBE[0]
    line = np.array(PROBE)[:, None, None] * factor + offset
    if output.shape[-1] != channels or not np.abs(flat - line).max() <= CLOSE * max(1.0, np.abs(line).max()):
        raise ValueError(
            f"Expected a model whose pixel contract can be detected. Received: {model.name!r}, whose layers in front "
            f"of those of keras_vit change pixels by more than a factor and an offset. {HOW}"
        )
    return factor, offset


def _unchanged(images: Any) -> Any:
    """Returns its argument: what a model has in front of a layer that reads the model's input."""
    return images


def _entrances(model: keras.Model, front: Callable[[Any], Any]) -> tuple[list[_Entrance], list[str]]:
    """Returns the layers that read the images, and the names of the unknown layers in front of others.

    Args:
        model: functional or Sequential.
        front: from the outermost model's input to this one's.
    """
    entrances: list[_Entrance] = []
    unknown: list[str] = []
    carried = {id(tensor) for tensor in model.inputs}  # the tensors that are images
    for node in _compat.graph_nodes(model):
        reads = [tensor for tensor in node.input_tensors if id(tensor) in carried]
        if not reads:
            continue
        layer = node.operation
        to_layer = _composed(front, model.inputs, reads[0])
        if isinstance(layer, (Patches, Stem)):
            entrances.append(_Entrance(layer.pixels, to_layer))
        elif getattr(layer, "own_pixels", None):
            entrances.append(_Entrance(layer.own_pixels, to_layer))
        elif _compat.is_graph(layer):
            inside, more = _entrances(layer, to_layer)
            entrances, unknown = entrances + inside, unknown + more
            if not inside and not more:
                carried |= {id(tensor) for tensor in node.outputs}
        elif _is_known(layer) and len(node.input_tensors) == 1:
            carried |= {id(tensor) for tensor in node.outputs}
        else:
            unknown.append(f"{type(layer).__name__} {layer.name!r}")
    return entrances, unknown


def _direct(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Yields the layers of keras_vit that read the model's input directly."""
    same = {id(tensor) for tensor in model.inputs}
    for node in _compat.graph_nodes(model):
        if any(id(tensor) in same for tensor in node.input_tensors):
            if isinstance(node.operation, (Patches, Stem)):
                yield node.operation
            elif _compat.is_graph(node.operation):
                yield from _direct(node.operation)


def _composed(front: Callable[[Any], Any], inputs: Sequence[Any], tensor: Any) -> Callable[[Any], Any]:
    """Returns the function from the outermost input to a tensor of a nested model."""
    if any(tensor is one for one in inputs):
        return front
    inner = keras.Model(inputs, tensor)
    return lambda images: inner(front(images), training=False)


def _is_known(layer: Any) -> bool:
    """Returns whether a layer in front of those of keras_vit is followed."""
    name = type(layer).__name__
    if name == "Activation":
        return layer.activation is keras.activations.linear
    return name in IN_FRONT or (isinstance(layer, keras.layers.Layer) and name.startswith("Random"))


def _has_ours(model: keras.Model) -> bool:
    """Returns whether a model has a layer of keras_vit that reads images."""
    return any(
        isinstance(node.operation, (Patches, Stem)) or (_compat.is_graph(node.operation) and _has_ours(node.operation))
        for node in _compat.graph_nodes(model)
    )


def _inputs_of(model: keras.Model) -> str:
    return "; ".join(f"{tensor.name} {tuple(tensor.shape)}" for tensor in model.inputs)


# ---------------------------------------------------------------------------------------------------------------------
# Outputs

# Layers and operations whose output is their input, or has another shape or number type only, outside of training.
THROUGH = {"Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout", "AlphaDropout", "ActivityRegularization"}
THROUGH |= {"Identity", "Reshape", "Flatten", "Cast", "Squeeze"}
TAKEN = {"probabilities", "features", "rollout", "known"}  # names of other outputs of an exported file
LINEAR = (keras.layers.Dense, keras.layers.EinsumDense, keras.layers.Conv1D, keras.layers.Conv2D)


def outputs_of(model: keras.Model, outputs: str | None = None, class_names: Sequence[str] | None = None) -> str:
    """Returns the kind of a model's outputs: "probabilities", "logits", "scores" or "numbers".

    The last activation is traced through linear activations, dropout, casts, reshapes and nested models. A softmax
    returns probabilities and a sigmoid scores; several linear outputs are logits. One output without a sigmoid is a
    number, or the logit of the second of two classes where `class_names` has two.

    Args:
        model: any Keras model.
        outputs: the kind, if the caller knows it.
        class_names: class names in the order of the outputs, if known.

    Returns:
        A key of `keras_vit.models.config.OUTPUT_KINDS`.

    Raises:
        ValueError: if the kind is unknown, cannot be traced, or does not fit the shape of the outputs.

    Example:
        ```python
        images = keras.Input((8, 8, 3))
        model = keras.Model(images, keras.layers.Dense(2, "softmax")(keras.layers.Flatten()(images)))
        assert keras_vit.outputs_of(model) == "probabilities"
        ```
    """
    if outputs is not None and outputs not in OUTPUT_KINDS:
        raise ValueError(f"Expected outputs to be one of {tuple(OUTPUT_KINDS)}. Received: outputs={outputs!r}")
    if not _compat.is_graph(model):
        if outputs is None:
            raise ValueError(
                "Expected a functional model, whose kind of outputs can be detected. Received: "
                f"{model.name!r}, which is not functional, or a Sequential that is not built yet (call it on a batch, "
                f"or put keras.Input first). {HOW_OUTPUTS}"
            )
        return outputs
    shapes = [tuple(tensor.shape) for tensor in model.outputs]
    flat = len(shapes) == 1 and len(shapes[0]) == 2 and shapes[0][1] is not None
    if outputs == "numbers" or (outputs is None and named_numbers_of(model)):
        return "numbers"
    if not flat:
        raise ValueError(
            f"Expected a model with one output, (batch, classes). Received: {_outputs_of(model)}. Pass outputs="
            "'numbers' (on the command line --outputs numbers) to export all of them by name and unchanged"
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
            f"Expected a model whose kind of outputs can be detected. Received: {model.name!r}, whose outputs "
            f"{shapes[0]} end in {_last(model.outputs[0])}. {HOW_OUTPUTS}"
        )
    if count == 1 and outputs == "probabilities":
        raise ValueError(
            f"Expected probabilities of two classes or more. Received: {model.name!r}, a softmax over one output, "
            "which is 1 for every image. Use a sigmoid for two classes, or no activation for a number."
        )
    return outputs


def served(model: keras.Model, outputs: str, class_names: Sequence[str] | None = None) -> keras.Model:
    """Returns the model with outputs for a client: logits become probabilities, a binary head has two classes.

    Args:
        model: the model.
        outputs: the kind of its outputs, out of `OUTPUT_KINDS`.
        class_names: class names; with two names, one output is a binary head.

    Returns:
        The model itself if its outputs stay unchanged, else a new one with the same weights.
    """
    if outputs in ("numbers", "probabilities"):
        return model
    (x,), count = model.outputs, model.output_shape[-1]
    if outputs == "logits":
        kind = "sigmoid" if count == 1 else "softmax"
        x = keras.layers.Activation(kind, dtype="float32", name=_free_name(model, kind))(x)
    if count == 1 and (class_names is None or len(class_names) == 2):
        x = keras.layers.Concatenate(name=_free_name(model, "both"))([1.0 - x, x])
    return model if x is model.outputs[0] else LeanModel(model.inputs, x, name=model.name)


def in_float32(model: keras.Model) -> keras.Model:
    """Returns a model that computes in float32 with the same weights; the model itself if it does so already.

    A model in mixed precision computes in 16 bits, which TFLite's built-in operators do not support.
    """
    if not any(layer.compute_dtype in ("float16", "bfloat16") for layer in (model, *_compat.layers_inside(model))):
        return model
    return in_dtype(model, "float32")


def in_dtype(model: keras.Model, dtype: str) -> keras.Model:
    """Returns a model of the same layers under a dtype policy, with a copy of the weights in the policy's dtype.

    The head and activations compute in float32 under any policy, as in a model that is built under it.

    Args:
        model: the model.
        dtype: out of `DTYPES`.

    Raises:
        ValueError: if the model has LoRA or is quantized.
    """
    head = head_of(model)

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        stays = layer is head or isinstance(
            layer, (keras.layers.Activation, keras.layers.UnitNormalization, NamedNumbers)
        )
        return type(layer).from_config({**layer.get_config(), "dtype": "float32" if stays else dtype})

    other = keras.models.clone_model(model, clone_function=copy, recursive=True)
    if len(other.weights) != len(model.weights):
        raise ValueError(
            f"Expected a model without LoRA and quantization for dtype={dtype!r}. Received: {model.name!r}, with "
            f"{len(model.weights)} weights instead of {len(other.weights)}"
        )
    for new, old in zip(other.weights, model.weights):
        new.assign(old)
    copy_facts(model, other)
    return other


def copy_facts(model: keras.Model, other: keras.Model) -> None:
    """Copies what a `VisionModel` knows of itself beside its layers to another one; other models have nothing."""
    if hasattr(model, "own_pixels"):
        for name in ("own_pixels", "class_names", "thresholds", "reject", "license"):
            setattr(other, name, getattr(model, name))


def numbers_of(model: keras.Model) -> dict[str, Any]:
    """Returns {name: tensor} of all outputs of a model that are exported unchanged; one output is called "numbers"."""
    if len(model.outputs) == 1 and not named_numbers_of(model):
        return {"numbers": model.outputs[0]}
    named = model.output if isinstance(model.output, dict) else dict(zip(model.output_names, model.outputs))
    if len(named) < len(model.outputs) or {*named} & TAKEN:
        return {f"output_{i}": tensor for i, tensor in enumerate(model.outputs)}
    return named


def named_numbers_of(model: keras.Model) -> NamedNumbers | None:
    """Returns the layer that names the outputs of a model of numbers; None for other models."""
    layer = _compat.operation_of(model.outputs[0])
    return layer if isinstance(layer, NamedNumbers) else None


def _free_name(model: keras.Model, name: str) -> str:
    """Returns a name that no layer of a model has."""
    taken = {layer.name for layer in model.layers}
    return name if name not in taken else next(f"{name}_{i}" for i in range(1, 99) if f"{name}_{i}" not in taken)


def _activation(tensor: Any) -> str | None:
    """Returns the kind of a tensor by the last activation before it; None if unknown."""
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


def _last(tensor: Any) -> str:
    """Returns the class and the name of the layer that a tensor comes from."""
    layer = _compat.operation_of(tensor)
    return _last(_compat.nested_output(tensor)) if _compat.is_graph(layer) else f"{type(layer).__name__} {layer.name!r}"


def _outputs_of(model: keras.Model) -> str:
    names = getattr(model, "output_names", None) or [tensor.name for tensor in model.outputs]
    return "; ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in zip(names, model.outputs))
