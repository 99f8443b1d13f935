"""The functions of `keras_vit.export`. What needs Keras and TensorFlow is imported when a function is called."""

from __future__ import annotations

import inspect
import logging
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from keras_vit import _arguments as checked
from keras_vit._arguments import counted
from keras_vit._finite import refuse_model_not_finite

if TYPE_CHECKING:
    import keras
    import numpy as np

    from keras_vit.export.proof import Agreement
    from keras_vit.export.targets import Bounds, Target
    from keras_vit.preprocessing import Pixels

logger = logging.getLogger("keras_vit")


def export_model(
    model: keras.Model,
    folder: str | os.PathLike[str],
    targets: str | Iterable[str] | Mapping[str, Target],
    *,
    class_names: Sequence[str] | None = None,
    images: Sequence[Any] | np.ndarray | None = None,
    labels: Sequence[int] | np.ndarray | None = None,
    calibration: Sequence[Any] | np.ndarray | None = None,
    protocol: Literal["official", "big_vision", "timm"] = "official",
    input_type: Literal["uint8", "float32", "scaled"] = "uint8",
    outputs: Literal["probabilities", "logits", "scores", "numbers"] | None = None,
    extra_outputs: Sequence[str] = (),
    pixels: Pixels | str | Mapping[str, Any] | None = None,
    input_size: int | tuple[int, int] | None = None,
    facts: Mapping[str, str] | None = None,
    output_type: Literal["float32", "uint8"] = "float32",
    bounds: Bounds | None = None,
    bundle: bool = False,
    runtime: str | os.PathLike[str] | None = None,
    in_float: Sequence[str] = (),
    delegate: Literal["gpu", "webgpu", "npu"] | None = None,
) -> list[Agreement]:
    """Exports a classifier to files in a folder, and keeps each file only if it agrees with the model.

    Args:
        model: a functional Keras model, scaled images (batch, height, width, channels) -> (batch, classes).
        folder: for the files and proof.json; files of the same name are replaced.
        targets: names in `keras_vit.export.targets.TARGETS`, or {name: `Target`}.
        class_names: in the order of the outputs; "class 0" and so on by default.
        images: the proof images, on which files are compared with the model: encoded (paths or bytes), or
            (images, height, width, channels) uint8 pixels of the files' input size. Synthetic by default, which proves
            less.
        labels: (images,) class numbers, for top-1 accuracy; of several labels an image (images, labels), 1 where an
            image has a label and else 0, for the micro F1.
        calibration: images of the same kinds for rounded-int8, static-int8, int4 and npu; none of them in `images`. 64
            are used, or 256 for int4.
        protocol: how evaluation brings images to the model's size, see `keras_vit.data.crop.PROTOCOLS`.
        input_type, outputs, extra_outputs, pixels, input_size, facts, output_type: see
            `keras_vit.export.serving.make_serving`.
        bounds: {figure of `Agreement`: (least, most)} that replace those of the targets, or add to them.
        bundle: whether to write a .zip next to each .tflite file, with Kotlin code for it and a test for a device.
        runtime: for "web", the folder in which npm installed LiteRT.js; node_modules by default.
        in_float: layers that stay in float32 where calibration images quantize, see `sensitivity`.
        delegate: refuse .tflite files and pages with anything that this delegate does not support, see
            `keras_vit.runtime.lint`. For "gpu", `input_type` has to be "float32".

    Returns:
        An `Agreement` for each target.

    Raises:
        ValueError: if an option does not suit the model; if the model is much better on the labelled images with other
            pixels than those traced; or if a file does not agree with the model. No such file is left.
        ImportError: if a target needs a package that is not installed.

    Example:
        ```python
        model = keras_vit.build(keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(32, 32, 3), classes=3)
        (agreement,) = keras_vit.export.export_model(model, "phone", ["tflite-float32"])
        assert agreement.file == "model_float32.tflite" and agreement.logits["max_difference"] < 1e-3
        ```
    """
    import numpy as np

    from keras_vit.evaluation.pixel_contracts import better_contract
    from keras_vit.export.proof import Reference
    from keras_vit.export.proof_images import read_or_check_pixels, synthetic_images
    from keras_vit.export.serving import make_serving
    from keras_vit.export.targets import check_requirements, targets_named
    from keras_vit.export.writing import write_exports
    from keras_vit.runtime.lint import DELEGATES

    _check(model, class_names, images, labels, calibration)
    _check_options(protocol, output_type, facts, bounds)
    folder = checked.path("folder", folder, "the path of a folder")
    input_size = None if input_size is None else checked.size("input_size", input_size)
    rows = targets if isinstance(targets, Mapping) else targets_named(targets)
    rows = {name: target.with_settings(runtime=runtime, in_float=in_float) for name, target in rows.items()}
    if delegate is not None:
        checked.choice("delegate", delegate, DELEGATES)
        if others := [name for name, target in rows.items() if not target.operators]:
            raise ValueError(
                f"Expected targets in TFLite for a delegate. Received: {', '.join(others)}, delegate={delegate!r}"
            )
        rows = {name: target.for_delegate(delegate) for name, target in rows.items()}
    if unsuited := [name for name, target in rows.items() if output_type not in target.output_types]:
        raise ValueError(
            f"Expected targets of 8 or 4 bits for uint8 probabilities. Received: {', '.join(unsuited)}, "
            f"output_type={output_type!r}"
        )
    serving = make_serving(
        model,
        class_names or getattr(model, "class_names", None),
        input_type=input_type,
        outputs=outputs,
        extra_outputs=extra_outputs,
        pixels=pixels,
        input_size=input_size,
        facts=facts or {},
        output_type=output_type,
    )
    # Now: the comparison images are evaluated before the first file is written.
    check_requirements(rows, serving.channels)
    logger.info(
        "%s reads pixels as %s and returns %s", model.name, serving.pixels.description, serving.output_description
    )
    if serving.kind == "numbers":
        logger.info("the files have no labels or scores for MediaPipe's ImageClassifier: run them with LiteRT")
    if serving.channels != 3:
        if bundle:
            raise ValueError(
                "Expected a model of RGB images for the .zip of an Android app, whose images are RGB. Received: a "
                f"model of {counted(serving.channels, 'channel')}"
            )
        logger.info(
            "MediaPipe reads RGB alone: run the .tflite files of %s with LiteRT", counted(serving.channels, "channel")
        )
    size, channels = serving.image_size, serving.channels
    if calibration is not None and len(calibration):
        serving = serving.with_changes(
            calibration=read_or_check_pixels(calibration, size, channels, protocol, "calibration")
        )
    if images is not None and not len(images):
        raise ValueError("Expected images to compare on, or None for synthetic ones. Received: images of length 0")
    images = synthetic_images(size, channels) if images is None else images
    if not isinstance(images, list | tuple):
        images = read_or_check_pixels(images, size, channels, protocol, "images")
    labels = None if labels is None else np.asarray(labels)
    reference = Reference(
        serving.inner,
        serving.class_names,
        images,
        labels,
        protocol=protocol,
        size=size,
        contract=serving.pixels,
        numbers=serving.kind == "numbers",
        thresholds=serving.thresholds,
        reject=serving.reject,
    )
    if labels is not None and serving.class_names and labels.ndim == 1:
        at_model_size = reference.at_model_size(reference.pixels)
        if rival := better_contract(serving.inner, at_model_size, labels, serving.pixels):
            if pixels is None:
                raise ValueError(f"{model.name} is not exported: {rival.text}.")
            logger.warning("%s: %s", model.name, rival.text)
    return write_exports(serving, folder, rows, reference, bounds=bounds, bundle=bundle)


def tflite(
    model: keras.Model,
    path: str | os.PathLike[str],
    mode: Literal["float32", "float16", "int8", "rounded-int8", "static-int8", "int4", "npu"] = "int8",
    **options: Any,
) -> Agreement:
    """Exports a classifier to a .tflite file with labels and metadata inside, and keeps it if it agrees with the model.

    Args:
        model: see `export_model`.
        path: of the file.
        mode: "float32", "float16", or "int8" (8-bit weights; the fastest). "rounded-int8" (the same, rounded for the
            inputs of each layer), "static-int8" and "int4" need `calibration` and the extra "mobile". "npu" (weights of
            8 bits, activations of 16) needs `calibration`.
        options: of `export_model`.

    Returns:
        The file's `Agreement`.

    Raises:
        ValueError, ImportError: see `export_model`.

    Example:
        ```python
        model = keras_vit.build(keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(32, 32, 3), classes=3)
        agreement = keras_vit.export.tflite(model, "model.tflite", class_names=["ash", "elm", "fir"])
        assert agreement.probabilities["max_difference"] < 0.05
        ```
    """
    return _export_one(model, path, f"tflite-{mode}", options)


def savedmodel(model: keras.Model, path: str | os.PathLike[str], **options: Any) -> Agreement:
    """Exports a classifier to a SavedModel for TensorFlow Serving, with the model in `path`/1.

    Args:
        model, options: see `export_model`.
        path: of the folder.

    Returns:
        The folder's `Agreement`.

    Raises:
        ValueError: see `export_model`.

    Example:
        ```python
        model = keras_vit.build(keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(32, 32, 3), classes=3)
        agreement = keras_vit.export.savedmodel(model, "classifier")
        assert agreement.logits["max_difference"] < 1e-3
        ```
    """
    return _export_one(model, path, "savedmodel", options)


def onnx(model: keras.Model, path: str | os.PathLike[str], **options: Any) -> Agreement:
    """Exports a classifier to an .onnx file for onnxruntime; needs the extra "onnx".

    Args:
        model, options: see `export_model`.
        path: of the file.

    Returns:
        The file's `Agreement`.

    Raises:
        ValueError, ImportError: see `export_model`.

    Example:
        ```python
        model = keras_vit.build(keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(32, 32, 3), classes=3)
        agreement = keras_vit.export.onnx(model, "model.onnx")
        assert agreement.logits["max_difference"] < 1e-3
        ```
    """
    return _export_one(model, path, "onnx", options)


def openvino(model: keras.Model, path: str | os.PathLike[str], **options: Any) -> Agreement:
    """Exports a classifier to a folder with an OpenVINO model, in `path`/1; needs the extra "openvino".

    Args:
        model, options: see `export_model`.
        path: of the folder.

    Returns:
        The model's `Agreement`: computed in float32, and also in bfloat16 where the CPU has this type.

    Raises:
        ValueError, ImportError: see `export_model`.

    Example:
        ```python
        model = keras_vit.build(keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(32, 32, 3), classes=3)
        agreement = keras_vit.export.openvino(model, "classifier")
        assert agreement.logits["max_difference"] < 1e-3
        ```
    """
    return _export_one(model, path, "openvino", options)


def web(model: keras.Model, path: str | os.PathLike[str], **options: Any) -> Agreement:
    """Exports a classifier to a web page that runs it in the browser; needs LiteRT.js from npm.

    Args:
        model, options: see `export_model`.
        path: of the folder with the page.

    Returns:
        The page's `Agreement`.

    Raises:
        ValueError: if LiteRT.js is not installed in `runtime`, with the command that installs it; see `export_model`.

    Example:
        ```python
        model = keras_vit.build(keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(32, 32, 3), classes=3)
        try:
            keras_vit.export.web(model, "page", runtime="node_modules")
        except ValueError as error:
            assert "npm install" in str(error)
        ```
    """
    return _export_one(model, path, "web", options)


def sensitivity(
    model: keras.Model,
    mode: Literal["rounded-int8", "static-int8", "int4"],
    calibration: np.ndarray,
    *,
    input_type: Literal["uint8", "float32", "scaled"] = "uint8",
) -> list[tuple[str, float]]:
    """Measures how much each layer loses by quantization, to choose those that stay in float32 (`in_float`).

    Args:
        model, input_type: see `export_model`.
        mode: a mode of `tflite` that calibration images quantize.
        calibration: (images, height, width, channels) uint8 pixels of the model's size, at least 16 images.

    Returns:
        [(layer, loss)], the most sensitive layer first. The loss is 1 minus the cosine between the outputs of the
        float32 file and of the file in which that layer alone is quantized.

    Raises:
        ValueError: if the mode is unknown, or the calibration images do not suit the model.
        ImportError: if the extra "mobile" is not installed.

    Example:
        ```python
        model = keras_vit.build(keras_vit.Variant(8, 32, 1, 2, 64), input_shape=(16, 16, 3), classes=3)
        images = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3), np.uint8)
        losses = dict(keras_vit.export.sensitivity(model, "static-int8", images))
        assert "block_00/mlp/out" in losses
        ```
    """
    from keras_vit.export.serving import make_serving
    from keras_vit.export.tflite import quantization
    from keras_vit.export.tflite.conversion import QUANTIZED, calibrated

    checked.choice("mode", mode, QUANTIZED)
    file, images = calibrated(make_serving(model, input_type=input_type, calibration=calibration), mode)
    return quantization.layer_sensitivity(file, QUANTIZED[mode], images, input_type=input_type)


def _check(model: Any, class_names: Any, images: Any, labels: Any, calibration: Any) -> None:
    """Raises a ValueError for a model or a list of another type, and for labels of other images."""
    import keras

    if not isinstance(model, keras.Model):
        raise ValueError(f"Expected a Keras model. Received: a {type(model).__name__}")
    refuse_model_not_finite(model)
    names = checked.plain(class_names)
    if names is not None and not (isinstance(names, tuple) and all(isinstance(name, str) for name in names)):
        raise ValueError(f"Expected class_names to be a list of texts. Received: class_names={class_names!r}")
    for name, value in (("images", images), ("calibration", calibration)):
        is_path = isinstance(value, str | bytes | os.PathLike)
        if is_path or (value is not None and not hasattr(value, "__len__")):
            raise ValueError(f"Expected {name} to be a list of paths or an array. Received: {name}={value!r:.80}")
    if labels is not None and (images is None or len(labels) != len(images)):
        count = "no images" if images is None else f"{len(images)} images"
        raise ValueError(f"Expected a label for each image. Received: {len(labels)} labels, {count}")


def _check_options(protocol: Any, output_type: Any, facts: Any, bounds: Any) -> None:
    """Raises a ValueError for an unknown option."""
    from keras_vit.data.crop import PROTOCOLS
    from keras_vit.export.serving import FACTS

    checked.choice("protocol", protocol, PROTOCOLS)
    checked.choice("output_type", output_type, ("float32", "uint8"))
    for name, value in (("facts", facts), ("bounds", bounds)):
        if value is not None and not isinstance(value, dict):
            raise ValueError(f"Expected {name} to be a dictionary. Received: {name}={value!r}")
    for name in facts or {}:
        checked.choice("the name of a fact", name, FACTS)


def _export_one(model: Any, path: str | os.PathLike[str], name: str, options: dict[str, Any]) -> Agreement:
    from keras_vit.export.targets import targets_named

    checked.known_names("keras_vit.export", options, inspect.signature(export_model).parameters)
    path = pathlib.Path(checked.path("path", path))
    ((name, target),) = targets_named([name]).items()
    if path.suffix != (suffix := pathlib.Path(target.file).suffix) and suffix:
        raise ValueError(f"Expected path to end in {suffix}. Received: path={str(path)!r}")
    targets = {name: target._replace(file=path.name)}
    return export_model(model, path.parent, targets, **options)[0]
