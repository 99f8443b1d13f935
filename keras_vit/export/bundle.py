"""A .zip to test a device with: the file, images, and what is expected of them."""

import json
import pathlib
import zipfile

import numpy as np

from keras_vit._atomic import written_aside
from keras_vit.data.decoding import recognize
from keras_vit.export.targets import ALSO
from keras_vit.runtime.tflite import TFLiteFile

_IMAGES = 8
ENDINGS = {"JPEG": "jpg", "WebP": "webp"}
README = """Self-test of {name}

model/{name}    the file, labels and preprocessing inside
labels.txt      its classes, in the order of its outputs, where it has classes
images/       {count} images
expected.json   for each image the probability of each class, or the numbers that the model returns

On the device: run the model on each image (upright by EXIF, both sides resized to {rows} rows of {columns} pixels by
bilinear interpolation; MediaPipe's ImageClassifier does that by itself) and compare with what is expected. The
expected ones are LiteRT's on a desktop CPU, with MediaPipe's resize. An emulated ARM core gave the same to 1e-5 for
float32 and float16, and lay as far off as the file is from float32 for fewer bits, some hundredths: each processor
rounds in its own way. Other resizes differ: see "from JPEG" in the card's table of exports.

On a desktop: keras-vit predict model/{name} images/*
"""


def write_bundle(path, file, name, witness):
    """Writes the .zip of a .tflite file.

    Args:
        path: the .zip.
        file: where the .tflite file lies.
        name: what it is called.
        witness: the `Witness` it was compared with; of its encoded images eight are taken, evenly spread.

    Raises:
        ValueError: if the witness has no encoded images.
    """
    if not witness.encoded:
        raise ValueError("Expected images for the self-test's bundle. Received: none; give some with --data")
    client = TFLiteFile(file)
    chosen = np.linspace(0, len(witness.encoded) - 1, min(_IMAGES, len(witness.encoded))).astype(int)
    images = {_name(i, witness.encoded[k]): witness.encoded[k] for i, k in enumerate(chosen)}
    rows, columns = client.image_size
    found = client.predict_encoded(images.values())
    if client.class_names:
        expected = {
            image: dict(zip(client.class_names, map(float, row))) for image, row in zip(images, found["probabilities"])
        }
    else:
        expected = {
            image: {name: np.asarray(values[i]).tolist() for name, values in found.items() if name not in ALSO}
            for i, image in enumerate(images)
        }
    readme = README.format(name=name, count=len(images), rows=rows, columns=columns)
    with written_aside(path) as aside, zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.write(pathlib.Path(file), f"model/{name}")
        if client.class_names:
            bundle.writestr("labels.txt", "".join(f"{label}\n" for label in client.class_names))
        for image, data in images.items():
            bundle.writestr(f"images/{image}", data)
        bundle.writestr("expected.json", json.dumps(expected, indent=1, ensure_ascii=False))
        bundle.writestr("README.txt", readme)


def _name(i, data):
    kind = recognize(data)
    return f"{i + 1}.{ENDINGS.get(kind, kind.lower())}"
