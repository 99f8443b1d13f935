"""A .zip to test a device with: the file, pictures, and what is expected of them."""

import json
import pathlib
import zipfile

import numpy as np

from keras_vit.atomic import written_aside
from keras_vit.client.tflite import TFLiteFile
from keras_vit.data.decode import recognize
from keras_vit.export.serving import ALSO

PICTURES = 8
ENDINGS = {"JPEG": "jpg", "WebP": "webp"}
README = """Self-test of {name}

model/{name}    the file, labels and preprocessing inside
labels.txt      its classes, in the order of its outputs, where it has classes
pictures/       {count} pictures
expected.json   for each picture the probability of each class, or the numbers that the model returns

On the device: run the model on each picture (upright by EXIF, both sides resized to {rows} rows of {columns} pixels by
bilinear interpolation; MediaPipe's ImageClassifier does that by itself) and compare with what is expected. The
expected ones are LiteRT's on a desktop CPU, with MediaPipe's resize. An emulated ARM core gave the same to 1e-5 for
float32 and float16, and lay as far off as the file is from float32 for fewer bits, some hundredths: each processor
rounds in its own way. Other resizes differ: see "from JPEG" in the card's table of exports.

On a desktop: keras-vit predict model/{name} pictures/*
"""


def write_bundle(path, file, name, witness):
    """Writes the .zip of a .tflite file.

    Args:
        path: the .zip.
        file: where the .tflite file lies.
        name: what it is called.
        witness: the `Witness` it was compared with; of its encoded pictures eight are taken, evenly spread.

    Raises:
        ValueError: if the witness has no encoded pictures.
    """
    if not witness.encoded:
        raise ValueError("Expected pictures for the self-test's bundle. Received: none; give some with --data")
    client = TFLiteFile(file)
    chosen = np.linspace(0, len(witness.encoded) - 1, min(PICTURES, len(witness.encoded))).astype(int)
    pictures = {_name(i, witness.encoded[k]): witness.encoded[k] for i, k in enumerate(chosen)}
    rows, columns = client.image_size
    found = client.predict_encoded(pictures.values())
    if client.class_names:
        expected = {
            picture: dict(zip(client.class_names, map(float, row)))
            for picture, row in zip(pictures, found["probabilities"])
        }
    else:
        expected = {
            picture: {name: np.asarray(values[i]).tolist() for name, values in found.items() if name not in ALSO}
            for i, picture in enumerate(pictures)
        }
    readme = README.format(name=name, count=len(pictures), rows=rows, columns=columns)
    with written_aside(path) as aside, zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.write(pathlib.Path(file), f"model/{name}")
        if client.class_names:
            bundle.writestr("labels.txt", "".join(f"{label}\n" for label in client.class_names))
        for picture, data in pictures.items():
            bundle.writestr(f"pictures/{picture}", data)
        bundle.writestr("expected.json", json.dumps(expected, indent=1, ensure_ascii=False))
        bundle.writestr("README.txt", readme)


def _name(i, data):
    kind = recognize(data)
    return f"{i + 1}.{ENDINGS.get(kind, kind.lower())}"
