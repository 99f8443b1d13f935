import logging

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit import _progress as progress
from keras_vit.evaluation.feature_cache import cached_features, extract_features, model_digest
from keras_vit.models.features import representation

ROW = keras_vit.Variant(4, 12, 2, 2, 16)
IMAGES = np.random.default_rng(0).normal(size=(7, 12, 20, 3)).astype("float32")
LABELS = np.arange(7) % 3


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return keras_vit.build(ROW, classes=3, input_shape=(12, 20, 3))


def batches(size=3):
    return [(IMAGES[i : i + size], LABELS[i : i + size]) for i in range(0, 7, size)]


def test_features_come_in_order(model):
    features, labels = extract_features(representation(model), batches())
    np.testing.assert_array_equal(labels, LABELS)
    inside = keras.Model(model.input, model.get_layer("head").input)
    np.testing.assert_allclose(features, inside.predict(IMAGES, verbose=0), atol=1e-5)


def test_long_work_is_told_of(monkeypatch, caplog):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_UPDATES", -1.0)
    with caplog.at_level(logging.INFO, "keras_vit"):
        assert len(list(progress.log_progress(batches(), "judged", 7))) == 3
    counts, speeds = zip(*(message.split(", ") for message in caplog.messages))
    assert counts == ("3 of 7 images judged", "6 of 7 images judged", "7 of 7 images judged")
    assert all(float(speed.removesuffix(" images/s").replace(",", "")) > 0 for speed in speeds)


def test_no_images_raise(model):
    with pytest.raises(ValueError, match="Received: no images"):
        extract_features(representation(model), [])


class Counted:
    """Gives made-up features, and counts how often."""

    def __init__(self):
        self.times = 0

    def __call__(self):
        self.times += 1
        return IMAGES[:, 0, 0], LABELS


def test_features_are_computed_once_for_what_they_depend_on(tmp_path):
    compute = Counted()
    for parts in (("model", "data", (12, 20)), ("model", "data", (12, 20)), ("model", "data", (20, 12))):
        features, labels = cached_features(tmp_path / "new", parts, compute)
        np.testing.assert_array_equal(features, IMAGES[:, 0, 0])
        np.testing.assert_array_equal(labels, LABELS)
    assert compute.times == 2
    assert len(list((tmp_path / "new").iterdir())) == 2


def test_what_has_no_digest_is_not_kept(tmp_path):
    compute = Counted()
    for _ in range(2):
        cached_features(tmp_path, (None, "data"), compute)
    assert compute.times == 2 and not list(tmp_path.iterdir())


def flip(content, place):
    return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: b"no zip at all",
        lambda content: flip(content, 200),  # in the numbers: the sum of the zip file does not fit
        lambda content: flip(content, len(content) - 30),
    ],
)
def test_a_damaged_file_is_computed_anew(tmp_path, damage):
    compute = Counted()
    cached_features(tmp_path, ("a",), compute)
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    for _ in range(2):
        np.testing.assert_array_equal(cached_features(tmp_path, ("a",), compute)[0], IMAGES[:, 0, 0])
    assert compute.times == 2


def test_a_file_with_pickles_is_not_opened(tmp_path):
    compute = Counted()
    cached_features(tmp_path, ("a",), compute)
    (path,) = tmp_path.iterdir()
    np.savez(path, features=np.array([{}], object), labels=LABELS)
    np.testing.assert_array_equal(cached_features(tmp_path, ("a",), compute)[0], IMAGES[:, 0, 0])
    assert compute.times == 2


def test_a_folder_that_cannot_be_written_costs_time_alone(tmp_path):
    (tmp_path / "file").write_text("")
    assert len(cached_features(tmp_path / "file", ("a",), Counted())[0]) == 7


def test_the_digest_of_a_model_is_of_weights_and_architecture(model, tmp_path):
    before = model_digest(model)
    assert before == model_digest(model) and len(before) == 64
    model.save(tmp_path / "m.keras")
    assert model_digest(keras.saving.load_model(tmp_path / "m.keras", compile=False)) == before
    weight = model.get_layer("head").bias
    weight.assign_add([0.0, 1e-3, 0.0])
    assert model_digest(model) != before
    weight.assign_sub([0.0, 1e-3, 0.0])
    other = keras_vit.build(ROW, classes=3, input_shape=(12, 20, 3), gelu="erf")
    other.set_weights(model.get_weights())
    assert model_digest(other) != before


def test_a_model_that_cannot_be_written_down_has_no_digest(model):
    class Given(keras.Model):
        def __init__(self, inner, *, depth):
            super().__init__()
            self.inner = inner
            self.depth = depth

        def call(self, images):
            return self.inner(images)

        def get_config(self):
            raise NotImplementedError

    assert model_digest(Given(model, depth=2)) is None
