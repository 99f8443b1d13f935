"""What a caller passes: a value in plain Python types comes of it, or an error that names the argument."""

import math
import pathlib

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit import _arguments as arguments
from keras_vit.evaluation import callbacks
from keras_vit.training.recipe import Recipe, change

ROW = keras_vit.Variant(8, 16, 1, 2, 24)
SHAPE = (16, 24, 3)


def build(**options):
    return keras_vit.build(ROW, **{"input_shape": SHAPE, **options})


@pytest.fixture(scope="module")
def model():
    return build(classes=3)


@pytest.fixture(scope="module")
def checkpoint(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "model.npz"
    keras_vit.save_checkpoint(model, path)
    return path


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3)])
def test_an_integer(value):
    assert type(arguments.integer("n", value)) is int and arguments.integer("n", value) == 3


@pytest.mark.parametrize("value", [True, np.True_, 3.0, "3", None, 0, -1, [3], math.nan])
def test_other_values_than_integers(value):
    with pytest.raises(ValueError, match=r"Received: n="):
        arguments.integer("n", value)


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.float64(0.5)])
def test_a_number(value):
    assert type(arguments.number("x", value)) is float and arguments.rate("x", value) == 0.5
    assert type(arguments.number("x", np.int8(2))) is int


@pytest.mark.parametrize("value", [True, "0.5", None, 1, -0.1, math.nan, [0.5]])
def test_other_values_than_rates(value):
    with pytest.raises(ValueError, match="x to be a number, 0 or more and less than 1"):
        arguments.rate("x", value)


@pytest.mark.parametrize("value", [(48, 32), [48, 32], np.array([48, 32]), (np.int64(48), 32)])
def test_a_size(value):
    assert arguments.size("s", value) == (48, 32)
    assert arguments.size("s", np.int64(48)) == (48, 48)


@pytest.mark.parametrize("value", [None, "48", 48.0, True, 0, -8, (48,), (48, 48, 3), (48, 0)])
def test_other_values_than_sizes(value):
    with pytest.raises(ValueError, match="Received: s="):
        arguments.size("s", value)


@pytest.mark.parametrize(
    "value, advice",
    [
        (224, "s=(224, 224, 3)"),
        ((224, 160), "s=(224, 160, 3)"),
        ((3, 224, 160), "s=(224, 160, 3)"),
        ((1, 32, 32), "s=(32, 32, 1)"),
        ((224.0, 224.0, 3), ""),
        ((-8, 8, 3), ""),
        ("224", ""),
        ((), ""),
    ],
)
def test_other_values_than_image_shapes(value, advice):
    with pytest.raises(ValueError, match="Received: s=") as raised:
        arguments.shape("s", value)
    assert advice in str(raised.value)


def test_a_shape_of_an_image():
    assert arguments.shape("s", np.array([32, 48, 3])) == (32, 48, 3)
    assert arguments.shape("s", [None, None, 3]) == (None, None, 3)
    assert arguments.shape("s", (3, 5, 7)) == (3, 5, 7)  # small sides are not taken for channels


def test_numbers_of_numpy_build_a_model_that_is_saved(tmp_path):
    row = keras_vit.Variant(np.int64(8), np.int32(16), 1, 2, 24, dropout=np.float32(0.5))
    assert {type(row.patch_size), type(row.hidden_size)} == {int} and type(row.dropout) is float
    model = keras_vit.build(
        row,
        input_shape=np.array(SHAPE),
        classes=np.int64(3),
        representation_size=np.int64(5),
        attention_dropout=np.float32(0.25),
        stochastic_depth=np.float64(0.25),
        norm_epsilon=np.float32(1e-5),
        register_tokens=np.uint8(2),
        layer_scale=np.float32(0.5),
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.output_shape == (None, 3)
    assert loaded.get_layer("encoder").num_registers == 2


@pytest.mark.parametrize(
    "options, words",
    [
        *(({"classes": value}, "Received: classes=") for value in (True, 3.0, "3", 0, -1)),
        ({"classes": 3, "include_top": False}, "Received: classes=3, include_top=False"),
        ({"include_top": "no"}, "include_top to be True or False"),
        ({"new_head": None}, "new_head to be True or False"),
        *(({"representation_size": value}, "representation_size to be") for value in ("16", 16.0, 0, True)),
        *(({"dropout": value}, "dropout to be a number") for value in ("0.1", 1, -0.1, True)),
        ({"attention_dropout": None}, "attention_dropout to be a number"),
        ({"stochastic_depth": 2}, "stochastic_depth to be a number"),
        *(({"norm_epsilon": value}, "norm_epsilon to be a number, above 0") for value in ("1e-6", 0, -1, math.inf)),
        ({"gelu": True}, "gelu to be None or one of"),
        ({"position_resize": ["corner"]}, "position_resize to be None or one of"),
        ({"channels": 3}, "channels to be None or one of"),
        ({"classifier_activation": "sofmax"}, "classifier_activation to be"),
        *(({"name": value}, f"Received: name={value!r}") for value in (3, "", "a/b")),
        *(({"weights": value}, "weights to be") for value in (3, True, ["a.npz"], "")),
        ({"input_shape": 224}, r"input_shape=\(224, 224, 3\)"),
        ({"register_tokens": "2"}, "register_tokens 0 or more"),
        ({"layer_scale": "0.1"}, "layer_scale None or a number"),
        ({"swiglu": "no"}, "swiglu True or False"),
    ],
)
def test_arguments_of_build_that_cannot_be(options, words):
    with pytest.raises(ValueError, match=words):
        build(**options)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"image_size": 224}, r"image_size=\. Pass input_shape=\(height, width, channels\)"),
        ({"num_classes": 3}, r"num_classes=\. Pass classes="),
        ({"pooing": "gap"}, r"pooing=\. Nearest names: pooling"),
        ({"clases": 3}, r"clases=\. Nearest names: classes"),
    ],
)
def test_unknown_arguments_of_a_builder(options, words):
    with pytest.raises(TypeError, match=words):
        keras_vit.ViT_B16(**options)


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras_vit.Variant("8", 16, 1, 2, 24),
        lambda: keras_vit.Variant(8, 16, 1, 2, 24, dropout="x"),
        lambda: keras_vit.Variant(8, 16, 1, 2, 24, stem=3),
        lambda: keras_vit.Variant(8, 16, 1, 2, 24, positions=3),
        lambda: keras_vit.ResNet(3, 256),
        lambda: keras_vit.ResNet(None, None),
        lambda: keras_vit.Pixels(0.5, 0.5),
        lambda: keras_vit.Pixels("abc", "abc"),
        lambda: keras_vit.Pixels(crop="1"),
        lambda: keras_vit.Pixels(mean=(math.nan,) * 3),
        lambda: keras_vit.Pixels(antialias="no"),
        lambda: keras_vit.checkpoints("ViT-B16"),
        lambda: keras_vit.augreg(most_parameters="5", index="index.csv"),
        lambda: keras_vit.preprocess_input(None),
        lambda: keras_vit.preprocess_input("a.jpg"),
        lambda: keras_vit.preprocess_input(np.zeros((2, 2, 1)), keras_vit.Pixels((0.1, 0.2, 0.3), (0.1, 0.2, 0.3))),
        lambda: keras_vit.decode_predictions(np.zeros((1, 1000)), top="5"),
        lambda: keras_vit.decode_predictions(np.zeros((1, 1000)), top=0),
        lambda: keras_vit.decode_predictions(None),
        lambda: keras_vit.representation("model"),
        lambda: keras_vit.analysis.attention_maps("model", np.zeros((1, *SHAPE))),
        lambda: keras_vit.analysis.strongest_channels(np.zeros((1, 2, 2, 3)), 0),
        lambda: keras_vit.analysis.nearest_neighbours(np.zeros((3, 2)), count="5"),
        lambda: callbacks.FewShot((), (), shots="5"),
        lambda: callbacks.KNN((), (), every=0),
        lambda: callbacks.LinearProbe((), (), seed=0.5),
        lambda: keras_vit.load(None),
        lambda: keras_vit.load(3),
        lambda: keras_vit.load("model.npz", input_shape=48),
        lambda: keras_vit.load("model.npz", num_heads="2"),
        lambda: keras_vit.convert(None, "model.npz"),
        lambda: keras_vit.convert("model.npz", None),
    ],
)
def test_values_of_the_wrong_kind(make):
    with pytest.raises(ValueError, match="Expected"):
        make()


@pytest.mark.parametrize(
    "work",
    [
        lambda model, file: keras_vit.load_weights(model, None),
        lambda model, file: keras_vit.load_weights(None, file),
        lambda model, file: keras_vit.load_weights(model, file, position_resize="x"),
        lambda model, file: keras_vit.load_weights(model, file, channels="x"),
        lambda model, file: keras_vit.save_checkpoint(model, None),
        lambda model, file: keras_vit.features(model, None),
        lambda model, file: keras_vit.features(model, [1]),
        lambda model, file: keras_vit.resize(model, None),
        lambda model, file: keras_vit.resize(model, (48, 48, 3)),
        lambda model, file: keras_vit.resize(model, SHAPE[:2], "x"),
        lambda model, file: keras_vit.VisionModel(model.inputs, model.outputs, pixels=3),
        lambda model, file: model.preprocess_input(None),
        lambda model, file: model.preprocess_input(np.zeros((2, *SHAPE[:2], 1))),
        lambda model, file: model.preprocess_input(np.zeros((2, 3, *SHAPE[:2]))),
        lambda model, file: keras_vit.export.tflite(None, "model.tflite"),
        lambda model, file: keras_vit.export.tflite(model, None),
        lambda model, file: keras_vit.export.tflite(model, "model.tflite", "int9"),
        lambda model, file: keras_vit.export.tflite(model, "model.tflite", class_names="abc"),
        lambda model, file: keras_vit.export.tflite(model, "model.tflite", input_size="8"),
        lambda model, file: keras_vit.export.tflite(model, "model.tflite", images="a.png"),
        lambda model, file: keras_vit.export.export_model(model, "folder", 3),
        lambda model, file: keras_vit.export.sensitivity(model, "int9", []),
    ],
)
def test_a_model_with_arguments_of_the_wrong_kind(model, checkpoint, work):
    with pytest.raises(ValueError, match="Expected"):
        work(model, checkpoint)


def test_unknown_arguments_of_convert(checkpoint, tmp_path):
    with pytest.raises(TypeError, match="num_head=. Nearest names: num_heads"):
        keras_vit.convert(checkpoint, tmp_path / "other.npz", num_head=2)


def test_arguments_of_other_types_that_are_accepted(model, checkpoint):
    keras_vit.load_weights(model, pathlib.Path(checkpoint))
    assert keras_vit.resize(model, np.int64(48)).input_shape == (None, 48, 48, 3)
    levels = [[[0, 127.5, 255]]]
    np.testing.assert_allclose(keras_vit.preprocess_input(levels), [[[-1, 0, 1]]], atol=1e-6)
    assert len(keras_vit.decode_predictions(np.zeros((1, 1000)), top=np.int64(2))[0]) == 2


def test_a_recipe_accepts_numpy_numbers_lists_and_paths():
    recipe = Recipe(pathlib.Path("data"), ROW, np.int64(16), epochs=np.int32(3), ema=np.float64(0.5), exports=["onnx"])
    assert recipe == Recipe("data", ROW, 16, epochs=3, ema=0.5, exports=("onnx",))
    assert type(recipe.epochs) is int and type(recipe.ema) is float


@pytest.mark.parametrize(
    "text, name, value",
    [
        ("milestones=1000", "milestones", (1000,)),
        ("milestones=1000,2000", "milestones", (1000, 2000)),
        ("milestones=[1000]", "milestones", (1000,)),
        ("exports=onnx", "exports", ("onnx",)),
        ("keras_cv=RandomHue", "keras_cv", ("RandomHue",)),
        ("exports=", "exports", ()),
    ],
)
def test_one_value_where_a_setting_has_several(text, name, value):
    recipe = Recipe("data", ROW, 16, schedule="steps", milestones=(1,))
    assert getattr(change(recipe, [text]), name) == value


def test_analysis_accepts_lists_and_refuses_other_values_than_images(model):
    images = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype("float32")
    rollout = keras_vit.analysis.attention_rollout(model, images)
    np.testing.assert_allclose(keras_vit.analysis.attention_rollout(model, images.tolist()), rollout, atol=1e-6)
    for wrong in (None, "a.png", images[0], 3):
        with pytest.raises(ValueError, match="Received: images"):
            keras_vit.analysis.attention_maps(model, wrong)
    with pytest.raises(ValueError, match="one class per image, 2"):
        keras_vit.analysis.attention_relevance(model, images, [0.5, 1])


@pytest.mark.parametrize(
    "options, words",
    [
        ({"facts": {"licence": "MIT"}}, "fact"),
        ({"output_type": "int8"}, "output_type='int8'"),
        ({"images": []}, "images of length 0"),
        ({"protocol": "mine"}, "protocol to be one of"),
        ({"labels": [0]}, "a label for each image"),
        ({"labels": [0], "images": np.zeros((2, *SHAPE), "uint8")}, "a label for each image"),
        ({"bounds": 3}, "bounds to be a dictionary"),
        ({"calibration": 3}, "calibration to be a list"),
    ],
)
def test_options_of_an_export_that_cannot_be(model, tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        keras_vit.export.tflite(model, tmp_path / "model.tflite", "float32", **options)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "number, noun, text", [(1, "image", "1 image"), (0, "class", "0 classes"), (1797, "label", "1,797 labels")]
)
def test_numbers_have_the_singular_or_the_plural(number, noun, text):
    assert arguments.counted(number, noun) == text
