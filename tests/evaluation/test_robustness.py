import logging

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.evaluation import perturbations as changes
from keras_vit.evaluation.occlusion import KeptTokens
from keras_vit.evaluation.robustness import ModelWithImages, Robustness, RobustnessRow, robustness_curves

IMAGES = 6
LABELS = np.array([0, 1, 0, 1, 1, 0])


def scale(pixels):
    return pixels.astype("float32") / 255


@pytest.fixture(scope="module")
def transformer():
    keras.utils.set_random_seed(0)
    model = keras_vit.build(keras_vit.Variant(4, 8, 2, 2, 11), input_shape=(12, 20, 3), classes=3)
    generator = np.random.default_rng(0)
    # Stronger than they begin, so that the classes of the images differ.
    model.set_weights([weight + generator.normal(0, 0.4, weight.shape) for weight in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def light():
    """Says 0 where the mean pixel is below 127.5, 1 where it is above, never 2; has no patches."""
    inputs = keras.Input((None, None, 3))
    head = keras.layers.Dense(3, name="head")
    model = keras.Model(inputs, head(keras.layers.GlobalAveragePooling2D()(inputs)))
    head.set_weights([np.array([[-1, 1, 0]] * 3) / 3, np.array([0.5, -0.5, -9])])
    return model


def made_images(shape=(12, 20)):
    """Dark ones of class 0, the others light."""
    values = np.array([40, 200, 70, 190, 215, 20], np.uint8)
    noise = np.random.default_rng(0).integers(0, 20, (IMAGES, *shape, 1))
    return (values[:, None, None, None] + noise).astype(np.uint8).repeat(3, axis=3)


def with_images(model, name="light", labels=LABELS, **changed):
    return ModelWithImages(
        **{"name": name, "model": model, "images": made_images(), "labels": labels, "prepare": scale} | changed
    )


def accuracies(result, family, condition, name="light"):
    return {row.level: row.accuracy for row in result.curves[family, condition][name]}


def test_what_keeps_the_light_keeps_the_class(light):
    result = robustness_curves([with_images(light)], ("shuffle", "shift", "texture"))
    assert accuracies(result, "clean", "clean") == {0: 1}
    assert accuracies(result, "shuffle", "squares") == dict.fromkeys(range(2, 13), 1)  # a side of 12 has no 13 parts
    assert accuracies(result, "shift", "pixels") == {1: 1}  # 14 patches a side, or as many as there are pixels
    assert accuracies(result, "texture", "median") == dict.fromkeys(range(1, 6), 1)
    assert {row.images for row in result.rows} == {IMAGES}
    assert result.corruption_error == {}


def test_brightness_and_the_rest_by_hand(light):
    """Dark ones, 79.5, 49.5 and 29.5 of 255 on average, pass 127.5 by 0.188, 0.306 and 0.384 of 1 more light."""
    result = robustness_curves([with_images(light)], "corruptions")
    assert accuracies(result, "corruptions", "brightness") == pytest.approx(
        {1: 1, 2: 5 / 6, 3: 5 / 6, 4: 3 / 6, 5: 3 / 6}
    )
    for name in ("gaussian noise", "contrast", "defocus blur", "motion blur", "pixelate", "glass blur"):
        assert set(accuracies(result, "corruptions", name).values()) == {1}
    by_name = {name: accuracies(result, "corruptions", name) for name in changes.CORRUPTIONS}
    errors = [np.mean([1 - value for value in levels.values()]) for levels in by_name.values()]
    assert result.corruption_error == {"light": pytest.approx(np.mean(errors))}


def test_drops_of_a_vit_and_of_a_baseline(light, transformer, monkeypatch):
    monkeypatch.setattr(changes, "DROPPED_SHARES", (0.2, 0.9))
    salience = np.random.default_rng(0).random((IMAGES, 3, 5))
    subjects = [with_images(transformer, "vit"), with_images(light)]
    result = robustness_curves(subjects, ["drop"], salience=salience, batch_size=3)
    conditions = [("drop", condition) for condition in ("random", "salient", "non-salient")]
    assert list(result.curves) == [("clean", "clean"), *conditions]
    for (family, _), by_model in result.curves.items():
        assert list(by_model) == ["vit", "light"] == list(result.models)
        for curve in by_model.values():
            assert [row.level for row in curve] == ([0] if family == "clean" else [0.2, 0.9])
            assert curve[0].agreement == 1 or family == "drop"
    # A fifth of the pixels at 128 leaves the mean on its side; 14 of 15 leave the darkest at 121, still below.
    assert accuracies(result, "drop", "random") == {0.2: 1, 0.9: 1}
    kept = np.argsort(-salience.reshape(IMAGES, -1))[:, 3:]
    said = KeptTokens(transformer, 12).predict_on_batch([scale(made_images()), kept]).argmax(axis=1)
    clean = transformer.predict_on_batch(scale(made_images())).argmax(axis=1)
    row = result.curves["drop", "salient"]["vit"][0]
    assert row.accuracy == np.mean(said == LABELS) and row.agreement == np.mean(said == clean)


def test_the_patches_that_are_dropped():
    """The most salient go first, the least salient last; each model sees the same ones grey."""
    salience = np.random.default_rng(0).permuted(np.tile(np.arange(15.0), (IMAGES, 1)), axis=1).reshape(-1, 3, 5)
    plan = changes.PerturbationPlan(IMAGES, (3, 5), salience, 0, [(12, 20)])
    made = {(change.condition, change.level): change for change in changes.FAMILIES["drop"](plan)}
    for part, gone in ((0.1, 2), (0.2, 3), (0.5, 8), (0.9, 14)):
        for condition, dropped in (("salient", salience >= 15 - gone), ("non-salient", salience < gone)):
            change = made[condition, part]
            kept = np.ones((IMAGES, 15), bool)
            np.put_along_axis(kept, change.kept, False, axis=1)
            np.testing.assert_array_equal(kept.reshape(-1, 3, 5), dropped)
            for i, image in enumerate(made_images()):
                grey = (change.apply(image, None, i) == 128).all(axis=2)
                np.testing.assert_array_equal(grey, dropped[i].repeat(4, axis=0).repeat(4, axis=1))
    assert made["random", 0.5].kept.shape == (IMAGES, 7)


def test_only_one_grid_drops_tokens(light, transformer, monkeypatch):
    """A baseline of another grid sees the same places grey, at its own size."""
    monkeypatch.setattr(changes, "DROPPED_SHARES", (0.5,))
    seen = []

    def prepare(pixels):
        seen.append((pixels == 128).all(axis=-1))
        return scale(pixels)

    big = with_images(light, images=made_images((24, 40)), prepare=prepare)
    robustness_curves([with_images(transformer, "vit"), big], ["drop"])
    assert seen[1].shape == (IMAGES, 24, 40)
    np.testing.assert_array_equal(seen[1].sum(axis=(1, 2)), 8 * 8 * 8)


def test_subjects_of_one_array_see_the_same_pixels(light):
    seen = {"a": [], "b": []}

    def keeping(name):
        return lambda pixels: scale(seen[name].append(pixels.copy()) or pixels)

    shared = made_images()
    robustness_curves(
        [with_images(light, name, images=shared, prepare=keeping(name)) for name in seen], "corruptions", seed=3
    )
    np.testing.assert_array_equal(seen["a"], seen["b"])
    np.testing.assert_array_equal(seen["a"][0], made_images())


@pytest.mark.parametrize("count, sizes", [(6, [3, 3]), (5, [4, 1])])
def test_batches_are_alike_where_they_can_be(light, count, sizes):
    seen = []
    some = {"images": made_images()[:count], "labels": LABELS[:count]}
    robustness_curves([with_images(light, prepare=lambda x: seen.append(len(x)) or scale(x), **some)], [], batch_size=4)
    assert seen == sizes


def test_shifts_go_up_to_the_patch():
    for side, levels in ((16, [1, 2, 4, 8, 16]), (14, [1, 2, 4, 8, 14])):
        plan = changes.PerturbationPlan(1, (2, 3), None, 0, [(2 * side, 3 * side)])
        assert [change.level for change in changes.FAMILIES["shift"](plan)] == levels


def rows(name, errors):
    """Of two corruptions at two severities each."""
    names = ("fog", "fog", "snow", "snow")
    return [
        RobustnessRow("corruptions", condition, 1 + i % 2, name, 1 - error, 1.0, 10)
        for i, (condition, error) in enumerate(zip(names, errors))
    ]


def test_corruption_error_by_hand():
    ours, theirs = rows("vit", [0.1, 0.2, 0.3, 0.5]), rows("bit", [0.2, 0.4, 0.3, 0.1])
    assert Robustness(("vit",), tuple(ours)).corruption_error == pytest.approx({"vit": 0.275})
    both = Robustness(("vit", "bit"), tuple(ours + theirs)).corruption_error
    assert both == pytest.approx({"vit": (0.3 / 0.6 + 0.8 / 0.4) / 2, "bit": 1})
    none = Robustness(("vit", "bit"), tuple(ours + rows("bit", [0, 0, 0.1, 0.1]))).corruption_error
    assert none["vit"] == np.inf and np.isnan(none["bit"])


def test_progress_is_logged(light, caplog):
    with caplog.at_level(logging.INFO, "keras_vit"):
        robustness_curves([with_images(light)], "shift")
    assert "clean, clean, 0: light 100.0% (1 of 2," in caplog.text
    assert "shift, pixels, 1: light 100.0% (2 of 2, 0 s left)" in caplog.text


@pytest.mark.parametrize(
    "changed, options, words",
    [
        (
            {"images": made_images()[:0], "labels": LABELS[:0]},
            {},
            "Expected images to evaluate on. Received: no images",
        ),
        ({"labels": LABELS[:4]}, {}, r"as many images and labels for each model. Received: \[4, 6\]"),
        ({"labels": LABELS + 2}, {}, "labels from 0 to 2, the model's classes. Received: labels from 2 to 3"),
        ({}, {"families": ["corruption"]}, r"drop, .*Received: families=\['corruption'\]. Nearest: corruptions"),
        ({}, {"salience": np.zeros((5, 3, 5))}, r"shape \(6, 3, 5\).*Received: salience of shape \(5, 3, 5\)"),
    ],
)
def test_faults(light, changed, options, words):
    with pytest.raises(ValueError, match=words):
        robustness_curves([with_images(light, **changed)], **options)


def test_images_of_another_size_or_type_raise(light, transformer):
    with pytest.raises(
        ValueError, match=r"height 12, width 20.* for 'vit'. Received: images of shape \(6, 20, 12, 3\), uint8"
    ):
        robustness_curves([with_images(light), with_images(transformer, "vit", images=made_images((20, 12)))])
    with pytest.raises(ValueError, match="height any, width any.* float32"):
        robustness_curves([with_images(light, images=scale(made_images()))])


def test_two_models_of_a_name_raise(light):
    with pytest.raises(ValueError, match="different names"):
        robustness_curves([with_images(light), with_images(light)])
    with pytest.raises(ValueError, match="Received: no images"):
        robustness_curves([])
