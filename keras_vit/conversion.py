"""Writes models as checkpoints of other projects, and converts checkpoints from one format to another."""

import dataclasses
import inspect
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import keras

from keras_vit import _arguments as checked
from keras_vit._atomic import written_aside
from keras_vit._finite import refuse_not_finite
from keras_vit.builders import load
from keras_vit.models.class_names import names_for
from keras_vit.models.config import ResNet
from keras_vit.models.description import ModelDescription, describe_model, our_model
from keras_vit.models.vision_model import VisionModel
from keras_vit.weights.architecture import Architecture
from keras_vit.weights.checkpoints import Checkpoint
from keras_vit.weights.save import WRITTEN_FORMATS, find_unsupported, write_checkpoint

CheckpointFormat = Literal["npz", "bit", "hf", "timm"]


def save_checkpoint(
    model: keras.Model,
    path: str | os.PathLike[str],
    format: CheckpointFormat | None = None,
    class_names: Sequence[str] | None = None,
) -> None:
    """Writes the weights of a model as a checkpoint of the official code, BiT, transformers or timm.

    `keras_vit.load` reads the same weights, to the bit; but timm's files with register tokens have no position for the
    class token, to which it is added. Where the other project computes differently and its configuration cannot say so
    (epsilons, the form of the GELU), a log line says it. transformers and timm always smooth images that they make
    smaller, independently of `model.pixels`.

    In transformers, read a folder with `from_pretrained(path)`, a hybrid with a version below 5; in timm with
    `timm.create_model("local-dir:PATH", pretrained=True)`.

    Args:
        model: a model of `keras_vit.build` or `keras_vit.load`, also a fine-tuned or a reloaded one.
        path: the file or, for "hf" and "timm", the folder; an existing checkpoint there is replaced.
        format: the format: "npz" (the official code's) or "bit" (BiT's), an .npz file; "hf" (transformers') or "timm",
            a folder with model.safetensors and its configuration, as on the Hugging Face hub, or a path that ends
            in .safetensors, with the configuration in the same folder. By default, "npz" or "bit" for a path that ends
            in .npz.
        class_names: class names in the order of the outputs; by default the model's own. "hf" and "timm" store them.

    Raises:
        ValueError: if the format cannot hold the model or the path does not fit the format (all faults in one message,
            before anything is written), a weight is NaN or infinite, other files would be overwritten, or the model has
            no layers of keras_vit.

    Example:
        ```python
        tiny = keras_vit.Variant(patch_size=8, hidden_size=32, num_layers=1, num_heads=2, mlp_dim=64)
        model = keras_vit.build(tiny, input_shape=(32, 32, 3), classes=3)
        keras_vit.save_checkpoint(model, "tiny.npz")
        keras_vit.save_checkpoint(model, "tiny_timm", format="timm", class_names=["cat", "dog", "bird"])
        ```
    """
    path = checked.path("path", path, "the path of a file or a folder")
    _check_target(path, format)
    description = describe_model(model)
    own = "bit" if isinstance(description.variant, ResNet) else "npz"
    written = format or own
    size = description.input_shape[:2]
    architecture = Architecture(
        description.variant,
        description.name,
        description.input_shape[2],
        description.classes,
        description.representation_size,
        None if None in size else (size[0], size[1]),
    )
    faults = [*_faults(model, description), *find_unsupported(written, description.weights, architecture)]
    if faults:
        lines = "".join(f"\n  {fault}" for fault in faults)
        raise ValueError(f"The format={written!r} cannot hold {model.name!r}:{lines}")
    arrays = {
        name: keras.ops.convert_to_numpy(variable).astype("float32", copy=False)
        for name, variable in description.weights.items()
    }
    pixels = dataclasses.asdict(description.pixels.for_channels(architecture.channels))
    names = class_names or getattr(model, "class_names", None)
    if names and len(names) != description.classes:
        raise ValueError(
            f"Expected {description.classes} class names, one for each output. Received: {len(names)} class_names"
        )
    refuse_not_finite(model.name, arrays.items())
    license = getattr(model, "license", None)
    known = license.name if license and license.is_known else None
    write_checkpoint(path, written, arrays, architecture, description.numerics, pixels, names, known)


def convert(
    source_path: str | os.PathLike[str] | Checkpoint,
    target_path: str | os.PathLike[str],
    format: CheckpointFormat | None = None,
    **load_arguments: Any,
) -> None:
    """Converts a checkpoint of any format to another format, or to a file of Keras.

    Class names are kept: the checkpoint's own, or those of a labels.txt in its folder.

    Args:
        source_path: the checkpoint to read, as `weights` in `keras_vit.load`.
        target_path: the checkpoint to write, as in `save_checkpoint`, or a file that ends in .keras or .weights.h5.
        format: the format to write, as in `save_checkpoint`.
        **load_arguments: arguments of `keras_vit.load`. With `representation_size`, the pooler of a headless Hugging
            Face file is kept.

    Raises:
        ValueError: if the checkpoint cannot be loaded, or the target format cannot hold it.

    Example:
        ```python
        tiny = keras_vit.Variant(patch_size=8, hidden_size=32, num_layers=1, num_heads=2, mlp_dim=64)
        keras_vit.build(tiny, input_shape=(32, 32, 3), classes=3).save("tiny.keras")
        keras_vit.convert("tiny.keras", "tiny.npz")
        keras_vit.convert("tiny.npz", "tiny_hf", format="hf", num_heads=2)
        ```
    """
    if not isinstance(source_path, Checkpoint):
        source_path = checked.path("source_path", source_path, "a path, an address or a name of a checkpoint")
    target = pathlib.Path(checked.path("target_path", target_path, "the path of a file or a folder"))
    checked.known_names("keras_vit.load", load_arguments, [*inspect.signature(load).parameters][1:])
    is_keras = target.name.endswith((".keras", ".weights.h5"))
    if is_keras and format is not None:
        raise ValueError(f"Expected format=None for a file of Keras. Received: format={format!r}, {target_path}")
    if not is_keras:
        _check_target(target, format)  # before a download
    model = load(source_path, **load_arguments)
    names = getattr(model, "class_names", None)
    if describe_model(model).classes and isinstance(source_path, str) and os.path.exists(source_path):
        names = names_for(source_path, names)
    if is_keras and isinstance(model, VisionModel):
        model.class_names = names
    if not is_keras:
        save_checkpoint(model, target, format, names)
        return
    with written_aside(target) as aside:
        if target.suffix == ".keras":
            model.save(aside)
        else:
            model.save_weights(aside)


def _check_target(path: str | pathlib.Path, format: str | None) -> None:
    """Raises a ValueError if a path and a format do not fit each other."""
    suffix = pathlib.Path(path).suffix
    if format is None and suffix != ".npz":
        raise ValueError(
            f"Expected format='hf' or 'timm' (--to) for a path that does not end in .npz. Received: format=None, {path}"
        )
    if format not in (None, *WRITTEN_FORMATS):
        raise ValueError(f"Expected format to be one of {', '.join(WRITTEN_FORMATS)}. Received: format={format!r}")
    if format in ("npz", "bit") and suffix != ".npz":
        raise ValueError(f"Expected a path that ends in .npz for format={format!r}. Received: {path}")
    if format in ("hf", "timm") and suffix in (".npz", ".keras", ".h5"):
        raise ValueError(
            f"Expected a folder, or a path that ends in .safetensors, for format={format!r}. Received: {path}"
        )


def _faults(model: keras.Model, description: ModelDescription) -> Iterator[str]:
    """Yields what no format can hold, one line each."""
    known = {id(variable) for variable in description.weights.values()}
    others = [weight.path for weight in model.weights if id(weight) not in known]
    if others:
        yield (
            f"weights outside of the layers of keras_vit: {', '.join(others[:5])}{', ...' if others[5:] else ''}; save "
            "the inner model alone"
        )
    if isinstance(description.variant, ResNet) and description.classes:
        if "pooling" not in [layer.name for layer in our_model(model).layers]:
            yield "pooling='none': the head of a BiT checkpoint reads the mean of the feature map"
