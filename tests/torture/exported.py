"""Mutants of exported files: .tflite, ONNX, OpenVINO and SavedModel.

A damaged file is refused by the SHA-256 inside it, or has the outputs of the whole one. A crafted one (ONNX with the
right SHA-256, or a SavedModel without) may also be another model: nothing tells it from one that was exported so.
Crafted .tflite files and OpenVINO models are not tried: their runtimes themselves can crash on them.
"""

import hashlib
import shutil

import keras
import numpy as np
from outcome import LONGEST_MESSAGE, Outcome

import keras_vit
from keras_vit.runtime.files import open_exported

SHARE = 0.03
GOOD = {"equal", "refused", "another model"}
CLASSES = ("ash", "fox, red", "Möwe")
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3), np.uint8)
TARGETS = ("tflite-float32", "tflite-int8", "onnx", "savedmodel", "openvino")
SUMS = "1/SHA256SUMS"


class State:
    """The files of one small model, and what they return."""

    def __init__(self, folder):
        keras.utils.set_random_seed(0)
        variant = keras_vit.Variant(patch_size=4, hidden_size=32, num_layers=1, num_heads=2, mlp_dim=48)
        model = keras_vit.build(variant, input_shape=(8, 12, 3), classes=3)
        whole = folder / "whole"
        agreements = keras_vit.export.export_model(model, whole, TARGETS, class_names=CLASSES)
        self.paths = {agreement.target: whole / agreement.file for agreement in agreements}
        self.files = {target: path.read_bytes() for target, path in self.paths.items() if path.is_file()}
        self.parts = {
            target: {part.relative_to(path).as_posix(): part.read_bytes() for part in path.rglob("*") if part.is_file()}
            for target, path in self.paths.items()
            if path.is_dir()
        }
        self.expected = {target: self.results(path) for target, path in self.paths.items()}
        self.folder = folder / "mutants"
        self.folder.mkdir()

    @staticmethod
    def results(path):
        file = open_exported(path)
        return file.class_names, file.outputs, file.image_size, file.predict(PIXELS)


prepare = State


def flipped(file, random):
    file[random.randrange(len(file))] ^= 1 << random.randrange(8)


def zeroed(file, random):
    at, length = random.randrange(len(file)), random.choice((1, 4, 16, 256))
    file[at : at + length] = bytes(len(file[at : at + length]))


def deleted(file, random):
    at = random.randrange(len(file))
    del file[at : at + random.choice((1, 4, 16, 64, 1024))]


def inserted(file, random):
    at = random.randrange(len(file))
    file[at:at] = random.randbytes(random.choice((1, 4, 16, 64)))


def truncated(file, random):
    del file[random.randrange(len(file)) :]


def doubled(file, random):
    at, length = random.randrange(len(file)), random.choice((4, 16, 64, 1024))
    file[at:at] = file[at : at + length]


def spliced(file, random):
    length = random.choice((4, 16, 64))
    source, target = (random.randrange(len(file)) for _ in range(2))
    file[target : target + length] = file[source : source + length]


def number_changed(file, random):
    at = random.randrange(len(file)) & ~3
    numbers = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**24, random.randrange(300))
    file[at : at + 4] = random.choice(numbers).to_bytes(4, "little")


MUTATIONS = (flipped, zeroed, deleted, inserted, truncated, doubled, spliced, number_changed)


def mutant(content, random):
    """Returns other bytes."""
    file = bytearray(content)
    mutate = random.choice(MUTATIONS)
    for _ in range(random.choice((1, 1, 1, 2, 4, 16))):
        if file:
            mutate(file, random)
    return bytes(file)


def signed(file):
    return file[:-64] + hashlib.sha256(file[:-64]).hexdigest().encode()


def case(state, number, random):
    target = TARGETS[number // 2 % len(TARGETS)]
    crafted = target == "onnx" and random.random() < 0.3
    if target in state.parts:
        crafted = target == "savedmodel" and random.random() < 0.02
        path = state.folder / f"folder_{number}"
        parts = state.parts[target]
        changed = random.choice(sorted(parts))
        parts = parts | {changed: mutant(parts[changed], random)}
        if crafted:
            del parts[SUMS]
        for name, content in parts.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    else:
        path = state.folder / f"mutant_{number}{state.paths[target].suffix}"
        file = mutant(state.files[target], random)
        path.write_bytes(signed(file) if crafted else file)
    kind = f"{target}{', crafted' if crafted else ''}"
    limits = {"limit_mb": None if target in state.parts or crafted else 64, "limit_s": 20 if crafted else 5}
    try:
        found = state.results(path)
    except ValueError as error:
        message = str(error)
        fault = "" if len(message) <= LONGEST_MESSAGE and path.name in message else f"message: {message[:300]}"
        return Outcome(kind, "message" if fault else "refused", fault, **limits)
    finally:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if is_equal(found, state.expected[target]):
        return Outcome(kind, "equal", **limits)
    return Outcome(kind, "another model" if crafted else "other outputs", str(found)[:300], **limits)


def is_equal(found, expected):
    return found[:3] == expected[:3] and all(
        np.array_equal(found[3][name], values) for name, values in expected[3].items()
    )
