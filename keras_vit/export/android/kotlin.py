"""Writes the Kotlin code for an exported .tflite file: templates, filled in with what the file itself says."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Sequence
from importlib import resources
from string import Template

import numpy as np

from keras_vit import _compat
from keras_vit._arguments import counted
from keras_vit.runtime.tflite import TFLiteFile

PACKAGE = "com.example.classifier"  # of the code; the app's own name takes its place
_SHOWN = 3  # classes that a classifier returns by default; of independent labels, all that an image has
# Another JPEG decoder changes a pixel by a level or two. Each processor rounds weights of 8 bits in its own way: an
# emulated ARM core returned probabilities up to 0.06 from a desktop's.
_TOLERANCE, _ROUNDED_TOLERANCE = 0.02, 0.1


class _Kotlin(Template):
    """A template with placeholders such as %file: Kotlin uses $ in texts, and @ for annotations."""

    delimiter = "%"


def kotlin_code(path: str | os.PathLike[str], name: str | None = None, package: str = PACKAGE) -> dict[str, str]:
    """Returns the Kotlin code that runs an exported .tflite file in an Android app.

    File name, height and width, type and scaling of the input, and the outputs in the code are those of the file.

    Args:
        path: of the file.
        name: its name in the app; that of `path` by default.
        package: the Kotlin package of the code.

    Returns:
        {file name: text}: "Image.kt", which turns an image upright; "LiteRtModel.kt" and "SelfTest.kt"; for a file with
        classes also "LiteRtClassifier.kt"; and for one with neither features nor rollout "MediaPipeClassifier.kt".

    Raises:
        ValueError: if it is not a .tflite file of RGB images made by `keras-vit export`.
    """
    path = pathlib.Path(path)
    file = TFLiteFile(path)
    if file.channels != 3:
        raise ValueError(f"Expected a file of RGB images. Received: {path}, of {counted(file.channels, 'channel')}")
    height, width = file.image_size
    (entry,) = file.interpreter.get_input_details()
    write, described = _writing(entry["dtype"], file.description.mean, file.description.std)
    classes = len(file.class_names)
    values = {
        "package": package,
        "file": _text(name or path.name),
        "file_name": name or path.name,
        "height": height,
        "width": width,
        "input": described,
        "write": write,
        "reads": _readings(file),
        "scores": _text(file.outputs[0]),
        "classes": classes,
        "shown": classes if file.thresholds else min(_SHOWN, classes),
        "thresholds": '"thresholds.txt"' if file.thresholds else "null",
        "tolerance": _ROUNDED_TOLERANCE if _is_rounded(path.read_bytes()) else _TOLERANCE,
    }
    templates = {"Image.kt": "Image.kt", "LiteRtModel.kt": "LiteRtModel.kt"}
    if classes:
        templates |= {"LiteRtClassifier.kt": "LiteRtClassifier.kt", "SelfTest.kt": "SelfTest.kt"}
        if {*file.outputs} <= {"probabilities", "known"}:  # MediaPipe interprets every output as scores
            templates["MediaPipeClassifier.kt"] = "MediaPipeClassifier.kt"
    else:
        templates["SelfTest.kt"] = "NumbersSelfTest.kt"
    folder = resources.files("keras_vit").joinpath("export/android/static")
    return {
        target: _Kotlin(folder.joinpath(source).read_text("utf-8")).substitute(values)
        for target, source in templates.items()
    }


def _writing(dtype: type, mean: Sequence[float] | None, std: Sequence[float] | None) -> tuple[str, str]:
    """Returns the statement that writes the input, and the input in words."""
    if dtype == np.uint8:
        return (
            "// Kotlin has no writeUInt8; writeInt8 copies the bytes unchanged, and 200 is the same byte as -56.\n"
            "        inputs[0].writeInt8(ByteArray(levels.size) { levels[it].toByte() })",
            "bytes of 0 to 255",
        )
    # A client has one mean and std for all colours, see `keras_vit.export.serving.client_scaling_of`.
    offset, scale = (float((numbers or (default,))[0]) for numbers, default in ((mean, 0.0), (std, 1.0)))
    if (offset, scale) == (0.0, 1.0):
        return "inputs[0].writeFloat(FloatArray(levels.size) { levels[it].toFloat() })", "floats of 0 to 255"
    return (
        f"inputs[0].writeFloat(FloatArray(levels.size) {{ (levels[it] - {offset:.9g}f) / {scale:.9g}f }})",
        f"floats, (level - {offset:.9g}) / {scale:.9g}",
    )


def _readings(file: TFLiteFile) -> str:
    """Returns a line for each output, in the order of the file's buffers."""
    lines = []
    for i, (name, end) in enumerate(zip(file.description.outputs, file.interpreter.get_output_details(), strict=True)):
        read = f"outputs[{i}].readFloat()"
        if end["dtype"] == np.uint8:  # 255 is a probability of 1
            read = f"outputs[{i}].readInt8().map {{ (it.toInt() and 0xFF) / 255f }}.toFloatArray()"
        lines.append(f"{_text(name)} to {read}")
    return ",\n            ".join(lines)


def _text(text: str) -> str:
    """Returns a Kotlin literal of a text."""
    return json.dumps(text).replace("$", "\\$")


def _is_rounded(tflite: bytes) -> bool:
    """Returns whether weights of a TFLite file have 8 bits or fewer."""
    schema = _compat.tflite_schema()
    model = schema.Model.GetRootAs(tflite)
    few = {schema.TensorType.INT8, schema.TensorType.INT4}
    graphs = (model.Subgraphs(i) for i in range(model.SubgraphsLength()))
    return any(graph.Tensors(i).Type() in few for graph in graphs for i in range(graph.TensorsLength()))
