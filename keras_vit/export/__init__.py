"""From a trained model to files that run elsewhere, with the proof that they answer alike.

    keras_vit.export.tflite(model, "phone/model.tflite", class_names=names, images=paths)

Each of the functions `tflite`, `savedmodel`, `onnx` and `web` writes one file (or folder), runs it as a client does,
and keeps it only if it answers like the model.
"""

import inspect
import logging
import os
import pathlib

from keras_vit import _arguments as checked

logger = logging.getLogger("keras_vit")


def export_model(
    model,
    folder,
    targets,
    *,
    class_names=None,
    images=None,
    labels=None,
    calibration=None,
    protocol="official",
    input_type="uint8",
    outputs=None,
    also=(),
    pixels=None,
    input_size=None,
    facts=None,
    output_type="float32",
    bounds=None,
    bundle=False,
    runtime=None,
    in_float=(),
):
    """Exports a classifier to a folder, and proves each file before it gets its name.

    Args:
        model: a functional Keras model, scaled RGB images (batch, rows, columns, 3) -> (batch, classes).
        folder: where the files and proof.json go; files of the same name are replaced.
        targets: names out of `keras_vit.export.targets`, or {name: `Target`}.
        class_names: in the order of the outputs; "class 0" and so on by default.
        images: to compare on: encoded ones (paths or bytes), or (images, rows, columns, 3) uint8 pixels of the
            size that the files take; made-up ones by default, which prove less.
        labels: (images,) their classes, for the accuracies.
        calibration: images of the same kinds, for static-int8 and int4; none that is in `images`.
        protocol: how evaluation brings images to the model's size, out of `keras_vit.data.crop.PROTOCOLS`.
        input_type, outputs, also, pixels, input_size, facts, output_type: see `keras_vit.export.serving.serving`.
        bounds: {figure of `Agreement`: (least, most)} in place of the targets' own, or to add to them.
        bundle: whether a .zip to test a device with is written beside each .tflite file.
        in_float: layers that stay in float32 where images set the ranges, as `sensitivity` names them.
        runtime: for "web", the folder that npm has put LiteRT.js into; node_modules here by default.

    Returns:
        A list of an `Agreement` a target.

    Raises:
        ValueError: if the model cannot be exported so, is much better on labelled images with other pixels than it
            tells, or a file does not answer like it; no such file is left.
        ImportError: if a target needs an extra that is not installed.
    """
    from keras_vit.evaluation.pixel_contracts import better_contract
    from keras_vit.export.images import made_up, pixels_of_any
    from keras_vit.export.proof import Reference
    from keras_vit.export.serving import serving
    from keras_vit.export.targets import targets_named
    from keras_vit.export.writing import write_exports

    _check(model, class_names, images, labels, calibration)
    _check_options(protocol, output_type, facts, bounds)
    folder = checked.path("folder", folder, "the path of a folder")
    input_size = None if input_size is None else checked.size("input_size", input_size)
    targets = targets if isinstance(targets, dict) else targets_named(targets)
    targets = {name: target.told(runtime=runtime, in_float=in_float) for name, target in targets.items()}
    exact = [name for name, target in targets.items() if "logits.largest" in target.bounds and not target.serves]
    if output_type == "uint8" and exact:
        raise ValueError(f"Expected files of 8 or 4 bits for uint8 probabilities. Received: {', '.join(exact)}")
    what = serving(
        model,
        class_names or getattr(model, "class_names", None),
        input_type=input_type,
        outputs=outputs,
        also=also,
        pixels=pixels,
        input_size=input_size,
        facts=facts or {},
        output_type=output_type,
    )
    logger.info("%s reads pixels as %s and returns %s", model.name, what.pixels.description, what.words)
    if what.kind == "numbers":
        logger.info(
            "no labels or scores stand in the files, which MediaPipe's ImageClassifier would show: run them with LiteRT"
        )
    size = what.image_size
    if calibration is not None and len(calibration):
        what = what.but(calibration=pixels_of_any(calibration, size, protocol, "calibration"))
    images = made_up(size) if images is None or not len(images) else images
    if not isinstance(images, list | tuple):
        images = pixels_of_any(images, size, protocol, "images")
    witness = Reference(
        what.inner,
        what.class_names,
        images,
        labels,
        protocol=protocol,
        size=size,
        contract=what.pixels,
        numbers=what.kind == "numbers",
    )
    if labels is not None and what.class_names:
        shown = witness.at_model_size(witness.pixels)
        if rival := better_contract(what.inner, shown, labels, what.pixels):
            if pixels is None:
                raise ValueError(f"{model.name} is not exported: {rival.text}.")
            logger.warning("%s: %s", model.name, rival.text)
    return write_exports(what, folder, targets, witness, bounds=bounds, bundle=bundle)


def tflite(model, path, mode="int8", **options):
    """Exports a classifier to a .tflite file with its labels and metadata inside, proven on images.

    Args:
        model: see `export_model`.
        path: the file.
        mode: "float32", "float16", "int8" (8-bit weights; the fastest); "rounded-int8" (the same, rounded with regard
            to what they multiply), "static-int8" or "int4", which need `calibration` and the extra mobile.
        options: of `export_model`.

    Returns:
        The `Agreement`. Raises as `export_model` does.
    """
    return _one(model, path, f"tflite-{mode}", options)


def savedmodel(model, path, **options):
    """Exports a classifier to a SavedModel in TensorFlow Serving's layout, `path`/1; as `tflite` otherwise."""
    return _one(model, path, "savedmodel", options)


def onnx(model, path, **options):
    """Exports a classifier to an .onnx file (extra onnx); as `tflite` otherwise."""
    return _one(model, path, "onnx", options)


def web(model, path, **options):
    """Exports a classifier to a folder that is a page which runs it in the browser; as `tflite` otherwise."""
    return _one(model, path, "web", options)


def sensitivity(model, mode, calibration, *, input_type="uint8"):
    """Returns who loses what by fewer bits: [(layer, loss)], the worst first, where that layer alone has them.

    The loss is 1 minus the cosine between the outputs with and without. What is worst may stay in float32: `in_float`.

    Args:
        model, input_type: see `export_model`.
        mode: "rounded-int8", "static-int8" or "int4".
        calibration: (images, rows, columns, 3) uint8 pixels of the model's size, at least 16.
    """
    from keras_vit.export.serving import serving
    from keras_vit.export.tflite import quantization
    from keras_vit.export.tflite.conversion import QUANTIZED, calibrated

    checked.choice("mode", mode, QUANTIZED)
    file, images = calibrated(serving(model, input_type=input_type, calibration=calibration), mode)
    return quantization.layer_sensitivity(file, QUANTIZED[mode], images, input_type=input_type)


def _check(model, class_names, images, labels, calibration):
    """Raises a ValueError for a model or a list that is none, and for labels of other images."""
    import keras

    if not isinstance(model, keras.Model):
        raise ValueError(f"Expected a Keras model. Received: a {type(model).__name__}")
    names = checked.plain(class_names)
    if names is not None and not (isinstance(names, tuple) and all(isinstance(name, str) for name in names)):
        raise ValueError(f"Expected class_names to be a list of texts. Received: class_names={class_names!r}")
    for name, value in (("images", images), ("calibration", calibration)):
        if isinstance(value, str | bytes | os.PathLike):
            raise ValueError(f"Expected {name} to be a list of paths or an array. Received: {name}={value!r:.80}")
        if value is not None and not hasattr(value, "__len__"):
            raise ValueError(f"Expected {name} to be a list of paths or an array. Received: {name}={value!r:.80}")
    if labels is not None and (images is None or len(labels) != len(images)):
        has = "no images" if images is None else f"{len(images)} images"
        raise ValueError(f"Expected a label for each image. Received: {len(labels)} labels, {has}")


def _check_options(protocol, output_type, facts, bounds):
    """Raises a ValueError for what is none of an option's values."""
    from keras_vit.data.crop import PROTOCOLS
    from keras_vit.export.serving import FACTS

    checked.choice("protocol", protocol, PROTOCOLS)
    checked.choice("output_type", output_type, ("float32", "uint8"))
    for name, value in (("facts", facts), ("bounds", bounds)):
        if value is not None and not isinstance(value, dict):
            raise ValueError(f"Expected {name} to be a dictionary. Received: {name}={value!r}")
    for name in facts or {}:
        checked.choice("the name of a fact", name, FACTS)


def _one(model, path, name, options):
    from keras_vit.export.targets import targets_named

    checked.known_names("keras_vit.export", options, inspect.signature(export_model).parameters)
    path = pathlib.Path(checked.path("path", path))
    targets = {name: target._replace(file=path.name) for name, target in targets_named([name]).items()}
    return export_model(model, path.parent, targets, **options)[0]
