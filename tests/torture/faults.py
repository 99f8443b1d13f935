"""Seeded faults in exported files of random small models: the proof catches each, and passes the same file without it.

The faults are those of weights, of metadata and of a client in tests/export/test_faults.py, at random places.
"""

import dataclasses

import keras
import numpy as np
from outcome import Outcome

import keras_vit
from keras_vit.export.proof import Reference, compare, violations
from keras_vit.export.serving import make_serving
from keras_vit.export.targets import TARGETS
from keras_vit.export.tflite.conversion import converted, with_metadata
from keras_vit.runtime.tflite import TFLiteFile

SHARE = 0.03
GOOD = {"caught", "passed"}
TARGET = TARGETS["tflite-float32"]
IMAGES = 48
FAULTS_OF_A_MODEL = 24


def prepare(folder):
    return {"folder": folder, "group": None}


@dataclasses.dataclass
class Exported:
    """A random model, its file without a fault, and what the model returns."""

    serving: object
    weights: dict
    bytes: bytes
    reference: Reference


def random_model(seed):
    """Builds, converts and proves a random model, whose predictions differ from image to image."""
    random = np.random.default_rng(seed)
    keras.backend.clear_session(free_memory=False)
    keras.utils.set_random_seed(seed)
    heads = int(random.choice([1, 2, 4]))
    size = tuple(4 * int(side) for side in random.integers(2, 6, 2))
    classes = int(random.integers(3, 9))
    variant = keras_vit.Variant(
        patch_size=4,
        hidden_size=4 * heads * int(random.integers(2, 5)),
        num_layers=int(random.integers(1, 4)),
        num_heads=heads,
        mlp_dim=int(random.integers(9, 40)),
        pooling=str(random.choice(["token", "gap"])),
    )
    model = keras_vit.build(variant, input_shape=(*size, 3), classes=classes)
    for weight in model.weights:
        values = random.normal(size=weight.shape) * (1.5 * weight.shape[0] ** -0.5 if len(weight.shape) == 2 else 0.3)
        weight.assign(values + weight.path.endswith("gamma"))
    model.get_layer("head").kernel.assign(4 * np.asarray(model.get_layer("head").kernel))
    names = [f"class {i}" for i in range(classes)]
    pixels = random.integers(0, 256, (IMAGES, 1, 1, 3)) + random.normal(0, 60, (IMAGES, *size, 3))
    reference = Reference(model, names, pixels.clip(0, 255).astype(np.uint8))
    serving = make_serving(model, names, input_type=str(random.choice(["uint8", "scaled"])))
    weights = {weight.path: np.asarray(weight) for weight in model.weights}
    # The norms' scales stay out of the kernels, which are looked up by their bytes.
    return Exported(serving, weights, converted(serving.model, fold_norms=False), reference)


def stored(values):
    return np.ascontiguousarray(np.float32(values).T if values.ndim == 2 else np.float32(values)).tobytes()


def overwritten(exported, path, change):
    """Returns the file with other numbers in the place of a weight, or None where it is stored in another form."""
    old = exported.weights[path]
    if exported.bytes.count(stored(old)) != 1:
        return None
    start = exported.bytes.index(stored(old))
    return exported.bytes[:start] + stored(change(old)) + exported.bytes[start + len(stored(old)) :]


def with_nan(values, random):
    values = values.copy()
    values[tuple(random.randrange(side) for side in values.shape)] = random.choice((np.nan, np.inf, -np.inf))
    return values


def of_bits(values, random):
    step = np.abs(values).max() / (2 ** random.choice((1, 2)) - 1)
    return np.round(values / step) * step


def rolled(values, random):
    return np.roll(values, 1 + random.randrange(max(values.shape[-1] - 1, 1)), axis=-1)


WEIGHTS = {
    "NaN or infinite": with_nan,
    "zeros": lambda values, random: 0 * values,
    "another seed": lambda values, random: np.random.default_rng(random.randrange(2**32)).permuted(values, axis=None),
    "the other way round": lambda values, random: values[::-1],
    "wrong order": lambda values, random: values.reshape(values.shape[::-1]).T if values.ndim == 2 else values[::-1],
    "too few bits": of_bits,
    "a wrong factor": lambda values, random: values * random.choice((-1, 0.5, 0.8, 1.3, 4)),
    "shifted": rolled,
}
# What each input of a file depends on; the key's bias changes no output.
KERNELS = ("encoder/projection/kernel", "head/kernel", "mlp/out/kernel", "attention/out/kernel", "value/kernel")


def shifted(names):
    return (*names[1:], names[0])


DESCRIBED = {
    "labels shifted": lambda served, random: {"class_names": shifted(served.class_names)},
    "two labels swapped": lambda served, random: {"class_names": swapped(served.class_names, random)},
    "a label missing": lambda served, random: {"class_names": served.class_names[:-1]},
    "a label too many": lambda served, random: {"class_names": ("background", *served.class_names)},
}


def swapped(names, random):
    names, (i, j) = list(names), random.sample(range(len(names)), 2)
    names[i], names[j] = names[j], names[i]
    return tuple(names)


CLIENTS = {
    "BGR": lambda images: images[..., ::-1],
    "mirrored": lambda images: images[:, :, ::-1],
    "upside down": lambda images: images[:, ::-1],
    "shifted by a pixel": lambda images: np.roll(images, 1, axis=2),
    "half the levels": lambda images: images // 2,
}


class Client(TFLiteFile):
    """A client that passes other pixels."""

    def __init__(self, path, change):
        super().__init__(path)
        self.change = change

    def predict(self, pixels):
        return super().predict(self.change(np.asarray(pixels)))


def judged(state, number, exported, file, change=lambda images: images):
    """Returns the violated bounds of a file, or the error that it ends in; "" if there are none."""
    path = state["folder"] / f"model_{number}.tflite"
    path.write_bytes(file)
    try:
        opened = Client(path, change)
        agreement = compare(opened, exported.reference, name=path.name, target="tflite-float32", tie=TARGET.tie)
        return "; ".join(violations(agreement, TARGET.bounds))
    except ValueError as error:
        return str(error)
    finally:
        path.unlink()


def case(state, number, random):
    group = number // FAULTS_OF_A_MODEL
    if state["group"] is None or state["group"][0] != group:
        state["group"] = group, random_model(group)  # the same for every seed of the run: of the number alone
    exported = state["group"][1]
    limits = {"limit_s": 30}
    twin = judged(state, number, exported, with_metadata(exported.bytes, exported.serving))
    if number % FAULTS_OF_A_MODEL < 2:
        return Outcome("no fault", "refused" if twin else "passed", twin[:300], **limits)
    part = random.choice(("weights", "weights", "metadata", "client"))
    if part == "weights":
        name = random.choice(sorted(WEIGHTS))
        paths = [path for path in exported.weights if path.endswith(KERNELS)]
        random.shuffle(paths)
        files = ((path, overwritten(exported, path, lambda values: WEIGHTS[name](values, random))) for path in paths)
        path, file = next((path, file) for path, file in files if file)
        name = f"{name} in {path}"
        message = judged(state, number, exported, with_metadata(file, exported.serving))
    elif part == "metadata":
        name = random.choice(sorted(DESCRIBED))
        changes = DESCRIBED[name](exported.serving, random)
        served = dataclasses.replace(exported.serving, **changes)
        message = judged(state, number, exported, with_metadata(exported.bytes, served))
    else:
        name = random.choice(sorted(CLIENTS))
        whole = with_metadata(exported.bytes, exported.serving)
        message = judged(state, number, exported, whole, CLIENTS[name])
    if twin:
        return Outcome(part, "twin refused", twin[:300], **limits)
    return Outcome(part, "caught" if message else "missed", "" if message else f"{name}, model {group}", **limits)
