import dataclasses
import importlib.util
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vit
from keras_vit.models.patch_size import patch_size_of
from keras_vit.training.losses import CrossEntropy
from keras_vit.training.optimizers import SGD, AdamW, Muon
from keras_vit.training.trainer import make_trainer

CLASSES, BATCH = 5, 12
needs_torch = pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="PyTorch is not installed")
OWN = keras_vit.Variant(patch_size=4, hidden_size=8, num_layers=1, num_heads=2, mlp_dim=12)


def batches(steps=3, zeros=0):
    """Returns batches of noise; the last images of each have weight 0, and are NaN."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(steps, BATCH, 8, 12, 3)).astype("float32")
    targets = rng.dirichlet(np.ones(CLASSES), (steps, BATCH)).astype("float32")
    weights = rng.uniform(0.5, 2.0, (steps, BATCH)).astype("float32")
    weights[:, BATCH - zeros :] = 0
    return images, targets, weights


def model_of(seed=0, **settings):
    keras.utils.set_random_seed(seed)
    model = keras_vit.build(OWN, input_shape=(8, 12, 3), classes=CLASSES, **settings)
    rng = np.random.default_rng(seed)  # the head begins at zeros, where nothing below it has a gradient
    for weight in model.weights:
        weight.assign(rng.normal(0, 0.3, weight.shape))
    return model


def stepping(optimizer=None, jit_compile=False, model=None, **settings):
    made = make_trainer(model or model_of(), **settings)
    made.compile(optimizer or SGD(0.1, 0.9), jit_compile=jit_compile)
    made.optimizer.build(made.trainable_variables)
    return made


def fitted(data, *arguments, **settings):
    """Returns what an epoch over batches leaves: its log and the weights."""
    made = stepping(*arguments, **settings)
    rows = []
    note = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: rows.append(dict(logs)))
    made.fit(tf.data.Dataset.from_tensor_slices(data), verbose=0, shuffle=False, callbacks=[note])
    return rows, [keras.ops.convert_to_numpy(weight) for weight in made.weights]


def differ(some, others):
    return max(np.abs(one - other).max() for one, other in zip(some, others, strict=True))


STEPPED = ("token_32", "rep_32", "gap_32", "hybrid_111_64")


# A transformer and a hybrid; the other two differ in the model alone, which tests/weights compares.
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in ("token_32", "hybrid_111_64") else pytest.mark.soak) for name in STEPPED],
)
def test_ten_steps_of_the_official_implementation(oracle, tmp_path, name):
    assert set(STEPPED) == set(oracle.numbers("losses"))
    model = keras_vit.load(oracle.write(name, tmp_path))
    targets = np.eye(model.output_shape[-1], dtype="float32")[list(oracle.LABELS)]
    batch = oracle.images(name), targets, np.ones(2, "float32")
    data = [np.stack([part] * 10) for part in batch]
    logs, _ = fitted(tuple(data), SGD(0.05, momentum=0.9), model=model, clip_norm=1.0)
    # In the hybrid's fifth step a ReLU's input is so near to 0 that rounding decides: of ten runs with all weights
    # moved by one unit in the last place, some agree to 1e-5 to the end and the others differ by 1.0e-3 in the last.
    rtol = np.where(np.arange(10) < (4 if "hybrid" in name else 10), 1e-5, 2e-3)
    expected = oracle.numbers("losses")[name]
    assert (np.abs([row["loss"] for row in logs] - expected) <= rtol * expected).all()


@pytest.mark.parametrize(
    "optimizer",
    [SGD(0.1, 0.9), AdamW(1e-2, kernel_decay=0.1), Muon(1e-2, kernel_decay=0.1)],
    ids=["sgd", "adamw", "muon"],
)
def test_parts_of_a_batch_give_the_step_of_the_whole(optimizer):
    config = optimizer.get_config()
    whole, weights = fitted(batches(), type(optimizer).from_config(config), clip_norm=0.1)
    assert min(row["gradient_norm"] for row in whole) > 0.1
    for parts in (3, 12):
        logs, result = fitted(batches(), type(optimizer).from_config(config), clip_norm=0.1, accumulation=parts)
        np.testing.assert_allclose([row["loss"] for row in logs], [row["loss"] for row in whole], rtol=1e-5)
        assert differ(result, weights) < 1e-5


def test_images_of_weight_0_do_not_count_in_a_step():
    images, targets, weights = batches(zeros=5)
    full, of_full = fitted((images, targets, weights), clip_norm=0.1, accumulation=3)
    short, of_short = fitted((images[:, :7], targets[:, :7], weights[:, :7]), clip_norm=0.1)
    np.testing.assert_allclose([row["loss"] for row in full], [row["loss"] for row in short], rtol=1e-5)
    assert differ(of_full, of_short) < 1e-5


def test_a_loss_is_the_weighted_mean_and_the_clip_bounds_the_step():
    images, targets, weights = batches(1)
    made = stepping(SGD(1.0), clip_norm=0.1, label_smoothing=0.2)
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(made.predict(images[0], verbose=0)))
    smooth = targets[0] * 0.8 + 0.2 / CLASSES
    expected = np.average(-(smooth * np.log(probabilities)).sum(axis=1), weights=weights[0])
    (row,), after = fitted((images, targets, weights), SGD(1.0), clip_norm=0.1, label_smoothing=0.2)
    assert row["loss"] == pytest.approx(expected, rel=1e-5) and row["gradient_norm"] > 0.1
    before = [keras.ops.convert_to_numpy(weight) for weight in made.weights]
    assert np.sqrt(sum(np.square(a - b).sum() for a, b in zip(after, before))) == pytest.approx(0.1, rel=1e-4)


def test_the_sigmoid_loss_is_the_sum_of_binary_cross_entropies():
    targets, logits = np.array([[1, 0, 0.5]], "float32"), np.array([[2, -1, 0.3]], "float32")
    chance = 1 / (1 + np.exp(-logits))
    expected = -(targets * np.log(chance) + (1 - targets) * np.log(1 - chance)).sum()
    assert float(CrossEntropy("sigmoid")(targets, logits)[0]) == pytest.approx(expected, rel=1e-5)


def test_evaluation_is_weighted_over_batches_of_any_weight():
    images, targets, weights = batches()
    weights[1, 3:] = 0
    weights[2] = 0
    made = stepping()
    result = made.evaluate(tf.data.Dataset.from_tensor_slices((images, targets, weights)), return_dict=True, verbose=0)
    logits = made.predict(images.reshape(-1, 8, 12, 3), verbose=0)
    right = logits.argmax(axis=1) == targets.reshape(-1, CLASSES).argmax(axis=1)
    assert result["accuracy"] == pytest.approx(np.average(right, weights=weights.ravel()), rel=1e-5)
    losses = keras.ops.convert_to_numpy(CrossEntropy()(targets.reshape(-1, CLASSES), logits))
    assert result["loss"] == pytest.approx(np.average(losses, weights=weights.ravel()), rel=1e-5)


def test_a_batch_without_weight_is_left_out_of_a_run():
    images, targets, weights = batches()
    weights[1] = 0
    rows, result = fitted((images, targets, weights), AdamW(1e-2, ema=0.9), clip_norm=0.1, accumulation=3)
    some = [0, 2]
    others, expected = fitted(
        (images[some], targets[some], weights[some]), AdamW(1e-2, ema=0.9), clip_norm=0.1, accumulation=3
    )
    assert rows[1] == {"loss": 0, "accuracy": 0, "weight": 0, "gradient_norm": 0}
    assert [rows[i]["loss"] for i in some] == [row["loss"] for row in others]
    assert differ(result, expected) == 0


def test_no_weight_at_all_is_a_mean_of_0():
    images, targets, weights = batches(zeros=BATCH)
    data = tf.data.Dataset.from_tensor_slices((images, targets, weights))
    assert stepping().evaluate(data, return_dict=True, verbose=0) == {"loss": 0, "accuracy": 0}


@pytest.mark.parametrize("poison", [np.nan, np.inf])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_batch_that_is_not_finite_leaves_the_weights_as_they_are(poison, jit_compile):
    images, targets, weights = batches(1)
    images[0, 0, 0, 0, 0] = poison
    before = [keras.ops.convert_to_numpy(weight) for weight in model_of().weights]
    (row,), after = fitted((images, targets, weights), SGD(0.1, 0.9, kernel_decay=0.1), jit_compile, clip_norm=1.0)
    assert not np.isfinite(row["loss"])
    assert differ(before, after) == 0


@pytest.mark.parametrize(
    "backend, devices, cases",
    [
        ("tensorflow", "one", "sgd,adamw,scaled"),
        pytest.param("tensorflow", "two", "scaled", marks=pytest.mark.soak),
        pytest.param("jax", "one", "scaled", marks=pytest.mark.soak),
        pytest.param("tensorflow", "two", "sgd,adamw", marks=pytest.mark.soak),
        pytest.param("jax", "one", "sgd,adamw", marks=pytest.mark.soak),
        pytest.param("torch", "one", "sgd,adamw,scaled", marks=[pytest.mark.soak, needs_torch]),
    ],
)
def test_a_batch_that_is_not_finite_changes_nothing_after_good_ones(run_warm, backend, devices, cases):
    script = pathlib.Path(__file__).with_name("poisoned_steps.py")
    results = run_warm(script, devices, cases, KERAS_BACKEND=backend)
    assert list(results) == cases.split(",")
    for case, result in results.items():
        for poison in ("images", "targets"):
            names = {name.split("/")[-1] for name in result[poison]}
            assert names <= {"step_counter", "dynamic_scale"}, (case, poison)  # of the optimizer that scales the loss
            assert ("dynamic_scale" in names) == case.startswith("scaled"), (case, poison)
        assert result["weights"] == [], case
        assert result["good"] > 30, case


@pytest.mark.soak
def test_the_step_can_be_compiled_by_xla():
    logs, weights = fitted(batches(), AdamW(1e-2, ema=0.9), clip_norm=0.1, accumulation=3)
    compiled, result = fitted(batches(), AdamW(1e-2, ema=0.9), jit_compile=True, clip_norm=0.1, accumulation=3)
    np.testing.assert_allclose([row["loss"] for row in compiled], [row["loss"] for row in logs], rtol=1e-4)
    assert differ(result, weights) < 1e-4


def test_float16_scales_its_loss_and_clips_the_unscaled_gradient():
    model = model_of()
    plain, expected = fitted(batches(), SGD(0.1, 0.9), clip_norm=0.1)
    scaled = keras.optimizers.LossScaleOptimizer(SGD(0.1, 0.9), initial_scale=2.0**10)
    logs, result = fitted(batches(), scaled, clip_norm=0.1, model=model)
    np.testing.assert_allclose(
        [row["gradient_norm"] for row in logs], [row["gradient_norm"] for row in plain], rtol=1e-4
    )
    assert differ(result, expected) < 1e-5


def test_float16_skips_a_step_that_overflows_and_halves_its_scale():
    scaled = keras.optimizers.LossScaleOptimizer(SGD(0.1, 0.9), initial_scale=2.0**10)
    images, targets, weights = batches(1)
    images[0, 3] = np.inf  # as a value too large for float16 would be
    before = [keras.ops.convert_to_numpy(weight) for weight in model_of().weights]
    made = stepping(scaled)
    made.fit(tf.data.Dataset.from_tensor_slices((images, targets, weights)), verbose=0, shuffle=False)
    assert differ(before, [keras.ops.convert_to_numpy(weight) for weight in made.weights]) == 0
    assert float(scaled.dynamic_scale) == 2.0**9


def test_another_backend_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "openvino")
    with pytest.raises(ValueError, match="Received: openvino. Set KERAS_BACKEND=tensorflow"):
        make_trainer(model_of())


def test_a_step_cuts_patches_of_a_size_drawn_at_random():
    made = stepping(model=model_of(), patch_sizes=(2, 4))
    images = batches()[0][0]
    own = keras.ops.convert_to_numpy(made([images], training=False))
    expected = []
    for size in (2, 4):
        with patch_size_of(made, size):
            expected.append(keras.ops.convert_to_numpy(made([images], training=False)))
    np.testing.assert_allclose(expected[1], own, atol=1e-6)
    drawn = [keras.ops.convert_to_numpy(made([images], training=True)) for _ in range(16)]
    sizes = [min((0, 1), key=lambda index: np.abs(logits - expected[index]).max()) for logits in drawn]
    assert {*sizes} == {0, 1}
    for index, logits in zip(sizes, drawn):
        np.testing.assert_allclose(logits, expected[index], atol=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_all_weights_learn_from_patches_of_any_size(jit_compile):
    """The size that is not the model's own alone: its gradient reaches the patch embedding and the positions."""
    model = model_of()
    before = [keras.ops.convert_to_numpy(weight) for weight in model.weights]
    fitted(batches(), model=model, jit_compile=jit_compile, patch_sizes=(2,))
    for weight, old in zip(model.weights, before, strict=True):
        moved = np.abs(keras.ops.convert_to_numpy(weight) - old).max()
        assert moved > 1e-6 or weight.path.endswith("key/bias"), weight.path


def test_a_model_that_needs_its_grid_has_no_other_patch_sizes():
    with pytest.raises(ValueError, match="RotaryAttention"):
        make_trainer(
            keras_vit.build(dataclasses.replace(OWN, rotary=keras_vit.Rotary()), input_shape=(8, 12, 3), classes=3),
            patch_sizes=(2, 4),
        )


def test_the_draws_continue_where_a_checkpoint_ends():
    made = stepping(patch_sizes=(2, 4))
    assert any(variable is made.patch_size_seed.state for variable in made.variables)
