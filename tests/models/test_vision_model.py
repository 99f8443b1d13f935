import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.models.description import describe_model

ROW = keras_vit.Variant(8, 32, 2, 4, 48)
IMAGENET = keras_vit.Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bicubic", True, 0.875)


def model_of(pixels, shape=(16, 24, 3)):
    model = keras_vit.build(ROW, input_shape=shape, classes=5)
    return keras_vit.VisionModel(model.inputs, model.outputs, name="mine", pixels=pixels)


def test_the_official_contract_is_the_default():
    model = keras_vit.build(ROW, input_shape=(16, 24, 3))
    assert model.pixels == keras_vit.Pixels()
    images = np.arange(256 * 3, dtype=np.uint8).reshape(2, 16, 24, 1).repeat(3, -1)
    np.testing.assert_array_equal(model.preprocess_input(images), keras_vit.preprocess_input(images))
    assert model.preprocess_input(images).min() == -1


@pytest.mark.parametrize("size", [(16, 24), (32, 40)])
@pytest.mark.parametrize("scaled", [False, True])
def test_images_are_preprocessed_in_tf_data(size, scaled):
    tf = pytest.importorskip("tensorflow")
    model = model_of(IMAGENET)
    if scaled:
        inputs = keras.Input((16, 24, 3))
        model = keras_vit.VisionModel(inputs, model(keras.layers.Rescaling(1 / 255)(inputs)))
    images = np.random.default_rng(0).integers(0, 256, (3, *size, 3)).astype(np.uint8)
    batch = next(iter(tf.data.Dataset.from_tensor_slices(images).batch(3).map(model.preprocess_input)))
    np.testing.assert_allclose(batch, keras.ops.convert_to_numpy(model.preprocess_input(images)), atol=1e-4)


def test_means_and_deviations_by_colour():
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 24, 3)).astype(np.uint8)
    result = model_of(IMAGENET).preprocess_input(images)
    np.testing.assert_allclose(result, (images / 255 - IMAGENET.mean) / IMAGENET.std, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 5])
def test_other_channels_than_rgb_get_the_mean_of_the_three(channels):
    images = np.full((1, 16, 24, channels), 100, np.uint8)
    result = model_of(IMAGENET, (16, 24, channels)).preprocess_input(images)
    expected = (100 / 255 - np.mean(IMAGENET.mean)) / np.mean(IMAGENET.std)
    np.testing.assert_allclose(result, np.full((1, 16, 24, channels), expected), atol=1e-5)


def test_another_size_is_resized_whole_without_a_crop():
    image = np.tile(np.linspace(0, 255, 48)[None, :, None], (64, 1, 3))
    result = keras.ops.convert_to_numpy(model_of(keras_vit.Pixels()).preprocess_input(image))
    assert result.shape == (16, 24, 3)
    np.testing.assert_allclose(result[0, :, 0], np.linspace(-1, 1, 48).reshape(24, 2).mean(1), atol=1e-5)


@pytest.mark.parametrize("keep_aspect", [True, False])
def test_the_crop_is_from_the_middle(keep_aspect):
    contract = keras_vit.Pixels(crop=0.5, keep_aspect=keep_aspect)
    image = np.zeros((64, 96, 3))
    image[16:48, 24:72] = 255  # the middle half, both ways
    result = keras.ops.convert_to_numpy(model_of(contract).preprocess_input(image[None]))
    assert result.shape == (1, 16, 24, 3)
    np.testing.assert_allclose(result[0, 1:-1, 1:-1], 1)


def test_the_shorter_side_is_resized():
    contract = keras_vit.Pixels(crop=1.0)
    image = np.zeros((32, 200, 3))
    image[:, 76:124] = 255  # 48 of 200 pixels at a height of 32 become 24 at 16
    result = keras.ops.convert_to_numpy(model_of(contract).preprocess_input(image[None]))
    np.testing.assert_allclose(result, np.ones((1, 16, 24, 3)))


def test_saved_and_loaded_with_the_model(tmp_path):
    model_of(IMAGENET).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is keras_vit.VisionModel
    assert loaded.pixels == IMAGENET and loaded.name == "mine"


def test_trained_models_keep_it():
    model = model_of(IMAGENET)
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(np.zeros((2, 16, 24, 3)), np.zeros(2), verbose=0)
    assert model.pixels == IMAGENET
    assert model.predict(np.zeros((2, 16, 24, 3)), verbose=0).shape == (2, 5)


@pytest.mark.parametrize(
    "wrong",
    [{"mean": (0.5,)}, {"std": (0.5, 0.0, 0.5)}, {"interpolation": "lanczos"}, {"crop": 0.0}, {"crop": 1.5}],
)
def test_contracts_that_cannot_be(wrong):
    with pytest.raises(ValueError, match="Expected a mean and a standard deviation"):
        keras_vit.Pixels(**wrong)


@pytest.mark.parametrize(
    "row",
    [
        keras_vit.Variant(8, 32, 2, 4, 48, dropout=0.5),
        keras_vit.Variant(8, 32, 2, 4, 48, pooling="map"),
        keras_vit.Variant(8, 32, 2, 4, 48, distillation_token=True),
        keras_vit.Variant(2, 64, 1, 2, 48, stem=keras_vit.ResNet((), ())),
        keras_vit.Variant(1, 64, 1, 2, 48, stem=keras_vit.ResNet((1, 2), (128, 256), 32), pooling="gap"),
        keras_vit.ResNet((1, 2), (128, 256), 32),
    ],
)
def test_a_model_tells_its_architecture(row):
    model = keras_vit.build(row, input_shape=(32, 48, 3), classes=7)
    described = describe_model(keras.Sequential([keras.Input((32, 48, 3)), model]))
    assert described.variant == row
    assert (described.classes, described.representation_size, described.input_shape) == (7, None, (32, 48, 3))
    assert len(described.weights) == len(model.weights)


def test_a_published_architecture_is_named():
    described = describe_model(keras_vit.ViT_Ti16(input_shape=(32, 32, 3), representation_size=9, gelu="erf"))
    assert (described.name, described.representation_size, described.numerics.gelu, described.grid) == (
        "ViT-Ti/16",
        9,
        "erf",
        (2, 2),
    )
