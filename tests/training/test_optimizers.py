import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vit.training.optimizers import SGD, AdamW, Muon, ema_decay
from keras_vit.training.schedules import WarmupSchedule

SHAPES = {"dense/kernel": (5, 3), "dense/bias": (3,), "head/kernel": (3, 2)}


def weights():
    """Returns weights with paths and the gradients of seven steps; the same each time."""
    rng = np.random.default_rng(0)
    made = {}
    for path, shape in SHAPES.items():
        with keras.name_scope(path.split("/")[0]):
            made[path] = keras.Variable(rng.normal(size=shape).astype("float32"), name=path.split("/")[1])
    gradients = [{path: rng.normal(size=shape).astype("float32") for path, shape in SHAPES.items()} for _ in range(7)]
    assert [made[path].path for path in SHAPES] == list(SHAPES)
    return made, gradients


def run(optimizer):
    made, gradients = weights()
    for step in gradients:
        optimizer.apply([tf.constant(step[path]) for path in SHAPES], list(made.values()))
    return {path: keras.ops.convert_to_numpy(weight) for path, weight in made.items()}


def start():
    made, gradients = weights()
    return {path: keras.ops.convert_to_numpy(weight) for path, weight in made.items()}, gradients


def bfloat16(values):
    return keras.ops.convert_to_numpy(keras.ops.cast(keras.ops.cast(values, "bfloat16"), "float32"))


@pytest.mark.parametrize("dtype, rounded", [("float32", np.asarray), ("bfloat16", bfloat16)])
def test_momentum_is_optaxs(dtype, rounded):
    schedule = WarmupSchedule(0.1, 7, "cosine", 2)
    expected, gradients = start()
    velocity = {path: np.zeros(shape, np.float32) for path, shape in SHAPES.items()}
    for step, gradient in enumerate(gradients):
        for path in SHAPES:
            update = gradient[path] + np.float32(0.9) * velocity[path]
            expected[path] = expected[path] - np.float32(schedule(step)) * update
            velocity[path] = rounded(update)  # stored; the step itself is not rounded
    result = run(SGD(schedule, momentum=0.9, momentum_dtype=dtype))
    for path in SHAPES:
        np.testing.assert_allclose(result[path], expected[path], rtol=1e-5, atol=1e-6)


def test_under_a_schedule_keras_own_momentum_is_another_optimizer():
    schedule = WarmupSchedule(0.1, 7, "cosine", 2)
    ours, theirs = run(SGD(schedule, momentum=0.9)), run(keras.optimizers.SGD(schedule, momentum=0.9))
    assert max(np.abs(ours[path] - theirs[path]).max() for path in SHAPES) > 1e-2


def test_adamw_is_keras_own_with_decay_of_kernels_alone():
    schedule = WarmupSchedule(0.01, 7, "linear", 2)
    theirs = keras.optimizers.AdamW(schedule, weight_decay=0.3)
    theirs.exclude_from_weight_decay(var_names=["bias"])
    ours, theirs = run(AdamW(schedule, kernel_decay=0.3)), run(theirs)
    for path in SHAPES:
        np.testing.assert_allclose(ours[path], theirs[path], rtol=1e-6, atol=1e-7)
    plain = run(AdamW(schedule))
    assert np.abs(plain["dense/kernel"] - ours["dense/kernel"]).max() > 1e-3
    np.testing.assert_array_equal(plain["dense/bias"], ours["dense/bias"])


def test_muon_is_keras_own_with_decay_of_kernels_alone():
    schedule = WarmupSchedule(0.01, 7, "cosine", 2)
    theirs = keras.optimizers.Muon(schedule, weight_decay=0.3, adam_weight_decay=0.3, exclude_layers=["head"])
    theirs.exclude_from_weight_decay(var_names=["bias"])
    ours, theirs = run(Muon(schedule, kernel_decay=0.3)), run(theirs)
    for path in SHAPES:
        np.testing.assert_allclose(ours[path], theirs[path], rtol=1e-5, atol=1e-6)


def test_muon_reads_a_convolutions_kernel_as_a_matrix():
    rng = np.random.default_rng(0)
    first, gradients = rng.normal(size=(3, 3, 4, 6)).astype("float32"), rng.normal(size=(5, 3, 3, 4, 6))
    result = []
    for shape in ((3, 3, 4, 6), (36, 6)):
        kernel = keras.Variable(first.reshape(shape), name="kernel")
        optimizer = Muon(0.01)
        for gradient in gradients:
            optimizer.apply([tf.constant(gradient.reshape(shape), "float32")], [kernel])
        result.append(keras.ops.convert_to_numpy(kernel).reshape(first.shape))
    np.testing.assert_allclose(*result, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [lambda **k: SGD(0.1, momentum=0.9, **k), lambda **k: AdamW(0.1, **k)])
def test_a_scale_is_a_factor_on_the_rate_and_on_the_decay_with_it(make):
    begin, _ = start()
    whole, half = run(make()), run(make(scales={"head/kernel": 0.0, "dense/bias": 0.5}, kernel_decay=0.2))
    np.testing.assert_array_equal(half["head/kernel"], begin["head/kernel"])
    moved = (half["dense/bias"] - begin["dense/bias"]) / (whole["dense/bias"] - begin["dense/bias"])
    np.testing.assert_allclose(moved, 0.5, rtol=1e-4)
    assert np.abs(half["dense/kernel"] - whole["dense/kernel"]).max() > 1e-3
    with pytest.raises(ValueError, match=r"Received: scales with \['heda/kernel'\]"):
        run(make(scales={"heda/kernel": 0.5}))


@pytest.mark.parametrize("ema, decays", [(0.999, (1 / 10, 2 / 11, 3 / 12, 4 / 13)), (0.2, (1 / 10, 2 / 11, 0.2, 0.2))])
def test_the_ema_warms_up_from_the_first_weights(ema, decays):
    optimizer = SGD(0.1, momentum=0.9, ema=ema)
    made, gradients = weights()
    mean = keras.ops.convert_to_numpy(made["dense/kernel"]).astype("float64")
    for decay, step in zip(decays, gradients):
        optimizer.apply([tf.constant(step[path]) for path in SHAPES], list(made.values()))
        mean = decay * mean + (1 - decay) * keras.ops.convert_to_numpy(made["dense/kernel"])
        np.testing.assert_allclose(optimizer.averages[0], mean, rtol=1e-5)


def test_the_ema_of_a_short_run_keeps_little_of_its_start():
    """Of 140 steps with ema=0.999, 87 % was the start before there was a warm-up."""
    decays = [float(ema_decay(0.999, step)) for step in range(140)]
    assert np.prod(decays) < 1e-9
    assert [float(ema_decay(0.999, step)) for step in (90, 10_000)] == pytest.approx([0.91, 0.999], rel=1e-6)


def test_the_ema_never_becomes_nan_or_infinite():
    optimizer = SGD(0.1, momentum=0.9, ema=0.8)
    made, gradients = weights()
    optimizer.apply([tf.constant(gradients[0][path]) for path in SHAPES], list(made.values()))
    mean = keras.ops.convert_to_numpy(optimizer.averages[0])
    made["dense/kernel"].assign(np.full((5, 3), np.inf, np.float32))
    optimizer.apply([tf.constant(gradients[0][path]) for path in SHAPES], list(made.values()))
    np.testing.assert_array_equal(optimizer.averages[0], mean)


OF_ALL_FIELDS = [SGD(0.1, 0.9, "bfloat16", kernel_decay=0.1, ema=0.9), AdamW(0.1, ema=0.5), Muon(0.1, ema=0.5)]


@pytest.mark.parametrize("optimizer", OF_ALL_FIELDS)
def test_it_is_rebuilt_from_its_config(optimizer):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert type(again) is type(optimizer) and again.get_config() == optimizer.get_config()


def test_steps_are_the_same_in_a_graph():
    plain = run(AdamW(0.1, kernel_decay=0.2, ema=0.9))
    optimizer = AdamW(0.1, kernel_decay=0.2, ema=0.9)
    made, gradients = weights()
    optimizer.build(list(made.values()))
    step = tf.function(lambda *values: optimizer.apply(list(values), list(made.values())))
    for gradient in gradients:
        step(*(tf.constant(gradient[path]) for path in SHAPES))
    for path in SHAPES:
        np.testing.assert_allclose(made[path], plain[path], rtol=1e-6)
