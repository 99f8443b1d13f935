"""A .zip for an app and a device: the file, Kotlin code for it, images, and the expected outputs for them."""

from __future__ import annotations

import json
import os
import pathlib
import zipfile
from typing import Any

import numpy as np

from keras_vit._atomic import written_aside
from keras_vit.data.decoding import recognize
from keras_vit.export.android.kotlin import kotlin_code
from keras_vit.export.proof import Reference
from keras_vit.export.targets import EXTRA_OUTPUTS, KNOWN
from keras_vit.runtime.tflite import TFLiteFile

_IMAGES = 8
FILE_SUFFIXES = {"JPEG": "jpg", "WebP": "webp"}
README = """Self-test of {name}

model/{name}    the file, with labels and preprocessing inside
labels.txt      its classes, in the order of its outputs, if it has classes
thresholds.txt  the least score of each that an image has, if an image can have several
images/         {count} images
expected.json   for each image the probability of each class, nothing if the model rejects it as none of these; or the
                numbers that the model returns
android/        Kotlin code for this file, with its name, size and outputs (explained in keras_vit's docs, Android)

On the device: run the model on each image (upright by EXIF, both sides resized to a height of {height} and a width of
{width} pixels by bilinear interpolation; MediaPipe's ImageClassifier does that by itself) and compare with
expected.json, which LiteRT computed on a desktop CPU, with MediaPipe's resize. An emulated ARM core returned the same
to 1e-5 for float32 and float16. With weights of fewer bits each processor rounds in its own way, so that the difference
is as large as that between the file and float32, some hundredths. Other resizes differ: see "from JPEG" in the card's
table of exports.

On Android: the file, labels.txt and, if it is there, thresholds.txt go into app/src/main/assets/, the Kotlin files
except SelfTest.kt to the app's other code. SelfTest.kt goes to the code of the tests, below
app/src/androidTest/java/, with expected.json and images/ in app/src/androidTest/assets/selftest/. Change the package in
the first line of each Kotlin file to that of the app.

On a desktop: keras-vit predict model/{name} images/*
"""


def write_bundle(path: str | os.PathLike[str], file: str | os.PathLike[str], name: str, reference: Reference) -> None:
    """Writes a .zip with a .tflite file, the Kotlin code that runs it, and a test of it on a device.

    Args:
        path: the .zip.
        file: where the .tflite file is.
        name: its name in the .zip.
        reference: what the file was compared with. Eight of its encoded images are used, evenly spread.

    Raises:
        ValueError: if the reference has no encoded images.
    """
    if not reference.encoded:
        raise ValueError("Expected images for the self-test. Received: none. Pass encoded images (--data)")
    client = TFLiteFile(file)
    chosen = np.linspace(0, len(reference.encoded) - 1, min(_IMAGES, len(reference.encoded))).astype(int)
    images = {_file_name(i, reference.encoded[k]): reference.encoded[k] for i, k in enumerate(chosen)}
    height, width = client.image_size
    outputs = client.predict_encoded(images.values())
    expected: dict[str, dict[str, Any]]
    if client.class_names:
        known = outputs.get(KNOWN, np.zeros((len(images), 1)))[:, 0] >= 0
        expected = {
            image: dict(zip(client.class_names, map(float, row))) if one else {}
            for image, row, one in zip(images, outputs["probabilities"], known)
        }
    else:
        expected = {
            image: {
                output: np.asarray(values[i]).tolist()
                for output, values in outputs.items()
                if output not in EXTRA_OUTPUTS
            }
            for i, image in enumerate(images)
        }
    readme = README.format(name=name, count=len(images), height=height, width=width)
    with written_aside(path) as aside, zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.write(pathlib.Path(file), f"model/{name}")
        if client.class_names:
            bundle.writestr("labels.txt", "".join(f"{label}\n" for label in client.class_names))
        if client.thresholds:
            bundle.writestr("thresholds.txt", "".join(f"{threshold:.9g}\n" for threshold in client.thresholds))
        for image, data in images.items():
            bundle.writestr(f"images/{image}", data)
        bundle.writestr("expected.json", json.dumps(expected, indent=1, ensure_ascii=False))
        for source, text in kotlin_code(file, name).items():
            bundle.writestr(f"android/{source}", text)
        bundle.writestr("README.txt", readme)


def _file_name(i: int, data: bytes) -> str:
    kind = recognize(data)
    return f"{i + 1}.{FILE_SUFFIXES.get(kind, kind.lower())}"
