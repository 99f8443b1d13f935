"""Whole models of Keras: nothing in them runs, and no claim or number of theirs is taken unseen."""

import json
import shutil
import zipfile

import keras
import numpy as np
import pytest
from keras.src.saving import serialization_lib

import keras_vit
from keras_vit.commands.image_model import open_model
from keras_vit.weights.keras_file import is_whole_model, load_keras_file

TINY = keras_vit.Variant(patch_size=4, hidden_size=8, num_layers=1, num_heads=2, mlp_dim=12)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "good.keras"
    keras_vit.build(TINY, input_shape=(8, 8, 3), classes=3).save(path)
    return path


@pytest.fixture
def model(good):
    return load_keras_file(good)


@pytest.fixture
def rewrite(good, tmp_path):
    """Returns the path of the file with other members: {name: bytes, or a function of the bytes}; None omits one."""

    def rewrite(members, compression=zipfile.ZIP_STORED):
        path = tmp_path / "rewritten.keras"
        with zipfile.ZipFile(good) as old, zipfile.ZipFile(path, "w", compression) as new:
            for name in dict.fromkeys([*old.namelist(), *members]):
                data = old.read(name) if name in old.namelist() else b""
                change = members.get(name, data)
                data = change(data) if callable(change) else change
                if data is not None:
                    new.writestr(name, data)
        return path

    return rewrite


@pytest.fixture(params=[np.nan, np.inf])
def not_finite(request, model, tmp_path):
    """Returns (model, path of its file), with one number that is not finite."""
    kernel = model.get_layer("head").kernel
    numbers = kernel.numpy()
    numbers[1, 2] = request.param
    kernel.assign(numbers)
    path = tmp_path / "not_finite.keras"
    keras.Model.save(keras.Model(model.inputs, model.outputs), path)
    return model, path


@pytest.mark.parametrize(
    "enter",
    [
        keras_vit.load,
        load_keras_file,
        open_model,
        lambda path: keras_vit.build(TINY, weights=path),
        lambda path: keras_vit.load_weights(keras_vit.build(TINY, input_shape=(8, 8, 3), classes=3), path),
        lambda path: keras_vit.convert(path, path.with_suffix(".npz")),
        lambda path: keras_vit.convert(path, path.with_suffix(".weights.h5")),
    ],
    ids=["load", "file", "command", "build", "load_weights", "convert", "convert to Keras"],
)
def test_no_way_in_is_open_for_nan(not_finite, enter):
    with pytest.raises(ValueError, match=r"not_finite\.keras: head/kernel holds NaN or infinity"):
        enter(not_finite[1])


def test_no_way_out_is_open_for_nan(not_finite, tmp_path):
    model, _ = not_finite
    folder = tmp_path / "out"
    for leave in (
        lambda: keras_vit.save_checkpoint(model, folder / "x.npz"),
        lambda: model.save(folder / "x.keras"),
        lambda: keras_vit.export.export_model(model, folder, ["tflite-float32"]),
    ):
        with pytest.raises(ValueError, match="head/kernel holds NaN or infinity"):
            leave()
    assert not folder.exists()


@pytest.mark.parametrize("enter", [keras_vit.load, open_model], ids=["load", "command"])
@pytest.mark.parametrize("is_global_safe", [True, False])
def test_a_lambda_is_refused_whatever_the_global_setting(tmp_path, enter, is_global_safe):
    images = keras.Input((8, 8, 3))
    keras.Model(images, keras.layers.Lambda(lambda x: x + 1)(images)).save(tmp_path / "lambda.keras")
    with serialization_lib.SafeModeScope(is_global_safe):
        with pytest.raises(ValueError, match=r"lambda\.keras is not a model that Keras can load"):
            enter(tmp_path / "lambda.keras")


@pytest.mark.parametrize("name", ["../x", "/x", "assets/../../x", "c:x"])
def test_members_outside_the_folder(rewrite, name):
    with pytest.raises(ValueError, match=r"rewritten\.keras.*outside the folder"):
        load_keras_file(rewrite({name: b"x"}))


def test_a_member_that_unpacks_to_far_more_than_the_file(rewrite):
    with pytest.raises(ValueError, match="claims to unpack"):
        load_keras_file(rewrite({"assets/zeros": bytes(10**7)}, zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
def test_a_member_that_is_missing(rewrite, name):
    with pytest.raises(ValueError, match=name):
        load_keras_file(rewrite({name: None}))


@pytest.mark.parametrize(
    "config", [b"{", b"[]", b"\xff", b"[" * 10**5, b'{"x": ' * 300 + b"1" + b"}" * 300, b"{}"], ids=len
)
def test_configurations_that_are_none(rewrite, config):
    with pytest.raises(ValueError, match=r"rewritten\.keras is not a model") as error:
        load_keras_file(rewrite({"config.json": config}))
    assert len(str(error.value)) < 2000


def test_a_model_of_more_weights_than_the_file_holds_is_not_made(rewrite):
    def huge(text):
        config = json.loads(text)
        (head,) = [layer for layer in config["config"]["layers"] if layer["config"]["name"] == "head"]
        head["config"]["units"] = 10**10
        return json.dumps(config).encode()

    with pytest.raises(ValueError, match="a model of 90,000,000,988 weights"):
        load_keras_file(rewrite({"config.json": huge}))


def test_one_wrong_byte_in_the_weights(good, tmp_path):
    data = bytearray(good.read_bytes())
    data[data.index(b"\x89HDF") + 5000] ^= 1
    (tmp_path / "wrong.keras").write_bytes(data)
    with pytest.raises(ValueError, match=r"wrong\.keras.*CRC"):
        load_keras_file(tmp_path / "wrong.keras")


def test_a_legacy_file_loads(model, tmp_path):
    path = tmp_path / "legacy.h5"
    keras.Model.save(model, path)
    assert is_whole_model(path)
    images = np.ones((1, 8, 8, 3), np.float32)
    assert np.array_equal(load_keras_file(path)(images), model(images))


def test_what_is_no_whole_model(tmp_path, good):
    shutil.copy(good, tmp_path / "zip.h5")
    (tmp_path / "text.h5").write_text("x")
    assert not any(is_whole_model(tmp_path / name) for name in ("zip.h5", "text.h5", "missing.h5", "x.npz"))
