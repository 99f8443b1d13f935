"""The pixel contract and the outputs of models that users compose around layers of keras_vit."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_vit
from keras_vit.models.interface import image_size_of, numbers_of, outputs_of, pixels_of, served
from keras_vit.preprocessing import CONTRACTS, Pixels, as_pixels

IMAGENET = Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bicubic", True, 0.875)
SIZE, WIDTH = (10, 15), 6


def vit(pixels=IMAGENET, **options):
    model = keras_vit.build(
        keras_vit.Variant(5, WIDTH, 1, 2, 7), include_top=False, pooling="token", input_shape=(*SIZE, 3), **options
    )
    model.pixels = pixels
    return model


def bit(pixels=IMAGENET):
    model = keras_vit.build(
        keras_vit.ResNet((1,), (128,), 32), include_top=False, pooling="gap", input_shape=(*SIZE, 3)
    )
    model.pixels = pixels
    return model


def sequential(*front, body=None, head=()):
    return keras.Sequential([keras.Input((*SIZE, 3)), *front, body or vit(), *head])


def functional(front, body=None, shape=(*SIZE, 3), dtype="float32"):
    images = keras.Input(shape, dtype=dtype)
    body = body or vit()
    return keras.Model(images, layers.Dense(3)(body(front(images))))


def reloaded(model, tmp_path):
    model.save(tmp_path / "model.keras")
    return keras.saving.load_model(tmp_path / "model.keras")


# Whatever stands around our layers, the contract is theirs.
AROUND = {
    "the model itself": lambda body: body,
    "a new head": lambda body: keras.Model(body.input, layers.Dense(3)(body.output)),
    "a Sequential": lambda body: keras.Sequential([body, layers.Dense(3)]),
    "a Sequential in a Sequential": lambda body: sequential(body=keras.Sequential([body, layers.Dense(3)])),
    "a layer of a functional model": lambda body: functional(lambda x: x, body),
    "dropout and noise in front": lambda body: functional(
        lambda x: layers.GaussianNoise(0.1)(layers.Dropout(0.5)(x)), body
    ),
    "augmentation in front": lambda body: functional(
        keras.Sequential([layers.RandomFlip(), layers.RandomRotation(0.2), layers.RandomZoom(0.1)]), body
    ),
    "resizing in front": lambda body: functional(layers.Resizing(*SIZE), body, (31, 17, 3)),
    "cropping in front": lambda body: functional(layers.CenterCrop(*SIZE), body, (31, 17, 3)),
    "a middle tensor": lambda body: keras.Model(body.input, body.get_layer("norm").output),
}


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
def test_the_contract_of_our_layers_is_that_of_any_model_around_them(around, tmp_path):
    model = around(vit())
    for kind in (model, keras.models.clone_model(model), reloaded(model, tmp_path)):
        assert pixels_of(kind) == IMAGENET


def test_a_resnet_keeps_its_contract_as_well(tmp_path):
    model = keras.Model((body := bit()).input, layers.Dense(2)(body.output))
    for kind in (model, keras.models.clone_model(model), reloaded(model, tmp_path)):
        assert pixels_of(kind) == IMAGENET


MEAN, VARIANCE = 255 * np.array(IMAGENET.mean), np.square(255 * np.array(IMAGENET.std))
FRONTS = {
    "Rescaling to -1 to 1": (layers.Rescaling(1 / 127.5, -1), vit, "raw"),
    "Rescaling to 0 to 1, whatever the layers were trained on": (layers.Rescaling(1 / 255), vit, "raw"),
    "Normalization of pixels": (layers.Normalization(mean=MEAN, variance=VARIANCE), vit, "raw"),
    "Normalization of 0 to 1": (layers.Normalization(mean=MEAN / 255, variance=VARIANCE / 255**2), vit, "0..1"),
    "Rescaling of 0 to 1": (layers.Rescaling(2.0, -1.0), lambda: vit(Pixels()), "0..1"),
    "operations": (lambda x: ops.cast(x, "float32") / 127.5 - 1, vit, "raw"),
    "two scalings": (
        lambda x: layers.Normalization(mean=MEAN / 255, variance=VARIANCE / 255**2)(layers.Rescaling(1 / 255)(x)),
        vit,
        "raw",
    ),
    "scaling inside a nested model": (
        keras.Sequential([keras.Input((*SIZE, 3)), layers.RandomFlip(), layers.Rescaling(1 / 255)]),
        vit,
        "raw",
    ),
    "a scaling that changes nothing": (layers.Rescaling(1.0), lambda: vit(Pixels()), "-1..1"),
}


@pytest.mark.parametrize("front, body, expected", FRONTS.values(), ids=FRONTS)
def test_layers_in_front_that_scale_are_counted_in(front, body, expected, tmp_path):
    model = functional(front, body())
    for kind in (model, keras.models.clone_model(model), reloaded(model, tmp_path)):
        result = pixels_of(kind)
        assert (result.mean, result.std) == (CONTRACTS[expected].mean, CONTRACTS[expected].std)


def test_an_input_of_whole_pixels_and_normalization_adapted_to_data():
    layer = layers.Normalization()
    layer.adapt(np.random.default_rng(0).integers(0, 256, (5, *SIZE, 3)).astype("float32"))
    assert pixels_of(functional(lambda x: layer(ops.cast(x, "float32")), dtype="uint8")).description.startswith(
        "pixel, from 0"
    )


def test_the_contract_makes_the_pixels_that_the_layers_were_trained_on():
    """The pixels that reach the layers are the same, with the scaling outside of the model or inside."""
    body, pixels = vit(), np.random.default_rng(1).integers(0, 256, (2, *SIZE, 3)).astype("uint8")
    expected = body.predict(keras_vit.preprocess_input(pixels, IMAGENET), verbose=0)
    for front in (layers.Rescaling(1 / 255), layers.Rescaling(1.0)):
        model = keras.Sequential(
            [keras.Input((*SIZE, 3)), front, layers.Normalization(mean=MEAN / 255, variance=VARIANCE / 255**2), body]
        )
        result = model.predict(keras_vit.preprocess_input(pixels, pixels_of(model)), verbose=0)
        np.testing.assert_allclose(result, expected, atol=1e-4)


@keras.saving.register_keras_serializable(package="tests")
class Gamma(layers.Layer):
    def call(self, x):
        return x**2.0


def no_layer_of_ours():
    return keras.Sequential([keras.Input((*SIZE, 3)), layers.Flatten(), layers.Dense(2)])


def two_encoders():
    images = keras.Input((*SIZE, 3))
    return keras.Model(images, layers.Concatenate()([vit()(images), vit(Pixels(), name="other")(images)]))


def two_inputs():
    one, other = keras.Input((*SIZE, 3)), keras.Input((4,))
    return keras.Model([one, other], layers.Concatenate()([vit()(one), other]))


UNKNOWN = {
    "no layer of ours": (no_layer_of_ours, "no layers of keras_vit"),
    "a trained layer in front": (lambda: functional(layers.Conv2D(3, 1)), "Conv2D 'conv2d"),
    "a Lambda": (lambda: functional(layers.Lambda(lambda x: x * 2)), "Lambda"),
    "a layer of the user's own": (lambda: functional(Gamma()), "Gamma"),
    "a range of no kind": (lambda: functional(layers.Rescaling(0.5)), r"\[0.5, 0.5, 0.5\]"),
    "two that disagree": (two_encoders, r"\(0.485, 0.456, 0.406\).*-1 to 1"),
    "two inputs": (two_inputs, "one input"),
    "a Sequential that is not built": (lambda: keras.Sequential([layers.Flatten()]), "not built"),
}


@pytest.mark.parametrize("make, words", UNKNOWN.values(), ids=UNKNOWN)
def test_an_unknown_pixel_contract_is_refused(make, words):
    model = make()
    with pytest.raises(ValueError, match=words) as error:
        pixels_of(model)
    assert "--pixels" in str(error.value) and "'imagenet'" in str(error.value)
    assert pixels_of(model, "raw") == CONTRACTS["raw"]


def test_the_contract_of_a_model_whose_layers_cannot_store_it_is_saved(tmp_path):
    images = keras.Input((*SIZE, 3))
    model = keras_vit.VisionModel(images, vit()(layers.Conv2D(3, 1)(images)), pixels="0..1")
    assert pixels_of(reloaded(model, tmp_path)) == CONTRACTS["0..1"]
    assert pixels_of(keras.Sequential([keras.Input((*SIZE, 3)), model])) == CONTRACTS["0..1"]


def test_weights_bring_their_contract(tmp_path):
    source = vit()
    keras_vit.save_checkpoint(source, tmp_path / "hf", format="hf")
    body = vit(Pixels(), name="other")
    other = keras.Model(body.input, layers.Dense(2)(body.output))
    keras_vit.load_weights(body, tmp_path / "hf")
    assert (pixels_of(other).mean, pixels_of(other).std) == (IMAGENET.mean, IMAGENET.std)
    keras_vit.save_checkpoint(source, tmp_path / "a.npz")  # the official code's files are read from -1 to 1
    keras_vit.load_weights(body, tmp_path / "a.npz")
    assert pixels_of(other) == Pixels()


def test_a_tensor_of_the_callers_own_in_front_is_no_part_of_the_checkpoints_contract():
    images = keras.Input((*SIZE, 3))
    scaled = layers.Rescaling(1 / 127.5, -1)(images)
    model = keras_vit.build(keras_vit.Variant(5, WIDTH, 1, 2, 7), input_tensor=scaled, classes=3)
    assert model.pixels.description.startswith("pixel, from 0 to 255")
    pixels = np.full((1, *SIZE, 3), 200, "uint8")
    np.testing.assert_allclose(model.preprocess_input(pixels), pixels)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("raw", CONTRACTS["raw"]),
        ("-1..1", Pixels()),
        ("0.5/0.25", Pixels((0.5,) * 3, (0.25,) * 3)),
        ("0.5,0.4,0.3/0.2,0.1,0.3", Pixels((0.5, 0.4, 0.3), (0.2, 0.1, 0.3))),
        (None, Pixels()),
        (IMAGENET, IMAGENET),
    ],
)
def test_pixel_contracts_as_text(text, expected):
    assert as_pixels(text) == expected


@pytest.mark.parametrize("text", ["", "caffe", "0.5", "0.5/0", "a/b", "0.5/0.5/0.5", "123.7/58.4", "nan/0.5", 3, ()])
def test_other_values_than_pixel_contracts(text):
    with pytest.raises(ValueError, match="pixels="):
        as_pixels(text)


# The kind of the outputs


def headed(*head, activation=None, units=3, name=None):
    body = vit()
    x = layers.Dense(units, activation=activation)(body.output)
    for layer in head:
        x = layer(x)
    return keras.Model(body.input, x)


def nested(model):
    return sequential(body=model)


KINDS = {
    "a softmax inside the head": (lambda: headed(activation="softmax"), "probabilities"),
    "a softmax behind it": (lambda: headed(layers.Softmax()), "probabilities"),
    "an operation": (lambda: headed(ops.softmax), "probabilities"),
    "Keras' own idiom of mixed precision": (lambda: headed(layers.Activation("linear", dtype="float32")), "logits"),
    "the same with a softmax": (lambda: headed(layers.Activation("softmax", dtype="float32")), "probabilities"),
    "dropout after the head": (lambda: headed(layers.Dropout(0.1)), "logits"),
    "reshaped and cast": (
        lambda: headed(layers.Reshape((3, 1)), layers.Flatten(), lambda x: ops.cast(x, "float16")),
        "logits",
    ),
    "nested": (lambda: nested(headed(layers.Dropout(0.1))), "logits"),
    "nested twice, softmax": (lambda: nested(nested(headed(activation="softmax"))), "probabilities"),
    "a sigmoid of each": (lambda: headed(activation="sigmoid"), "scores"),
    "a sigmoid operation": (lambda: headed(ops.sigmoid), "scores"),
    "a binary head": (lambda: headed(activation="sigmoid", units=1), "scores"),
    "a regression": (lambda: headed(units=1), "numbers"),
    "a regression of positive numbers": (lambda: headed(activation="relu", units=1), "numbers"),
    "a regression in another unit": (lambda: headed(layers.Rescaling(100.0), units=1), "numbers"),
}


@pytest.mark.parametrize("make, expected", KINDS.values(), ids=KINDS)
def test_the_last_activation_determines_the_kind_of_outputs(make, expected, tmp_path):
    model = make()
    assert outputs_of(model) == expected
    assert outputs_of(reloaded(model, tmp_path)) == expected


def test_two_names_make_a_logit_of_one_number():
    assert outputs_of(headed(units=1), class_names=("no", "yes")) == "logits"
    assert outputs_of(headed(units=1), class_names=("metres",)) == "numbers"


REFUSED = {
    "an activation of no kind": (lambda: headed(activation="tanh"), "Dense"),
    "features": (vit, "ClassToken"),
    "a softmax of one": (lambda: headed(activation="softmax", units=1), "is 1 for every image"),
    "two outputs": (
        lambda: keras.Model((body := vit()).input, [layers.Dense(2)(body.output), layers.Dense(3)(body.output)]),
        "one output",
    ),
    "a map": (lambda: keras.Model((body := vit()).input, body.get_layer("norm").output), "one output"),
}


@pytest.mark.parametrize("make, words", REFUSED.values(), ids=REFUSED)
def test_an_unknown_kind_of_outputs_is_refused(make, words):
    model = make()
    with pytest.raises(ValueError, match=words):
        outputs_of(model)
    assert outputs_of(model, "numbers") == "numbers"


def test_served_outputs():
    images = np.random.default_rng(0).normal(size=(4, *SIZE, 3)).astype("float32")
    model = headed(layers.Dropout(0.1))
    logits = model.predict(images, verbose=0)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(served(model, "logits").predict(images, verbose=0), expected, atol=1e-6)
    binary = headed(activation="sigmoid", units=1)
    share = binary.predict(images, verbose=0)[:, 0]
    both = served(binary, "scores").predict(images, verbose=0)
    np.testing.assert_allclose(both, np.stack([1 - share, share], axis=1), atol=1e-6)
    each = headed(activation="sigmoid")
    assert served(each, "scores") is each  # as it is: each class by itself
    one = headed(units=1)
    logit = one.predict(images, verbose=0)[:, 0]
    both = served(one, "logits", ("no", "yes")).predict(images, verbose=0)
    np.testing.assert_allclose(both[:, 1], 1 / (1 + np.exp(-logit)), atol=1e-6)


def test_outputs_have_names():
    body = vit()
    x, y = layers.Dense(2, name="mass")(body.output), layers.Dense(1, name="age")(body.output)
    assert list(numbers_of(keras.Model(body.input, {"b": x, "a": y}))) == ["b", "a"]
    assert numbers_of(keras.Model(body.input, {"b": x, "a": y}))["a"] is y
    assert list(numbers_of(keras.Model(body.input, [x, y]))) == ["mass", "age"]
    assert list(numbers_of(keras.Model(body.input, y))) == ["numbers"]


def test_the_image_size_is_that_of_the_input_or_of_the_resizing_layer():
    assert image_size_of(vit()) == SIZE
    assert image_size_of(functional(layers.Resizing(*SIZE), shape=(None, None, 3))) == SIZE
    with pytest.raises(ValueError, match="known size"):
        image_size_of(keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(2, 3)]))
