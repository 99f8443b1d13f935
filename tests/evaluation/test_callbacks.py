import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.evaluation.callbacks import KNN, FeatureCallback, FewShot, LinearProbe
from keras_vit.evaluation.few_shot import few_shot
from keras_vit.models.features import representation

LABELS = np.arange(46) % 3
IMAGES = np.random.default_rng(0).normal(0, 0.5, (46, 12, 20, 3)).astype("float32")
IMAGES[..., 0] += LABELS[:, None, None]
TRAIN, TEST = (IMAGES[:33], LABELS[:33]), (IMAGES[33:], LABELS[33:])


def made(width=12):
    keras.utils.set_random_seed(0)
    row = keras_vit.Variant(4, width, 2, 2, 16)
    return keras_vit.build(row, classes=3, input_shape=(12, 20, 3))


@pytest.fixture(scope="module")
def model():
    return made()


def logged_by(callback, model):
    """Returns the logs of a callback at the end of an epoch."""
    callback.set_model(model)
    logs = {}
    callback.on_epoch_end(0, logs)
    return logs


class Kept(FeatureCallback):
    """Records the features and labels."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen = []

    def compute_metrics(self, *features_and_labels):
        self.seen.append(features_and_labels)
        return {"made_up": float(len(self.seen))}


@pytest.fixture(scope="module", params=["alone", "nested"])
def fitted(request):
    """A model after three epochs, the recorded features, and its history."""
    model = made() if request.param == "alone" else keras.Sequential([keras.Input((12, 20, 3)), made()])
    model.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy", run_eagerly=request.param == "nested")
    kept = Kept(TRAIN, TEST)
    callbacks = [kept, FewShot(TRAIN, TEST), KNN(TRAIN, TEST, k=3, every=2), LinearProbe(TRAIN, TEST, every=3)]
    history = model.fit(IMAGES, LABELS, batch_size=23, epochs=3, verbose=0, shuffle=False, callbacks=callbacks)
    return model, kept.seen, history.history


def test_the_history_has_the_metrics(fitted):
    _, _, history = fitted
    assert {name: len(values) for name, values in history.items()} == {
        **{"loss": 3, "made_up": 3, "few_shot_5": 3},
        **{"knn": 1, "linear_probe": 1},
    }
    assert history["made_up"] == [1, 2, 3]
    assert all(0.5 < history[name][-1] <= 1 for name in ("few_shot_5", "knn", "linear_probe"))


def test_the_weights_are_those_of_the_epochs_end(fitted):
    model, seen, history = fitted
    train, labels, test, truth = seen[-1]
    np.testing.assert_array_equal(labels, LABELS[:33])
    features = representation(model).predict(IMAGES, verbose=0)
    np.testing.assert_allclose(np.concatenate([train, test]), features, atol=1e-4)
    assert np.abs(seen[0][0] - train).max() > 1e-2
    assert history["few_shot_5"][-1] == few_shot(train, labels, test, truth, (5,)).at(5)


def test_batches_do_as_well_as_arrays(model):
    batches = [[(images[i : i + 11], labels[i : i + 11]) for i in range(0, 33, 11)] for images, labels in (TRAIN, TEST)]
    kept = Kept(*batches), Kept(TRAIN, TEST)
    for callback in kept:
        logged_by(callback, model)
    for one, other in zip(kept[0].seen[0], kept[1].seen[0]):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_one_object_serves_another_model_too(model):
    callback = Kept(TRAIN, TEST)
    for some in (model, made(8)):
        logged_by(callback, some)
    assert [seen[0].shape for seen in callback.seen] == [(33, 12), (33, 8)]


def test_settings_are_used(model):
    result = logged_by(FewShot(TRAIN, TEST, shots=2, regularizer=1.0, seed=3), model)
    features = (representation(model).predict_on_batch(images) for images, _ in (TRAIN, TEST))
    train, test = features
    assert result == {"few_shot_2": few_shot(train, TRAIN[1], test, TEST[1], (2,), (1.0,), 3).at(2, 1.0)}


def test_wrong_arguments_raise(model):
    with pytest.raises(ValueError, match="every=0"):
        KNN(TRAIN, TEST, every=0)
    with pytest.raises(ValueError, match="12 training images of each class"):
        logged_by(FewShot(TRAIN, TEST, shots=12), model)
    with pytest.raises(ValueError, match="Received: no images"):
        logged_by(KNN(iter([]), TEST), model)
