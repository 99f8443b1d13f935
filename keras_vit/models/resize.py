"""Makes a finished model take images of another size."""

import keras

from keras_vit import _arguments as checked
from keras_vit.layers import PatchEncoder, Positions, TokenMap, WindowBlock
from keras_vit.layers.positions import INTERPOLATIONS, resize_positions
from keras_vit.models.description import describe_model
from keras_vit.models.vision_model import VisionModel


def resize(model, image_size, mode="corner"):
    """Returns a copy of a model, also of a fine-tuned one, for images of another size.

    All weights are copied, the positions resized; the model itself stays as it is. The copy is not compiled.

    Args:
        model: a functional model with our layers, from `keras_vit.build` or composed around it.
        image_size: side of the images, or (rows, columns), in pixels.
        mode: how positions are resized: "corner" (the official code's), "half_pixel", "antialias" or "torch"; see
            `keras_vit.build`. The layer "encoder" keeps it.

    Raises:
        ValueError: if the model holds no layers of ours, has more than one input, cannot be rebuilt at the size, or
            `mode` is unknown.

    Source: arXiv:2010.11929, section 3.2.
    """
    rows, columns = image_size = checked.size("image_size", image_size)
    checked.choice("mode", mode, INTERPOLATIONS)
    grid = getattr(describe_model(model).variant, "grid", lambda rows, columns: None)
    if len(model.inputs) != 1:
        raise ValueError(f"Expected a model of one input, the images. Received: {len(model.inputs)} inputs")
    (images,) = model.inputs
    entry = keras.Input((rows, columns, images.shape[-1]), dtype=images.dtype, name=images.name)

    def copy(layer):
        if isinstance(layer, keras.Model):
            return resize(layer, image_size, mode)
        config = layer.get_config()
        if isinstance(layer, (PatchEncoder, Positions, TokenMap, WindowBlock)) and config["grid"]:
            config["grid"] = grid(rows, columns)
        if isinstance(layer, PatchEncoder) and (rows, columns) != tuple(images.shape[1:3]):
            config["position_resize"] = mode
        return type(layer).from_config(config)

    resized = keras.models.clone_model(model, entry, copy)
    grids = [grid(*images.shape[1:3]), grid(rows, columns)]
    for old, new in zip(model.layers, resized.layers):
        if not isinstance(old, keras.Model):
            _copy_weights(old, new, grids, mode)
    if isinstance(model, VisionModel):
        resized.said_pixels, resized.class_names = model.said_pixels, model.class_names
    return resized


def _copy_weights(old, new, grids, mode):
    if len(old.weights) != len(new.weights):
        raise ValueError(
            f"Expected layers that their configuration rebuilds. Received: {old.name!r}, with {len(old.weights)} "
            f"weights instead of {len(new.weights)}; merge LoRA into it first (save and load the model)"
        )
    for weight, copied in zip(old.weights, new.weights):
        array = keras.ops.convert_to_numpy(weight)
        if weight.shape != copied.shape:
            array = _fitted(array, weight.path, *grids, mode)
        copied.assign(array)


def _fitted(array, path, source, target, mode):
    """Returns positions for another grid."""
    name = path.rsplit("/", 1)[-1]
    if name == "position_embedding":
        return resize_positions(array, source, target, mode)
    if name == "table":
        return resize_positions(array[None], source, target, mode)[0]
    if name in ("rows", "columns"):
        sides = ((grid[name == "columns"], 1) for grid in (source, target))
        return resize_positions(array[None], *sides, mode)[0]
    raise ValueError(
        f"Expected positions of a place, which can be resized. Received: {path} {array.shape}, a number for each "
        "distance; build the model anew at that size"
    )
