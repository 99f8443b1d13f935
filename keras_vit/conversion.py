"""Writes models as the files of other projects."""

import dataclasses
import inspect
import pathlib

import keras

from keras_vit import _arguments as checked
from keras_vit._atomic import written_aside
from keras_vit.builders import load
from keras_vit.models.class_names import names_for
from keras_vit.models.config import ResNet
from keras_vit.models.description import describe_model, our_model
from keras_vit.models.vision_model import VisionModel
from keras_vit.weights.architecture import Architecture
from keras_vit.weights.save import WRITTEN_FORMATS, find_faults, write_checkpoint


def save_checkpoint(model, path, source=None, class_names=None):
    """Writes the weights of a model as the files of the project that it, or a model like it, comes from.

    `keras_vit.load` gives the same weights back, to the bit; but timm's files with registers have no position for the
    class token, to which it is added. Where the project computes otherwise and cannot be told
    (epsilons, the form of the GELU), the log says so. transformers and timm always smooth an image that they make
    smaller, whatever `model.pixels` say.

    Args:
        model: a model of `keras_vit.build` or `keras_vit.load`, also a fine-tuned or a reloaded one.
        path: of the file or, for "hf" and "timm", the folder; one with an older checkpoint is replaced.
        source: whose files: "npz" (the official code's) or "bit" (BiT's), an .npz file; "hf" (transformers') or "timm",
            a folder with model.safetensors and its configuration, as the Hugging Face hub has them, or a path that ends
            in .safetensors, the configuration beside it. None is told from a path that ends in .npz.
        class_names: in the order of the outputs; the model's own by default. "hf" and "timm" keep them.

    In transformers, read a folder with `from_pretrained(path)`, a hybrid with a version below 5; in timm with
    `timm.create_model("local-dir:PATH", pretrained=True)`.

    Raises:
        ValueError: if the source cannot hold the model or the path does not fit the source (all faults in one message,
            before anything is written), other files would be overwritten, or the model has no layers of ours.
    """
    path = checked.path("path", path, "the path of a file or a folder")
    _check_target(path, source)
    told = describe_model(model)
    source = source or ("bit" if isinstance(told.variant, ResNet) else "npz")
    size = told.input_shape[:2]
    architecture = Architecture(
        told.variant,
        told.name,
        told.input_shape[2],
        told.classes,
        told.representation_size,
        None if None in size else size,
    )
    faults = [*_faults(model, told), *find_faults(source, told.weights, architecture)]
    if faults:
        lines = "".join(f"\n  {fault}" for fault in faults)
        raise ValueError(f"A checkpoint of source={source!r} cannot hold {model.name!r}:{lines}")
    arrays = {
        name: keras.ops.convert_to_numpy(variable).astype("float32", copy=False)
        for name, variable in told.weights.items()
    }
    pixels = dataclasses.asdict(told.pixels.for_channels(architecture.channels))
    names = class_names or getattr(model, "class_names", None)
    if names and len(names) != told.classes:
        raise ValueError(f"Expected {told.classes} class names, one an output. Received: {len(names)}")
    write_checkpoint(path, source, arrays, architecture, told.numerics, pixels, names)


def convert(source_path, target_path, source=None, **load_arguments):
    """Writes a checkpoint of any source as one of another.

    Names of classes go along: the checkpoint's own, or those of a labels.txt in its folder.

    Args:
        source_path: what is read, as in `keras_vit.load`.
        target_path: what is written: as in `save_checkpoint`, or a file that ends in .keras or .weights.h5.
        source: whose files are written, as in `save_checkpoint`.
        **load_arguments: of `keras_vit.load`. The pooler of a headless Hugging Face file is kept with
            `representation_size`.

    Raises:
        ValueError: if the checkpoint cannot be loaded, or what is written cannot hold it.
    """
    source_path = checked.path("source_path", source_path, "a path, an address or a name of a checkpoint")
    target = pathlib.Path(checked.path("target_path", target_path, "the path of a file or a folder"))
    checked.known_names("keras_vit.load", load_arguments, [*inspect.signature(load).parameters][1:])
    of_keras = target.name.endswith((".keras", ".weights.h5"))
    if of_keras and source is not None:
        raise ValueError(f"Expected no source for a file of Keras. Received: {target_path}, source={source!r}")
    if not of_keras:
        _check_target(target, source)  # before a download
    model = load(source_path, **load_arguments)
    names = getattr(model, "class_names", None)
    if describe_model(model).classes and pathlib.Path(str(source_path)).exists():
        names = names_for(source_path, names)
    if of_keras and isinstance(model, VisionModel):
        model.class_names = names
    if not of_keras:
        save_checkpoint(model, target, source, names)
        return
    with written_aside(target) as aside:
        if target.suffix == ".keras":
            model.save(aside)
        else:
            model.save_weights(aside)


def _check_target(path, source):
    """Raises where a path and a source, both as the caller gave them, do not fit each other."""
    suffix = pathlib.Path(path).suffix
    if source is None and suffix != ".npz":
        raise ValueError(f"Expected source to be named, 'hf' or 'timm', unless the path ends in .npz. Received: {path}")
    if source not in (None, *WRITTEN_FORMATS):
        raise ValueError(f"Expected source to be one of {', '.join(WRITTEN_FORMATS)}. Received: source={source!r}")
    if source in ("npz", "bit") and suffix != ".npz":
        raise ValueError(f"Expected a path that ends in .npz for source={source!r}. Received: {path}")
    if source in ("hf", "timm") and suffix in (".npz", ".keras", ".h5"):
        raise ValueError(
            f"Expected a folder, or a path that ends in .safetensors, for source={source!r}. Received: {path}"
        )


def _faults(model, told):
    """Returns what a checkpoint of no source holds, a line each."""
    ours = {id(variable) for variable in told.weights.values()}
    others = [weight.path for weight in model.weights if id(weight) not in ours]
    if others:
        yield (
            f"weights around the model that has our layers: {', '.join(others[:5])}{', ...' if others[5:] else ''}; "
            "save that model alone"
        )
    if isinstance(told.variant, ResNet) and told.classes:
        if "pooling" not in [layer.name for layer in our_model(model).layers]:
            yield "pooling='none': a BiT's head reads the mean of its map there"
