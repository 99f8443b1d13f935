"""Damaged and false weight files of every format, by bytes and by structure.

A mutant of an .npz file that opens must hold the arrays of the original: checksums cover them. Files of safetensors and
HDF5 have no checksums, so that one that opens must hold what another reader, run here, finds in it.
"""

import contextlib
import io
import json
import os
import pathlib
import zipfile
from dataclasses import dataclass, field

import h5py
import numpy as np
import safetensors.numpy
from outcome import LONGEST_MESSAGE, Outcome

SHARE = 0.38
LIMIT_MB = 64  # a small constant; the models have some kilobytes
HUGE = 10**12
VALUES = [
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2.5,
        1e308,
        float("nan"),
        float("inf"),
        HUGE,
        10**30,
        "",
        "x",
        "1",
        "\x1b[31m\n",
        "\0",
    ),
    *(
        [],
        [1, 2],
        [[]],
        ["x"],
        {},
        {"x": 1},
        {"height": 8, "width": 8},
        {"height": "8"},
        "../x",
        "/etc/passwd",
        "é" * 999,
    ),
]


@dataclass
class State:
    folder: pathlib.Path
    model: object  # with the weights of `before`
    before: dict  # {path: array}
    weights: dict  # {path: array} that every seed holds
    arrays: dict  # {format: {name: array}}
    configs: dict  # {format: {file: JSON object}}
    seeds: dict = field(default_factory=dict)  # {ending: bytes}


def prepare(folder):
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import keras_vit

    variant = keras_vit.Variant(patch_size=4, hidden_size=8, num_layers=2, num_heads=2, mlp_dim=12)
    rng = np.random.default_rng(0)
    model = keras_vit.build(variant, input_shape=(8, 8, 3), classes=3)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    weights = values(model)
    keras_vit.save_checkpoint(model, folder / "seed.npz")
    model.save(folder / "seed.keras")
    model.save_weights(folder / "seed.weights.h5")
    state = State(folder, model, {}, weights, {}, {})
    for format in ("hf", "timm"):
        keras_vit.save_checkpoint(model, folder / format, format)
        data = (folder / format / "model.safetensors").read_bytes()
        state.arrays[format] = safetensors.numpy.load(data)
        state.configs[format] = {path.name: json.loads(path.read_text()) for path in (folder / format).glob("*.json")}
        state.seeds[f"{format}.safetensors"] = data
    with np.load(folder / "seed.npz") as file:
        state.arrays["npz"] = dict(file)
    for ending in ("npz", "keras", "weights.h5"):
        state.seeds[ending] = (folder / f"seed.{ending}").read_bytes()
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    state.before = values(model)
    return state


def values(model):
    return {weight.path: weight.numpy() for weight in model.weights}


def equal(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


# Mutations


def mutated(data, rng):
    """Returns bytes with one to three places flipped, zeroed, cut out, repeated, replaced or cut off."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        # The structure lies at both ends.
        at = rng.choice(
            [rng.randrange(len(data)), rng.randrange(min(400, len(data))), -1 - rng.randrange(min(400, len(data)))]
        )
        at %= len(data)
        size = rng.choice([1, 1, 2, 4, 8, 64, 512])
        kind = rng.randrange(8)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at : at + size] = bytes(len(data[at : at + size]))
        elif kind == 2:
            data[at : at + size] = rng.randbytes(len(data[at : at + size]))
        elif kind == 3:
            del data[at : at + size]
        elif kind == 4:
            data[at:at] = rng.randbytes(size)
        elif kind == 5:
            data[at:at] = data[at : at + size]
        elif kind == 6:
            start = rng.randrange(len(data))
            data[at : at + size] = data[start : start + size]
        else:
            del data[max(at, 1) :]
        if not data:
            return b"\0"
    return bytes(data)


def other_arrays(arrays, rng):
    """Returns (arrays of which one differs, what loading must give: the arrays, or None for an error)."""
    arrays, name = dict(arrays), rng.choice(sorted(arrays))
    array, kind = arrays[name], rng.randrange(12)
    if kind == 0:
        del arrays[name]
        return arrays, None
    if kind == 1:
        arrays[rng.choice([name + "x", name[:-1], "x/" + name, "", "../" + name, name.upper()])] = arrays.pop(name)
        return arrays, None
    if kind == 2:
        arrays[rng.choice(["extra", name + "/extra", name.replace("0", "7"), name.replace("1", "99")]) + "_"] = array
        return arrays, None
    if kind == 3:
        shapes = [(*array.shape, 1), (1, *array.shape), (array.size, 1), (array.size + 1,), (0,), (), (0, 10**9)]
        shape = rng.choice([shape for shape in shapes if shape != array.shape])
        arrays[name] = np.zeros(shape, np.float32)
        return arrays, None
    if kind == 4:
        wrong = array.copy()
        wrong.reshape(-1)[rng.randrange(array.size)] = rng.choice([np.nan, np.inf, -np.inf])
        arrays[name] = wrong
        return arrays, None
    if kind == 5:
        arrays[name] = array.astype(rng.choice([bool, np.complex64, "S4"]))
        return arrays, None
    if kind == 6:
        arrays[name] = array.astype(np.float64) * 1e300
        return arrays, None
    dtype = rng.choice([np.float16, np.float64, np.int32, np.uint8, ">f4"])
    with np.errstate(all="ignore"):
        arrays[name] = array.astype(dtype)
    return arrays, {**arrays, name: arrays[name].astype(np.float32)}


def other_json(value, rng):
    """Returns a JSON value of which one part differs."""
    value = json.loads(json.dumps(value))
    if not isinstance(value, (dict, list)) or not value or rng.random() < 0.05:
        return rng.choice(VALUES)
    key = rng.choice(sorted(value)) if isinstance(value, dict) else rng.randrange(len(value))
    kind = rng.randrange(6)
    if kind == 0:
        del value[key]
    elif kind == 1 and isinstance(value, dict):
        value[rng.choice(["x", key + "x", key.upper(), ""])] = value.pop(key)
    elif kind == 2:
        other = rng.choice(sorted(value)) if isinstance(value, dict) else rng.randrange(len(value))
        value[key], value[other] = value[other], value[key]
    elif kind == 3 and isinstance(value[key], (int, float)):
        value[key] = value[key] * rng.choice([-1, 0, 2, 0.5, 1000, HUGE])
    else:
        value[key] = other_json(value[key], rng)
    return value


def text_of(value, rng):
    """Returns JSON as bytes, in a few cases as no JSON."""
    text = json.dumps(value).encode()
    odd = [
        b"[" * 10**5,
        b'{"a":' * 10**4,
        text[: rng.randrange(len(text) + 1)],
        text.replace(b"1", b"1" * 5000, 1),
        b"\xff" + text,
    ]
    return rng.choice(odd) if rng.random() < 0.05 else text


def write_arrays(path, arrays):
    if path.suffix == ".npz":
        with zipfile.ZipFile(path, "w") as file:
            for name, array in arrays.items():
                data = io.BytesIO()
                np.save(data, array)
                info = zipfile.ZipInfo(f"{name}.npy")
                file.writestr(info, data.getvalue())
    else:
        path.write_bytes(safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


# Cases


def case(state, number, random):
    make = CASES_OF[number % len(CASES_OF)]
    kind, result, detail = make(state, random)
    return Outcome(kind, result, detail, limit_mb=LIMIT_MB)


def attempt(name, function):
    """Returns (value, None), or (None, result) if the function raises the error that is promised, or a wrong one."""
    try:
        return function(), None
    except (ValueError, OSError) as error:
        message = str(error)
        if len(message) > LONGEST_MESSAGE:
            return None, f"message of {len(message):,} characters: {message[:100]}"
        return None, "refused" if name in message else f"message without the file: {message[:200]}"


def read_all(path):
    from keras_vit.weights.readers import open_arrays

    with open_arrays(path) as file:
        return {name: file.read(name) for name in file.shapes}


def bytes_of(ending, independent):
    def make(state, rng):
        path = state.folder / f"mutant.{ending}"
        data = mutated(state.seeds[ending], rng)
        path.write_bytes(data)
        kind = f"{ending.split('.')[-1]} bytes"
        found, result = attempt(path.name, lambda: read_all(path))
        if result:
            return kind, *refused(result)
        expected = independent(state, path, data, found)
        return kind, "equal" if equal(found, expected) else "other arrays", ", ".join(sorted(found))[:200]

    return make


def refused(result):
    return ("refused", "") if result == "refused" else ("message", result)


def original(state, path, data, found):
    """Returns the arrays of the .npz file; fewer only if the model says so, too."""
    if found.keys() < state.arrays["npz"].keys():
        _, result = load_into(state, path)
        if result == "refused":
            return {name: state.arrays["npz"][name] for name in found}
    return state.arrays["npz"]


def by_safetensors(state, path, data, found):
    return {name: array.astype(np.float32) for name, array in safetensors.numpy.load(data).items()}


def by_h5py(state, path, data, found):
    with h5py.File(path, "r") as file:
        return {name: np.asarray(file[name][()], np.float32) for name in found}


def load_into(state, path, name=None, arguments=None):
    """Loads weights into the model; returns (weights or None, result), with the model as before after both."""
    import keras_vit

    def load():
        keras_vit.load_weights(state.model, path, **arguments or {})
        return values(state.model)

    found, result = attempt(name or path.name, load)
    now = found or values(state.model)
    if result and not equal(now, state.before):
        result = "a model that was changed by a load that failed"
    if not equal(now, state.before):
        for weight in state.model.weights:
            weight.assign(state.before[weight.path])
    return found, result


def arrays_of(format, ending):
    def make(state, rng):
        path = state.folder / f"arrays.{ending}"
        for old in state.folder.glob("*.json"):
            old.unlink()
        arrays, expected = other_arrays(state.arrays[format], rng)
        kind = f"{format} arrays"
        try:
            write_arrays(path, arrays)
        except Exception:  # the writer refuses it
            return kind, "refused", ""
        found, result = load_into(state, path)
        if result:
            wrong = expected is not None and result == "refused"
            return (kind, "refused a good file", str(path)) if wrong else (kind, *refused(result))
        if expected is None:
            return kind, "took other arrays", ", ".join(sorted({*arrays} ^ {*state.arrays[format]}))
        differing = [name for name in found if not np.array_equal(found[name], state.weights[name])]
        changed = [name for name in arrays if not np.array_equal(expected[name], state.arrays[format][name])]
        most = 3 if format == "timm" else 1  # weights of ours in one array
        return (
            kind,
            "equal" if bool(differing) == bool(changed) and len(differing) <= most else "other weights",
            str(differing),
        )

    return make


def json_of(format):
    def make(state, rng):
        folder = state.folder / f"json_{format}"
        folder.mkdir(exist_ok=True)
        (folder / "model.safetensors").write_bytes(state.seeds[f"{format}.safetensors"])
        changed = rng.choice(sorted(state.configs[format]))
        for name, value in state.configs[format].items():
            (folder / name).write_bytes(
                text_of(other_json(value, rng), rng) if name == changed else json.dumps(value).encode()
            )
        found, result = load_into(state, folder, folder.name)
        kind = f"{format} {changed}"
        if result:
            return kind, *refused(result)
        return kind, "equal" if equal(found, state.weights) else "other weights", changed

    return make


def index(state, rng):
    folder = state.folder / "parts"
    folder.mkdir(exist_ok=True)
    arrays, half = state.arrays["hf"], len(state.arrays["hf"]) // 2
    files = [f"model-0000{part}-of-00002.safetensors" for part in (1, 2)]
    names = [sorted(arrays)[:half], sorted(arrays)[half:]]
    for file, own in zip(files, names):
        (folder / file).write_bytes(safetensors.numpy.save({name: arrays[name] for name in own}))
    (folder / "config.json").write_text(json.dumps(state.configs["hf"]["config.json"]))
    value = {
        "metadata": {"total_size": 1},
        "weight_map": {name: file for file, own in zip(files, names) for name in own},
    }
    if rng.random() < 0.2:
        file = rng.choice(files)
        (folder / file).write_bytes(mutated((folder / file).read_bytes()[:900], rng))  # without its numbers
    else:
        changed = {**value, "weight_map": other_json(value["weight_map"], rng)}
        value = rng.choice([changed, changed, other_json(value, rng)])
    (folder / "model.safetensors.index.json").write_bytes(text_of(value, rng))
    found, result = load_into(state, folder, folder.name)
    if result:
        return "index.json", *refused(result)
    return "index.json", "equal" if equal(found, state.weights) else "other weights", ""


def load_keras(state, path, kind):
    from keras_vit.weights.keras_file import load_keras_file

    model, result = attempt(path.name, lambda: load_keras_file(path))
    if result:
        return kind, *refused(result)
    same = equal({w.path: w.numpy() for w in model.weights}, state.weights)
    return kind, "equal" if same else "other weights", ""


def keras_bytes(state, rng):
    path = state.folder / "mutant.keras"
    path.write_bytes(mutated(state.seeds["keras"], rng))
    return load_keras(state, path, ".keras bytes")


def keras_members(state, rng):
    path = state.folder / "members.keras"
    with zipfile.ZipFile(io.BytesIO(state.seeds["keras"])) as file:
        members = {name: file.read(name) for name in file.namelist()}
    name = rng.choice(sorted(members))
    kind = rng.randrange(5)
    if name.endswith(".json") and kind < 4:
        value = json.loads(members[name])
        members[name] = text_of(other_json(value, rng), rng)
        if "config" in name:
            deep = value
            for _ in range(rng.randrange(4)):
                inside = [
                    one
                    for one in (deep.values() if isinstance(deep, dict) else deep)
                    if isinstance(one, (dict, list)) and one
                ]
                deep = rng.choice(inside) if inside else deep
            new = other_json(deep, rng)
            if isinstance(deep, dict) and isinstance(new, dict):
                deep.clear()
                deep.update(new)
            elif isinstance(deep, list) and isinstance(new, list):
                deep[:] = new
            members[name] = json.dumps(value).encode()
    elif kind == 4:
        members[rng.choice(["x", "../x", "/x", ""]) + "_"] = members.pop(name)
    else:
        members[name] = mutated(members[name], rng) if rng.random() < 0.5 else b""
    with zipfile.ZipFile(path, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)
    what, result, detail = load_keras(state, path, ".keras members")
    if result == "other weights" and kind != 4:  # another valid model, or other numbers, which have no second checksum
        result = "another model"
    return what, result, detail


def whole_load(state, rng):
    """Loads a file whose architecture is detected, instead of into a model."""
    import keras_vit

    format = rng.choice(["npz", "hf", "timm"])
    path = state.folder / ("load.npz" if format == "npz" else "load.safetensors")
    for old in state.folder.glob("*.json"):
        old.unlink()
    arrays, expected = other_arrays(state.arrays[format], rng)
    kind = f"{format} load"
    with contextlib.suppress(Exception):
        write_arrays(path, arrays)
        model, result = attempt(path.name, lambda: keras_vit.load(path, num_heads=2))
        if result:
            return kind, *refused(result)
        if expected is None:
            return kind, "took other arrays", ", ".join(sorted({*arrays} ^ {*state.arrays[format]}))
        assert model is not None
        return kind, "equal", ""
    return kind, "refused", ""


GOOD = {"equal", "refused", "another model"}
CASES_OF = [
    *[bytes_of("npz", original)] * 120,
    *[bytes_of("hf.safetensors", by_safetensors)] * 150,
    *[bytes_of("weights.h5", by_h5py)] * 60,
    *[arrays_of("npz", "npz"), arrays_of("hf", "safetensors"), arrays_of("timm", "safetensors")] * 4,
    *[json_of("hf"), json_of("timm"), index] * 4,
    keras_bytes,
    keras_members,
    whole_load,
]
