"""Tests of all pre-training tasks."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vit
from keras_vit.pretraining import MaskedAutoencoder, MaskedPatches


def numpy(x):
    return keras.ops.convert_to_numpy(x)


def changed_in(task, images, patches):
    """Returns the images with other pixels in some patches, (batch, some) numbers."""
    flat, side = numpy(task.patches(images)).copy(), task.patches.patch_size
    for row, numbers in zip(flat, patches):
        row[numbers] = -row[numbers]
    rows, columns = task.patches.grid
    flat = flat.reshape(-1, rows, columns, side, side, task.channels)
    return flat.transpose(0, 1, 3, 2, 4, 5).reshape(images.shape)


def test_patches_are_chosen_anew_in_training_and_alike_outside_it(task):
    training = [numpy(task.random_order(11, training=True)) for _ in range(3)]
    evaluation = [numpy(task.random_order(11, training=False)) for _ in range(2)]
    for order in (*training, *evaluation):
        np.testing.assert_array_equal(np.sort(order, axis=1), np.tile(np.arange(35), (11, 1)))
        assert len({tuple(row) for row in order}) == 11
    assert (training[0] != training[1]).any() and (training[1] != training[2]).any()
    np.testing.assert_array_equal(*evaluation)


def test_every_patch_is_masked_as_often_as_any_other(task):
    order = numpy(task.random_order(4_001, training=True))
    counts = np.bincount(order[:, : task.num_masked].ravel(), minlength=35)
    expected = 4_001 * task.num_masked / 35
    assert np.abs(counts - expected).max() < 5 * np.sqrt(4_001 * 0.25)  # five standard deviations or more


@pytest.mark.parametrize("mask_ratio, masked", [(0.5, 18), (0.75, 26), (0.01, 1), (0.95, 33)])
def test_the_mask_ratio_is_of_the_patches(make_task, kind, images, mask_ratio, masked):
    task = make_task(kind, mask_ratio=mask_ratio)
    assert task.num_masked == masked
    assert task.predict(images, task.random_order(11)).shape[:2] == (11, masked)
    assert numpy(task(images)).shape == (11, 2)


@pytest.mark.parametrize("fixture", ["task", "task_of_many_tokens"])
def test_what_is_hidden_has_no_part_in_the_predictions_and_the_rest_has(request, kind, fixture, images):
    task = request.getfixturevalue(fixture)
    order = task.random_order(11)
    masked = task.num_masked if isinstance(task, MaskedAutoencoder) else task.num_mask_tokens
    unseen, seen = numpy(order)[:, :masked], numpy(order)[:, task.num_masked :]
    if isinstance(task, MaskedPatches):  # of those that follow the masked ones, one is seen in place of another
        unseen = np.delete(numpy(order), np.s_[task.num_mask_tokens + 1 :], axis=1)[:, :masked]
    predictions = numpy(task.predict(images, order))
    np.testing.assert_array_equal(numpy(task.predict(changed_in(task, images, unseen), order)), predictions)
    others = numpy(task.predict(changed_in(task, images, seen), order))
    assert (np.abs(others - predictions).max(axis=(1, 2)) > 1e-4).all()


def test_the_loss_is_of_the_masked_patches_alone(task, images):
    order = task.random_order(11)
    predictions, patches = task.predict(images, order), task.patches(images)
    expected = numpy(task.evaluate(patches, order, predictions))
    rest, masked = numpy(order)[:, task.num_masked :], numpy(order)[:, : task.num_masked]
    same = task.patches(changed_in(task, images, rest))
    np.testing.assert_array_equal(numpy(task.evaluate(same, order, predictions)), expected)
    other = numpy(task.evaluate(task.patches(changed_in(task, images, masked)), order, predictions))
    assert (np.abs(other - expected)[:, 0] > 1e-4).all()


def test_all_of_the_transformer_and_of_the_task_has_a_gradient(task, images):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(task(images, training=True)[:, 0])
    weights = task.trainable_weights
    gradients = tape.gradient(loss, [weight.value for weight in weights], unconnected_gradients="zero")
    still = {w.path for w, g in zip(weights, gradients) if not np.abs(numpy(tf.convert_to_tensor(g))).max()}
    assert not still
    assert {"encoder/projection/kernel", "norm/gamma", "task/mask_token"} <= {weight.path for weight in weights}


def test_images_show_what_is_seen_and_what_is_guessed(task, images):
    true, seen, predicted = task.reconstructions(images)
    np.testing.assert_array_equal(true, np.rint((images + 1) * 127.5))
    assert true.shape == seen.shape == predicted.shape == images.shape and seen.dtype == predicted.dtype == np.uint8
    order = numpy(task.random_order(11))
    hidden = task.num_masked if isinstance(task, MaskedAutoencoder) else task.num_mask_tokens
    for i in range(11):
        cells = [np.divmod(number, 7) for number in order[i]]
        parts = [np.s_[i, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3] for row, column in cells]
        for part in parts[:hidden]:
            assert (seen[part] == 128).all()
        for part in parts[task.num_masked :]:
            np.testing.assert_array_equal(seen[part], true[part])
            np.testing.assert_array_equal(predicted[part], true[part])


def test_a_task_is_rebuilt_from_its_config_and_saved_in_a_model(task, images, tmp_path):
    rebuilt = type(task).from_config(task.get_config())
    rebuilt.build((None, *images.shape[1:]))
    for weight, own in zip(rebuilt.weights, task.weights, strict=True):
        weight.assign(own)
    expected = numpy(task(images))
    np.testing.assert_array_equal(numpy(rebuilt(images)), expected)
    keras.Model(task.vit.input, task(task.vit.input)).save(tmp_path / "task.keras")
    loaded = keras.saving.load_model(tmp_path / "task.keras")
    np.testing.assert_allclose(loaded.predict(images, verbose=0), expected, rtol=1e-5)


def test_mixed_precision_has_a_float32_loss(make_vit, make_task, kind, images):
    expected = numpy(make_task(kind)(images))
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        task = make_task(kind)
    finally:
        keras.config.set_dtype_policy(before)
    result = task(images, training=False)
    assert task.encoder.compute_dtype == "bfloat16" and result.dtype == "float32"
    np.testing.assert_allclose(numpy(result)[:, 0], expected[:, 0], rtol=0.03)


STEM = keras_vit.Variant(1, 8, 1, 2, 12, stem=keras_vit.ResNet((1,), (128,), 32), pooling="gap")


@pytest.mark.parametrize(
    "settings, mask_ratio, words",
    [
        ({"variant": STEM, "shape": (32, 32, 3)}, 0.5, "without a stem of convolutions"),
        ({"variant": keras_vit.Variant(3, 8, 1, 2, 12, pooling="gap", norm_at="pooled")}, 0.5, "norm_at='tokens'"),
        ({"pooling": "map"}, 0.5, "no weights after the last norm.*with pooling"),
        ({"shape": (3, 3, 3)}, 0.5, "Received: 1 x 1 patches"),
        ({}, 1.0, "mask_ratio=1.0"),
        ({}, 0.0, "mask_ratio=0.0"),
    ],
)
def test_unsuitable_models_and_ratios_are_refused(make_vit, kind, settings, mask_ratio, words):
    with pytest.raises(ValueError, match=words):
        kind(make_vit(**settings), mask_ratio)


def test_a_head_is_refused(kind):
    model = keras_vit.build(keras_vit.Variant(3, 8, 1, 2, 12), input_shape=(6, 9, 3), classes=5)
    with pytest.raises(ValueError, match="with head"):
        kind(model, 0.5)


ON_JAX = """
import json, sys
import keras, numpy as np
from keras_vit.pretraining import MaskedAutoencoder, MaskedPatches
import keras_vit

folder = sys.argv[1]
result = {}
with np.load(f"{folder}/case.npz") as file:
    case = dict(file)
for kind in (MaskedPatches, MaskedAutoencoder):
    name = kind.__name__
    task = kind.from_config(json.load(open(f"{folder}/{name}.json")))
    task.build((None, *case["images"].shape[1:]))
    for i, weight in enumerate(task.weights):
        weight.assign(case[f"{name}/{i}"])
    task.random_order = lambda batch, training=None: keras.ops.convert_to_tensor(case[f"{name}/order"])
    result[name] = keras.Model(task.vit.input, task(task.vit.input)).predict(case["images"], verbose=0).tolist()
print(json.dumps(result))
"""


@pytest.mark.soak
def test_jax_has_the_same_losses(make_vit, make_task, images, run_warm, tmp_path):
    row = keras_vit.Variant(3, 8, 1, 2, 12, register_tokens=2)
    case, expected = {"images": images}, {}
    for kind in (MaskedPatches, MaskedAutoencoder):
        task, name = make_task(kind, make_vit(row)), kind.__name__
        (tmp_path / f"{name}.json").write_text(json.dumps(task.get_config()))
        case |= {f"{name}/{i}": numpy(weight) for i, weight in enumerate(task.weights)}
        case[f"{name}/order"] = numpy(task.random_order(11))
        expected[name] = numpy(task(images))
    np.savez(tmp_path / "case.npz", **case)
    result = run_warm("-c", ON_JAX, tmp_path, KERAS_BACKEND="jax")
    for name, values in expected.items():
        np.testing.assert_allclose(result[name], values, rtol=1e-4, atol=1e-5)
