"""What holds for every pretext task."""

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
    judging = [numpy(task.random_order(11, training=False)) for _ in range(2)]
    for order in (*training, *judging):
        np.testing.assert_array_equal(np.sort(order, axis=1), np.tile(np.arange(35), (11, 1)))
        assert len({tuple(row) for row in order}) == 11
    assert (training[0] != training[1]).any() and (training[1] != training[2]).any()
    np.testing.assert_array_equal(*judging)


def test_every_patch_is_taken_as_often_as_any_other(task):
    order = numpy(task.random_order(4_001, training=True))
    counts = np.bincount(order[:, : task.taken].ravel(), minlength=35)
    expected = 4_001 * task.taken / 35
    assert np.abs(counts - expected).max() < 5 * np.sqrt(4_001 * 0.25)  # five standard deviations or more


@pytest.mark.parametrize("share, taken", [(0.5, 18), (0.75, 26), (0.01, 1), (0.95, 33)])
def test_the_share_is_of_the_patches(make_task, kind, images, share, taken):
    task = make_task(kind, share=share)
    assert task.taken == taken
    assert task.guessed(images, task.random_order(11)).shape[:2] == (11, taken)
    assert numpy(task(images)).shape == (11, 2)


@pytest.mark.parametrize("fixture", ["task", "task_of_many_tokens"])
def test_what_is_hidden_has_no_part_in_the_guesses_and_the_rest_has(request, kind, fixture, images):
    task = request.getfixturevalue(fixture)
    order = task.random_order(11)
    masked = task.taken if isinstance(task, MaskedAutoencoder) else task.masked
    unseen, seen = numpy(order)[:, :masked], numpy(order)[:, task.taken :]
    if isinstance(task, MaskedPatches):  # of those that follow the masked ones, one is seen in place of another
        unseen = np.delete(numpy(order), np.s_[task.masked + 1 :], axis=1)[:, :masked]
    guesses = numpy(task.guessed(images, order))
    np.testing.assert_array_equal(numpy(task.guessed(changed_in(task, images, unseen), order)), guesses)
    others = numpy(task.guessed(changed_in(task, images, seen), order))
    assert (np.abs(others - guesses).max(axis=(1, 2)) > 1e-4).all()


def test_the_loss_is_of_what_is_taken_alone(task, images):
    order = task.random_order(11)
    guesses, patches = task.guessed(images, order), task.patches(images)
    told = numpy(task.judged(patches, order, guesses))
    rest, taken = numpy(order)[:, task.taken :], numpy(order)[:, : task.taken]
    same = task.patches(changed_in(task, images, rest))
    np.testing.assert_array_equal(numpy(task.judged(same, order, guesses)), told)
    other = numpy(task.judged(task.patches(changed_in(task, images, taken)), order, guesses))
    assert (np.abs(other - told)[:, 0] > 1e-4).all()


def test_all_of_the_transformer_and_of_the_task_has_a_gradient(task, images):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(task(images, training=True)[:, 0])
    weights = task.trainable_weights
    gradients = tape.gradient(loss, [weight.value for weight in weights], unconnected_gradients="zero")
    still = {w.path for w, g in zip(weights, gradients) if not np.abs(numpy(tf.convert_to_tensor(g))).max()}
    assert not still
    assert {"encoder/projection/kernel", "norm/gamma", "task/mask_token"} <= {weight.path for weight in weights}


def test_images_show_what_is_seen_and_what_is_guessed(task, images):
    true, seen, guessed = task.reconstructions(images)
    np.testing.assert_array_equal(true, np.rint((images + 1) * 127.5))
    assert true.shape == seen.shape == guessed.shape == images.shape and seen.dtype == guessed.dtype == np.uint8
    order = numpy(task.random_order(11))
    hidden = task.taken if isinstance(task, MaskedAutoencoder) else task.masked
    for i in range(11):
        cells = [np.divmod(number, 7) for number in order[i]]
        parts = [np.s_[i, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3] for row, column in cells]
        for part in parts[:hidden]:
            assert (seen[part] == 128).all()
        for part in parts[task.taken :]:
            np.testing.assert_array_equal(seen[part], true[part])
            np.testing.assert_array_equal(guessed[part], true[part])


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


def test_mixed_precision_judges_in_float32(make_vit, make_task, kind, images):
    expected = numpy(make_task(kind)(images))
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        task = make_task(kind)
    finally:
        keras.config.set_dtype_policy(before)
    found = task(images, training=False)
    assert task.encoder.compute_dtype == "bfloat16" and found.dtype == "float32"
    np.testing.assert_allclose(numpy(found)[:, 0], expected[:, 0], rtol=0.03)


STEM = keras_vit.Variant(1, 8, 1, 2, 12, stem=keras_vit.ResNet((1,), (128,), 32), pooling="gap")


@pytest.mark.parametrize(
    "settings, share, words",
    [
        ({"variant": STEM, "shape": (32, 32, 3)}, 0.5, "a stem of convolutions sees across"),
        ({"pooling": "map"}, 0.5, "nothing to learn behind the last norm.*with pooling"),
        ({"shape": (3, 3, 3)}, 0.5, "Received: 1 x 1 patches"),
        ({}, 1.0, "share=1.0"),
        ({}, 0.0, "share=0.0"),
    ],
)
def test_what_cannot_be_learned_is_refused(make_vit, kind, settings, share, words):
    with pytest.raises(ValueError, match=words):
        kind(make_vit(**settings), share)


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
found = {}
with np.load(f"{folder}/case.npz") as file:
    case = dict(file)
for kind in (MaskedPatches, MaskedAutoencoder):
    name = kind.__name__
    task = kind.from_config(json.load(open(f"{folder}/{name}.json")))
    task.build((None, *case["images"].shape[1:]))
    for i, weight in enumerate(task.weights):
        weight.assign(case[f"{name}/{i}"])
    task.random_order = lambda batch, training=None: keras.ops.convert_to_tensor(case[f"{name}/order"])
    found[name] = keras.Model(task.vit.input, task(task.vit.input)).predict(case["images"], verbose=0).tolist()
print(json.dumps(found))
"""


def test_jax_judges_alike(make_vit, make_task, images, run_python, tmp_path):
    row = keras_vit.Variant(3, 8, 1, 2, 12, register_tokens=2)
    case, expected = {"images": images}, {}
    for kind in (MaskedPatches, MaskedAutoencoder):
        task, name = make_task(kind, make_vit(row)), kind.__name__
        (tmp_path / f"{name}.json").write_text(json.dumps(task.get_config()))
        case |= {f"{name}/{i}": numpy(weight) for i, weight in enumerate(task.weights)}
        case[f"{name}/order"] = numpy(task.random_order(11))
        expected[name] = numpy(task(images))
    np.savez(tmp_path / "case.npz", **case)
    found = run_python("-c", ON_JAX, tmp_path, KERAS_BACKEND="jax")
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-5)
