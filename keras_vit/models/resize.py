"""Resizing a finished model to another image size."""

from collections.abc import Sequence

import keras
import numpy as np

from keras_vit import _arguments as checked
from keras_vit.layers import BiasBlock, PatchEncoder, Positions, RotaryBlock, TokenMap, WindowBlock
from keras_vit.layers.positions import INTERPOLATIONS, PositionResize, resize_bias, resize_positions
from keras_vit.models.config import Variant
from keras_vit.models.description import describe_model
from keras_vit.models.interface import copy_facts


def resize(model: keras.Model, image_size: int | Sequence[int], mode: PositionResize = "corner") -> keras.Model:
    """Returns a copy of a model, also of a fine-tuned one, for another image size.

    The copy has the same weights; only its position embedding is interpolated. It is not compiled.

    Args:
        model: a functional model with layers of keras_vit, from `keras_vit.build` or composed around it.
        image_size: (height, width) of the images in pixels, or one integer for both.
        mode: how the position embedding is interpolated: "corner" (the official code's), "half_pixel",
            "half_pixel_antialias", "antialias" or "torch", see `keras_vit.build`. The layer "encoder" records it.

    Returns:
        A model of the same class.

    Raises:
        ValueError: if the model has no layers of keras_vit or more than one input, cannot be rebuilt at that size, or
            `mode` is unknown.

    Example:
        ```python
        tiny = keras_vit.Variant(patch_size=8, hidden_size=32, num_layers=1, num_heads=2, mlp_dim=64)
        model = keras_vit.build(tiny, input_shape=(32, 32, 3), classes=3)
        assert keras_vit.resize(model, (48, 64)).input_shape == (None, 48, 64, 3)
        ```

    Source: arXiv:2010.11929, section 3.2.
    """
    height, width = checked.size("image_size", image_size)
    checked.choice("mode", mode, INTERPOLATIONS)
    variant = describe_model(model).variant
    if len(model.inputs) != 1:
        raise ValueError(f"Expected a model with one input, the images. Received: {len(model.inputs)} inputs")
    (images,) = model.inputs
    old_size, new_size = tuple(images.shape[1:3]), (height, width)
    grids = [variant.grid(*size) if isinstance(variant, Variant) else (0, 0) for size in (old_size, new_size)]

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, keras.Model):
            return resize(layer, new_size, mode)
        config = layer.get_config()
        if (
            isinstance(layer, (BiasBlock, PatchEncoder, Positions, RotaryBlock, TokenMap, WindowBlock))
            and config["grid"]
        ):
            config["grid"] = grids[1]
        if isinstance(layer, PatchEncoder) and new_size != old_size:
            config["position_resize"] = mode
        return type(layer).from_config(config)

    inputs = keras.Input((*new_size, images.shape[-1]), dtype=images.dtype, name=images.name)
    resized = keras.models.clone_model(model, inputs, copy)
    for old, new in zip(model.layers, resized.layers):
        if not isinstance(old, keras.Model):
            _copy_weights(old, new, grids, mode)
    copy_facts(model, resized)
    return resized


def _copy_weights(
    old: keras.layers.Layer, new: keras.layers.Layer, grids: Sequence[tuple[int, int]], mode: str
) -> None:
    """Copies the weights of a layer; positions are interpolated from the first grid to the second."""
    if len(old.weights) != len(new.weights):
        raise ValueError(
            f"Expected a layer that can be rebuilt from its configuration. Received: {old.name!r}, with "
            f"{len(old.weights)} weights instead of {len(new.weights)}. Merge LoRA first: save and load the model."
        )
    for weight, copied in zip(old.weights, new.weights):
        array = keras.ops.convert_to_numpy(weight)
        if weight.shape != copied.shape:
            array = _resized(array, weight.path, grids[0], grids[1], mode)
        copied.assign(array)


def _resized(array: np.ndarray, path: str, source: tuple[int, int], target: tuple[int, int], mode: str) -> np.ndarray:
    """Returns positions interpolated to another grid."""
    name = path.rsplit("/", 1)[-1]
    if name == "position_embedding":
        return resize_positions(array, source, target, mode)
    if name == "table":
        return resize_positions(array[None], source, target, mode)[0]
    if name == "relative_bias":
        return resize_bias(array, source, target, mode)
    if name in ("rows", "columns"):
        axis = int(name == "columns")
        return resize_positions(array[None], (source[axis], 1), (target[axis], 1), mode)[0]
    raise ValueError(
        f"Expected positions of patches, which can be interpolated. Received: {path} {array.shape}, with a value for "
        "each distance. Build a new model of that size."
    )
