"""Files that try to run code, to write elsewhere or to be unpickled, at every way into the package."""

import base64
import io
import json
import marshal
import os
import pathlib
import pickle
import stat
import zipfile
from dataclasses import dataclass

import h5py
import numpy as np
from outcome import LONGEST_MESSAGE, Outcome

SHARE = 0.05
GOOD = {"refused"}


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@dataclass
class State:
    folder: pathlib.Path
    canary: pathlib.Path
    members: dict  # of a .keras file
    config: dict  # its config.json


def prepare(folder):
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import keras
    import tensorflow as tf

    import keras_vit

    variant = keras_vit.Variant(patch_size=4, hidden_size=8, num_layers=1, num_heads=2, mlp_dim=12)
    model = keras_vit.build(variant, input_shape=(8, 8, 3), classes=3)
    model.save(folder / "good.keras")
    keras_vit.save_checkpoint(model, folder / "good.npz")
    with zipfile.ZipFile(folder / "good.keras") as file:
        members = {name: file.read(name) for name in file.namelist()}
    canary = folder / "canary"

    @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3))])
    def write(images):
        tf.io.write_file(str(canary), "x")
        return images

    module = tf.Module()
    module.serve = write
    tf.saved_model.save(module, str(folder / "saved_model"), signatures=write)
    keras.backend.clear_session()
    return State(folder, canary, members, json.loads(members["config.json"]))


def python_lambda(state):
    """Returns the code of a function that creates the canary, in the form of Keras."""
    source = f"def run(x, *rest, **names):\n    open({str(state.canary)!r}, 'w').close()\n    return x"
    code = compile(source, "<string>", "exec").co_consts[0]  # that of the function
    value = [base64.b64encode(marshal.dumps(code)).decode(), None, None]
    return {"class_name": "__lambda__", "config": {"value": value}}


def layer(module, name, config, registered=None):
    return {"module": module, "class_name": name, "config": config, "registered_name": registered or name}


def layers(state):
    """Yields {name: config of a layer}."""
    code = python_lambda(state)
    touch = f"touch {state.canary}"
    inner = str(state.folder / "inner.keras")
    yield "Lambda", layer("keras.layers", "Lambda", {"name": "x", "function": code, "arguments": {}})
    yield "Lambda of a shape", layer("keras.layers", "Lambda", {"name": "x", "function": "relu", "output_shape": code})
    yield (
        "TFSMLayer",
        layer(
            "keras.layers",
            "TFSMLayer",
            {"filepath": str(state.folder / "saved_model"), "call_endpoint": "serve", "name": "x"},
        ),
    )
    yield "TorchModuleWrapper", layer("keras.layers", "TorchModuleWrapper", {"module": "AAAA", "name": "x"})
    for module, name, config in [
        ("os", "system", {"command": touch}),
        ("posix", "system", {"command": touch}),
        ("subprocess", "Popen", {"args": touch, "shell": True}),
        ("subprocess", "check_output", {"args": touch, "shell": True}),
        ("builtins", "eval", {"source": f"open({str(state.canary)!r}, 'w')"}),
        ("builtins", "exec", {"source": f"open({str(state.canary)!r}, 'w')"}),
        ("builtins", "open", {"file": str(state.canary), "mode": "w"}),
        ("pathlib", "Path.touch", {"self": str(state.canary)}),
        ("importlib", "import_module", {"name": "antigravity"}),
        ("shutil", "copy", {"src": inner, "dst": str(state.canary)}),
        ("pickle", "loads", {"data": "x"}),
        ("numpy", "load", {"file": inner, "allow_pickle": True}),
        ("keras.saving", "load_model", {"filepath": inner, "safe_mode": False}),
        ("keras.models", "load_model", {"filepath": inner, "safe_mode": False}),
        ("keras.src.saving.saving_lib", "load_model", {"filepath": inner, "safe_mode": False}),
        ("keras.config", "enable_unsafe_deserialization", {}),
        ("keras.src.saving.serialization_lib", "enable_unsafe_deserialization", {}),
        ("keras.utils", "get_file", {"fname": str(state.canary), "origin": f"file://{inner}"}),
        ("keras.src.utils.file_utils", "get_file", {"fname": str(state.canary), "origin": f"file://{inner}"}),
        ("keras.src.utils.python_utils", "func_load", {"code": code["config"]["value"][0]}),
        ("keras.export", "ExportArchive", {}),
        ("keras.src.saving.file_editor", "KerasFileEditor", {"filepath": inner}),
        ("tensorflow", "io.write_file", {"filename": str(state.canary), "contents": "x"}),
        ("keras_vit._atomic", "write_text", {"path": str(state.canary), "text": "x"}),
        ("keras_vit.weights.download", "fetch", {"address": "http://127.0.0.1:9/x"}),
    ]:
        yield f"{module}.{name}", layer(module, name, config)


def functions(state):
    """Yields {name: config of an activation}."""
    for module, name, registered in [
        ("os", "system", "system"),
        ("builtins", "eval", "eval"),
        ("keras.config", "enable_unsafe_deserialization", "function"),
        ("keras.saving", "load_model", "function"),
        ("subprocess", "getoutput", "getoutput"),
    ]:
        yield (
            f"function {module}.{name}",
            {"module": module, "class_name": "function", "config": name, "registered_name": registered},
        )
    yield "function __lambda__", python_lambda(state)


def keras_file(state, path, members):
    with zipfile.ZipFile(path, "w") as file:
        for name, data in {**state.members, **members}.items():
            file.writestr(name, data)


def with_config(state, path, config):
    keras_file(state, path, {"config.json": json.dumps(config)})


def in_sequence(config):
    """Returns the config of a Sequential model that holds a layer."""
    input_layer = layer("keras.layers", "InputLayer", {"batch_shape": [None, 8, 8, 3], "dtype": "float32", "name": "i"})
    return layer("keras", "Sequential", {"name": "s", "layers": [input_layer, config]})


def in_our_model(state, config):
    """Returns the config of one of our models whose second layer is another."""
    ours = json.loads(json.dumps(state.config))
    nodes = ours["config"]["layers"]
    nodes[1] = {**nodes[1], **config, "name": nodes[1]["name"]}
    return ours


def pickled(state):
    return pickle.dumps(Touch(state.canary))


def object_array(state):
    file = io.BytesIO()
    np.save(file, np.array([Touch(state.canary)], object), allow_pickle=True)
    return file.getvalue()


def arrays(state, path, members):
    with zipfile.ZipFile(state.folder / "good.npz") as good, zipfile.ZipFile(path, "w") as file:
        for name in good.namelist():
            file.writestr(name, good.read(name))
        for name, data in members.items():
            file.writestr(name, data)


def weights_with_links(state, link):
    """Returns an HDF5 file whose first dataset is a link."""
    file = io.BytesIO(state.members["model.weights.h5"])
    with h5py.File(file, "r+") as h5:
        names = []
        h5.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        del h5[names[0]]
        h5[names[0]] = link
    return file.getvalue()


def files(state):
    """Yields (name, ending, function that writes a path) of every hostile file."""
    for name, config in layers(state):
        yield f"{name} in a Sequential", ".keras", lambda path, c=config: with_config(state, path, in_sequence(c))
        yield f"{name} in our model", ".keras", lambda path, c=config: with_config(state, path, in_our_model(state, c))
        yield f"{name} as the model", ".keras", lambda path, c=config: with_config(state, path, c)
    for name, config in functions(state):
        dense = {"name": "d", "units": 2, "activation": config}
        one = in_sequence(layer("keras.layers", "Dense", dense))
        yield name, ".keras", lambda path, c=one: with_config(state, path, c)
        initial = {"name": "d", "units": 2, "kernel_initializer": config}
        two = in_sequence(layer("keras.layers", "Dense", initial))
        yield f"{name} as initializer", ".keras", lambda path, c=two: with_config(state, path, c)
    outside = {
        "up": f"../{state.canary.name}",
        "absolute": str(state.canary),
        "assets": f"assets/../../{state.canary.name}",
    }
    for name, member in outside.items():
        yield f"member {name}", ".keras", lambda path, m=member: keras_file(state, path, {m: b"x"})
        yield f"array {name}", ".npz", lambda path, m=member: arrays(state, path, {f"{m}.npy": plain()})
    yield "symlink", ".keras", lambda path: with_symlink(state, path)
    secret = state.folder / "secret.h5"
    if not secret.exists():
        with h5py.File(secret, "w") as file:
            file["x"] = np.arange(3.0)
    for name, link in {"external": h5py.ExternalLink(str(secret), "x"), "soft": h5py.SoftLink("/nowhere")}.items():
        data = weights_with_links(state, link)
        yield (
            f"{name} link in the weights",
            ".keras",
            lambda path, d=data: keras_file(state, path, {"model.weights.h5": d}),
        )
        yield f"{name} link", ".weights.h5", lambda path, d=data: path.write_bytes(d)
    yield "object array", ".npz", lambda path: arrays(state, path, {"x.npy": object_array(state)})
    yield "object array alone", ".npz", lambda path: path.write_bytes(object_array(state))
    yield "pickle in a zip", ".npz", lambda path: arrays(state, path, {"archive/data.pkl": pickled(state)})
    for ending in (".npz", ".safetensors", ".h5", ".keras", ".bin", ".pt"):
        yield f"pickle called {ending}", ending, lambda path: path.write_bytes(pickled(state))


def plain():
    file = io.BytesIO()
    np.save(file, np.ones(3, np.float32))
    return file.getvalue()


def with_symlink(state, path):
    keras_file(state, path, {})
    link = zipfile.ZipInfo("assets/link")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(link, str(state.folder))


def ways_in(state):
    """Returns {name: function of a path}: the ways into the package for a file of weights."""
    import keras_vit
    from keras_vit.commands.image_model import open_model

    def build(path):
        variant = keras_vit.Variant(patch_size=4, hidden_size=8, num_layers=1, num_heads=2, mlp_dim=12)
        return keras_vit.build(variant, input_shape=(8, 8, 3), classes=3, weights=str(path))

    return {"load": keras_vit.load, "build": build, "command": open_model}


def case(state, number, random):
    import keras

    ways, hostile = list(ways_in(state).items()), list(files(state))
    (way, enter), (name, ending, write) = ways[number % len(ways)], hostile[number // len(ways) % len(hostile)]
    unsafe = number // (len(ways) * len(hostile)) % 2 == 1
    kind = f"{way}, {'unsafe' if unsafe else 'safe'} mode set"
    state.canary.unlink(missing_ok=True)
    with_config(state, state.folder / "inner.keras", in_sequence(dict(layers(state))["Lambda"]))
    path = state.folder / f"hostile{ending}"
    write(path)
    if unsafe:
        keras.config.enable_unsafe_deserialization()
    try:
        enter(path)
    except (ValueError, TypeError) as error:
        message = str(error)
        fault = "" if path.name in message and len(message) <= LONGEST_MESSAGE else f"message: {message[:200]}"
    else:
        fault = "opened"
    finally:
        set_safe()
    if state.canary.exists():
        fault = "ran or wrote"
    return Outcome(kind, fault or "refused", f"{name}: {fault}", limit_mb=200)


def set_safe():
    """Takes Keras' global setting back: only its source can."""
    from keras.src.backend.common import global_state

    global_state.set_global_attribute("safe_mode_saving", None)
