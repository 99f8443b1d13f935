import types

import keras
import numpy as np
import pytest

import keras_vit

ROWS, COLUMNS = 12, 20  # of images; patches of 4 pixels, so a grid of 3 x 5


def shaken(model, seed=0):
    """Returns a model with stronger weights than it begins with, so that no two heads and blocks look alike."""
    draw = np.random.default_rng(seed)
    model.set_weights([weight + draw.normal(0, 0.5, weight.shape) for weight in model.get_weights()])
    return model


def build(pooling="token", grid=(3, 5), fields=None, **options):
    variant = keras_vit.Variant(4, 8, 2, 2, 11, pooling=pooling, **fields or {})
    keras.utils.set_random_seed(0)
    options = {"classes": 7 if options.get("include_top", True) else None, **options}
    return shaken(keras_vit.build(variant, input_shape=(4 * grid[0], 4 * grid[1], 3), **options))


class Subclassed(keras.Model):
    """A model of the user's own, around one of ours."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.classify = inner, keras.layers.Dense(3)

    def call(self, images, training=False):
        return self.classify(self.inner(0.5 * images, training=training))


def nested(inner, kind):
    """Returns a model of the user's own that halves the pixels, runs `inner`, and classifies what it gives."""
    if kind == "subclassed":
        model = Subclassed(inner)
        model(np.zeros((1, *inner.input_shape[1:]), np.float32))
        return model
    halve, classify = keras.layers.Rescaling(0.5), keras.layers.Dense(3)
    if kind == "sequential":
        return keras.Sequential([keras.Input(inner.input_shape[1:]), halve, inner, classify])
    images = keras.Input(inner.input_shape[1:])
    return keras.Model(images, classify(inner(halve(images))))


@pytest.fixture(scope="session")
def make():
    """What makes models and images."""
    return types.SimpleNamespace(build=build, nested=nested, made_images=made_images)


@pytest.fixture(scope="session")
def vit():
    """A model with a class token, seven classes and two blocks of two heads, for images of 12 x 20 pixels."""
    return build()


@pytest.fixture(scope="session")
def hybrid():
    """A model of two stages of convolutions, then a block; 64 x 96 pixels, a grid of 8 x 12."""
    keras.utils.set_random_seed(0)
    variant = keras_vit.Variant(1, 8, 1, 2, 11, stem=keras_vit.ResNet((1, 2), (128, 256), 32))
    return keras_vit.build(variant, input_shape=(64, 96, 3), classes=3)


@pytest.fixture(scope="session")
def images():
    return made_images(ROWS, COLUMNS)


def made_images(rows, columns, count=3):
    return np.random.default_rng(0).uniform(-1, 1, (count, rows, columns, 3)).astype(np.float32)
