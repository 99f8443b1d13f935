"""What is written for another project is read back to the bit; that those projects read it: tests/peers."""

import json
import logging

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.conversion import convert, save_checkpoint

SIZES = {"patch_size": 7, "hidden_size": 40, "num_layers": 1, "num_heads": 5, "mlp_dim": 52}
STEM = keras_vit.ResNet((1, 2), (128, 256))
VIT = keras_vit.Variant(**SIZES | {"num_layers": 2})
TOKEN = {"include_top": False, "pooling": "token"}
# name: (variant, height and width of the image, other arguments of `keras_vit.build`)
MODELS = {
    "vit": (VIT, (35, 49), {}),
    "headless": (keras_vit.Variant(**SIZES), (35, 35), TOKEN),
    "pooler": (keras_vit.Variant(**SIZES), (35, 35), {**TOKEN, "representation_size": 37}),
    "pre_logits": (keras_vit.Variant(**SIZES), (35, 35), {"representation_size": 37}),
    "gap": (keras_vit.Variant(**SIZES), (35, 35), {"pooling": "gap"}),
    "deit": (keras_vit.Variant(**SIZES, distillation_token=True), (35, 35), {}),
    "distilled": (
        keras_vit.Variant(**SIZES, pooling="token+distillation", distillation_token=True),
        (35, 35),
        {},
    ),
    "dinov2": (keras_vit.Variant(**SIZES, pooling="token+gap", layer_scale=1e-5), (35, 35), {}),
    "headless dinov2": (
        keras_vit.Variant(**SIZES | {"mlp_dim": 48}, layer_scale=1e-5, register_tokens=3, swiglu=True),
        (35, 35),
        TOKEN,
    ),
    "scaled": (keras_vit.Variant(**SIZES, layer_scale=1e-5), (35, 49), {}),
    "hybrid": (keras_vit.Variant(**SIZES | {"patch_size": 2}, stem=STEM), (43, 61), {}),
    "stem alone": (keras_vit.Variant(**SIZES | {"patch_size": 3}, stem=keras_vit.ResNet((), ())), (47, 47), {}),
    "bit": (STEM, (37, 53), {}),
    "headless bit": (STEM, (37, 53), {"include_top": False, "pooling": "gap"}),
}
SOURCES = {
    "vit": "npz hf timm",
    "headless": "npz timm",
    "pooler": "hf",
    "pre_logits": "npz",
    "gap": "npz timm",
    "deit": "hf",
    "distilled": "hf timm",
    "dinov2": "hf",
    "headless dinov2": "hf",
    "scaled": "timm",
    "hybrid": "npz hf timm",
    "stem alone": "hf timm",
    "bit": "bit hf timm",
    "headless bit": "hf",
}


@pytest.fixture(scope="module")
def model():
    """Returns a model of `MODELS`, its weights random, the same one for all tests."""
    made = {}

    def model(name):
        if name not in made:
            row, image_size, arguments = MODELS[name]
            arguments = {
                "input_shape": (*image_size, 3),
                "classes": None if "include_top" in arguments else 11,
                **arguments,
            }
            made[name] = keras_vit.build(row, classifier_activation=None, **arguments)
            rng = np.random.default_rng(3)
            for weight in made[name].weights:
                weight.assign(rng.normal(size=weight.shape))
        return made[name]

    return model


def values(model):
    return {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for path, array in expected.items():
        np.testing.assert_array_equal(found[path], array, err_msg=path)


@pytest.mark.parametrize("name, source", [(name, one) for name, sources in SOURCES.items() for one in sources.split()])
def test_what_is_written_is_read_to_the_bit(tmp_path, model, name, source):
    row, image_size, arguments = MODELS[name]
    path = tmp_path / ("file.npz" if source in ("npz", "bit") else "files")
    save_checkpoint(model(name), path, source)
    described = {} if row is STEM else {"num_heads": 5}
    if "representation_size" in arguments and "include_top" in arguments:
        described["representation_size"] = 37
    again = keras_vit.load(path, input_shape=(*image_size, 3), classifier_activation=None, **described)
    assert again.output_shape == model(name).output_shape
    assert_equal(values(again), values(model(name)))


@pytest.mark.parametrize("name, source", [("vit", "npz"), ("bit", "bit")])
def test_the_layout_is_told_from_npz(tmp_path, model, name, source):
    save_checkpoint(model(name), tmp_path / "one.npz")
    save_checkpoint(model(name), str(tmp_path / "two.npz"), source)
    with np.load(tmp_path / "one.npz") as one, np.load(tmp_path / "two.npz") as two:
        assert one.files == two.files
        assert ("resnet/head/conv2d/kernel" if name == "bit" else "Transformer/encoder_norm/scale") in one.files


@pytest.mark.parametrize(
    "path, source, received",
    [
        ("file.safetensors", None, "format=.*file.safetensors"),
        ("folder", None, "Received: format=None"),
        ("file.npz", "big_vision", "one of npz, bit, hf, timm.*'big_vision'"),
        ("file.npy", "npz", "ends in .npz"),
        ("file.npz", "hf", "a folder, or a path that ends in .safetensors"),
        ("file.weights.h5", "timm", "a folder, or a path that ends in .safetensors"),
    ],
)
def test_a_path_and_a_source_that_do_not_fit_each_other(tmp_path, model, path, source, received):
    with pytest.raises(ValueError, match=received):
        save_checkpoint(model("vit"), tmp_path / path, source)
    with pytest.raises(ValueError, match=received if "h5" not in path else "format=None for a file of Keras"):
        convert(tmp_path / "missing.npz", tmp_path / path, source)
    assert list(tmp_path.iterdir()) == []


def test_all_that_a_source_cannot_hold_is_said_before_anything_is_written(tmp_path, model):
    distilled = keras_vit.build(MODELS["deit"][0], input_shape=(35, 35, 3), classes=11, representation_size=37)
    with pytest.raises(ValueError, match="format='timm' cannot hold 'ViT'") as error:
        save_checkpoint(distilled, tmp_path / "folder", "timm")
    assert [line.split(":")[0] for line in str(error.value).splitlines()[1:]] == [
        "  a distillation token",
        "  a layer pre_logits",
    ]
    with pytest.raises(ValueError, match="pooling='map': no file of 'npz'"):
        attentive = keras_vit.Variant(3, 10, 1, 2, 7, pooling="map")
        save_checkpoint(keras_vit.build(attentive, input_shape=(12, 12, 3)), tmp_path / "file.npz")
    with pytest.raises(ValueError, match="format='bit' is the format of"):
        save_checkpoint(model("bit"), tmp_path / "file.npz", "npz")
    assert list(tmp_path.iterdir()) == []


def test_a_head_on_the_map_of_a_bit_is_refused(tmp_path):
    model = keras_vit.build(STEM, input_shape=(37, 53, 3), classes=11, pooling="none")
    with pytest.raises(ValueError, match="the mean of the feature map"):
        save_checkpoint(model, tmp_path / "file.npz")


def test_layers_of_the_caller(tmp_path, model):
    inner = model("headless")
    beside = keras.Model(inner.input, keras.layers.Dense(3, name="mine")(inner.output))
    with pytest.raises(ValueError, match="weights without a name in it: mine/kernel, mine/bias"):
        save_checkpoint(beside, tmp_path / "file.npz")
    around = keras.Sequential([keras.Input((35, 35, 3)), inner, keras.layers.Dense(3, name="mine")])
    with pytest.raises(ValueError, match="weights outside of the layers of keras_vit.*mine/kernel"):
        save_checkpoint(around, tmp_path / "file.npz")
    without = keras.Sequential([keras.Input((35, 35, 3)), keras.layers.Rescaling(1 / 255), inner])
    save_checkpoint(without, tmp_path / "file.npz")
    assert_equal(values(keras_vit.load(tmp_path / "file.npz")), values(inner))


def test_pixels_and_numerics_come_back_from_a_folder(tmp_path):
    model = keras_vit.build(VIT, input_shape=(35, 35, 3), classes=11, gelu="erf", norm_epsilon=1e-3)
    model.pixels = keras_vit.Pixels((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bicubic", antialias=True, crop=0.875)
    save_checkpoint(model, tmp_path / "folder", "hf")
    again = keras_vit.load(tmp_path / "folder")
    assert again.pixels == model.pixels
    block = again.get_layer("block_01")
    assert (block.mlp.gelu, block.mlp_norm.epsilon, block.attention.num_heads) == ("erf", 1e-3, 5)


def test_other_channels_have_as_many_means(tmp_path):
    model = keras_vit.build(VIT, input_shape=(35, 35, 5), classes=11)
    save_checkpoint(model, tmp_path / "folder", "hf")
    processor = json.loads((tmp_path / "folder/preprocessor_config.json").read_text("utf-8"))
    assert processor["image_mean"] == processor["image_std"] == [0.5] * 5


@pytest.fixture
def half_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("bfloat16")
    yield
    keras.config.set_dtype_policy(before)


def test_a_model_in_half_precision_is_written_in_float32(tmp_path, half_precision):
    save_checkpoint(keras_vit.build(VIT, input_shape=(35, 35, 3), classes=11), tmp_path / "file.npz")
    with np.load(tmp_path / "file.npz") as file:
        assert {file[name].dtype for name in file.files} == {np.dtype("f4")}


@pytest.mark.parametrize("name", ["file.keras", "file.weights.h5", "file.npz"])
def test_from_one_project_to_another(tmp_path, model, name):
    save_checkpoint(model("vit"), tmp_path / "folder", "hf")
    convert(tmp_path / "folder", tmp_path / "new" / name, input_shape=(35, 49, 3), classifier_activation=None)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [name]
    expected = values(model("vit"))
    if name.endswith(".keras"):
        assert_equal(values(keras.saving.load_model(tmp_path / "new" / name)), expected)
        return
    arguments = {"input_shape": (35, 49, 3), "classes": 11}
    assert_equal(values(keras_vit.build(VIT, weights=tmp_path / "new" / name, **arguments)), expected)


def test_a_keras_file_to_another_project(tmp_path, model):
    model("pooler").save(tmp_path / "file.keras")
    convert(tmp_path / "file.keras", tmp_path / "file.safetensors", "hf", representation_size=37)
    again = keras_vit.load(tmp_path / "file.safetensors", representation_size=37)
    assert_equal(values(again), values(model("pooler")))


def test_a_difference_is_said_once(tmp_path, model, caplog):
    caplog.set_level(logging.INFO, "keras_vit")
    save_checkpoint(model("hybrid"), tmp_path / "folder", "hf")
    (message,) = [text for text in caplog.messages if "computes with" in text]
    assert "group_norm_epsilon=1e-05 for 1e-06" in message
    assert "conv_epsilon=1e-08 for 1e-05" in message
    assert "gelu" not in message
