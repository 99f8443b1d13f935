import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from keras_vit.data.augmentation import keras_cv_layers


class BaseImageAugmentationLayer:
    """Stands in for keras-cv's, which most machines do not have."""


class Darker(BaseImageAugmentationLayer):
    def __init__(self, by=10.0, only=None):
        self.by = by

    def __call__(self, images, training):
        assert training and images.dtype == tf.float32
        return images - self.by


@pytest.fixture
def keras_cv(monkeypatch):
    layers = types.ModuleType("keras_cv.layers")
    layers.Darker, layers.Backbone = Darker, dict
    package = types.ModuleType("keras_cv")
    package.layers = layers
    monkeypatch.setitem(sys.modules, "keras_cv", package)
    monkeypatch.setitem(sys.modules, "keras_cv.layers", layers)


def test_layers_are_made_by_name_and_follow_one_another(keras_cv):
    change = keras_cv_layers(["Darker", " Darker(by=20.4, only=(0, -1)) "])
    images = tf.fill([2, 3, 5, 3], tf.constant(50, tf.uint8))
    for run in (change, tf.function(change)):
        got = run(images)
        assert got.dtype == tf.float32
        np.testing.assert_array_equal(got, np.full((2, 3, 5, 3), 20.0))  # whole levels
    np.testing.assert_array_equal(keras_cv_layers(["Darker(by=70)"])(images), np.zeros((2, 3, 5, 3)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Darker(",
        "Darker(20)",
        "Darker(by=exit())",
        "Darker(**{})",
        "a.Darker",
        "Darker; x",
        "[Darker]",
        "Darker()()",
    ],
)
def test_what_is_no_name_with_plain_values_is_refused_and_not_run(keras_cv, text):
    with pytest.raises(ValueError, match="Expected the name of a keras-cv layer"):
        keras_cv_layers([text])


def test_layers_that_do_not_exist_are_refused(keras_cv):
    with pytest.raises(ValueError, match="near it: Darker"):
        keras_cv_layers(["Darkr"])
    with pytest.raises(ValueError, match="no augmentation layer of that name"):
        keras_cv_layers(["Backbone"])
    with pytest.raises(ValueError, match="does not accept its arguments.*'to': 3"):
        keras_cv_layers(["Darker(to=3)"])


@pytest.mark.parametrize("name, ours", [("MixUp", "mixup="), ("CutMix(alpha=1.0)", "cutmix=")])
def test_mixing_is_our_own(name, ours):
    with pytest.raises(ValueError, match=f"set {ours}"):
        keras_cv_layers([name])


def test_without_keras_cv_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_cv", None)
    monkeypatch.setitem(sys.modules, "keras_cv.layers", None)
    with pytest.raises(ImportError, match="pip install keras-cv"):
        keras_cv_layers(["GridMask"])
