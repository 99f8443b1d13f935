"""None of these: the threshold, its share of false rejects, and the model that has it."""

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.evaluation import FalseRejects, Reject, false_rejects, fit_reject, with_reject
from keras_vit.models.interface import in_dtype
from keras_vit.models.reject import images_needed

TINY = keras_vit.Variant(patch_size=4, hidden_size=8, num_layers=1, num_heads=2, mlp_dim=16)


def of_confidence(highest):
    highest = np.asarray(highest, np.float32)
    return np.stack([highest, *[(1 - highest) / 2] * 2], axis=1)


def classifier(activation="softmax", **options):
    model = keras_vit.build(TINY, input_shape=(8, 8, 3), classes=3, classifier_activation=activation, **options)
    model.class_names = ("ant", "bee", "cow")
    model.get_layer("head").kernel.assign(np.random.default_rng(0).normal(size=(8, 3), scale=3))
    return model


def images(count=60):
    return np.random.default_rng(1).normal(size=(count, 8, 8, 3)).astype("float32")


@pytest.mark.parametrize(
    "share, count, below", [(0.05, 19, 0), (0.05, 38, 0), (0.05, 39, 1), (0.1, 99, 9), (0.5, 3, 1)]
)
def test_the_threshold_is_below_the_kth_lowest(share, count, below):
    highest = np.random.default_rng(0).permutation(np.linspace(0.4, 0.99, count))
    reject = fit_reject(of_confidence(highest), share)
    ordered = np.sort(highest)
    assert (highest < reject.threshold).sum() == below and reject.share == share
    lower = ordered[below - 1] if below else 1 / 3
    assert reject.threshold == pytest.approx((lower + ordered[below]) / 2, rel=1e-5)


def test_the_share_of_false_rejects_holds_on_average():
    """Whatever the distribution: here of 29 validation images and 1,000 new ones, drawn 400 times."""
    random, rates = np.random.default_rng(0), []
    for _ in range(200):
        validation, new = (1 / 3 + 2 / 3 * random.beta(5, 1, count) for count in (29, 1000))
        rates.append(false_rejects(fit_reject(of_confidence(validation), 0.1), of_confidence(new)).rate)
    error = np.std(rates) / np.sqrt(len(rates))
    assert 0.1 * 2 / 3 < np.mean(rates) < 0.1 + 2 * error


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 1 / 7, 0.5])
def test_fewer_images_than_the_share_needs_are_refused(share):
    least = images_needed(share)
    fit_reject(of_confidence(np.full(least, 0.9)), share)
    with pytest.raises(ValueError, match=rf"Expected {least} validation images.*{least - 1} validation images"):
        fit_reject(of_confidence(np.full(least - 1, 0.9)), share)


@pytest.mark.parametrize("share", [0, -0.1, 0.51, float("nan")])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match=f"at most 0.5. Received: share={share}"):
        fit_reject(of_confidence(np.full(100, 0.9)), share)
    with pytest.raises(ValueError, match="Received: Reject"):
        Reject(share, 0.5)


def test_false_rejects_in_words():
    rejects = false_rejects(Reject(0.1, 0.5), of_confidence([0.4, 0.49, 0.6, 0.7]))
    assert (rejects.rejected, rejects.images, rejects.rate) == (2, 4, 0.5)
    low, high = rejects.interval
    assert f"50.0% of 4 images of its classes as none of these, 95% interval {low:.1%} to {high:.1%}" in rejects.text
    assert "chosen for 10%" in rejects.text and "chosen" not in FalseRejects(2, 4).text
    assert "reject=" not in rejects.text
    assert rejects.metrics["threshold"] == 0.5 and rejects.metrics["test_rejected"] == 0.5


@pytest.mark.parametrize("threshold, useless", [(0.32, True), (0.334, True), (0.35, False)])
def test_a_threshold_at_chance_is_named(threshold, useless):
    rejects = false_rejects(Reject(0.05, threshold), np.full((40, 3), 1 / 3))
    assert (f"{threshold:.4f}" in rejects.text and "0.3333" in rejects.text) is useless


@pytest.mark.parametrize("activation", ["softmax", None])
def test_the_model_keeps_its_output_and_what_it_knows(activation, tmp_path):
    model, x = classifier(activation), images()
    rejecting = with_reject(model, [(x[:30], np.arange(30) % 3), (x[30:], np.arange(30) % 3)], share=0.2)
    assert model.reject is None and rejecting.class_names == model.class_names and rejecting.pixels == model.pixels
    np.testing.assert_array_equal(rejecting.predict(x, verbose=0), model.predict(x, verbose=0))
    probabilities = (
        keras.ops.softmax(model.predict(x, verbose=0)) if activation is None else model.predict(x, verbose=0)
    )
    margins = keras.ops.convert_to_numpy(rejecting.reject.margin(probabilities))
    assert margins.shape == (60, 1) and (margins < 0).sum() == 11  # k = 12 of 60
    rejecting.save(tmp_path / "model.keras")
    for other in (keras.saving.load_model(tmp_path / "model.keras"), in_dtype(rejecting, "bfloat16")):
        assert other.reject == rejecting.reject
    assert keras_vit.resize(rejecting, (12, 8)).reject == rejecting.reject


def test_a_model_without_one_is_saved_as_before():
    assert "reject" not in classifier().get_config()


@pytest.mark.parametrize("activation, classes", [("sigmoid", 3), (None, 1)])
def test_models_of_labels_and_numbers_are_refused(activation, classes):
    model = keras_vit.build(TINY, input_shape=(8, 8, 3), classes=classes, classifier_activation=activation)
    with pytest.raises(ValueError, match="Expected a classifier of one class an image"):
        with_reject(model, [(images(), np.zeros(60, int))])
