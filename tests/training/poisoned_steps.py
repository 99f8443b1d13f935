"""Trains on good batches, then on one that is not finite: python poisoned_steps.py one|two CASE,CASE...

"two" is MirroredStrategy on two logical CPU devices. Prints, as JSON, {case: names of the variables that the bad batch
changed}, and under "good" how many a good batch changes afterwards. Images of weight 0 are bad, too.
"""

import contextlib
import json
import sys

import keras
import numpy as np
import tensorflow as tf

import keras_vit
from keras_vit.training.optimizers import SGD, AdamW
from keras_vit.training.trainer import make_trainer

PER_WEIGHT = {"kernel_decay": 0.1, "ema": 0.9}
# {case: (function that makes an optimizer, parts of a batch)}
CASES = {
    "sgd": (lambda: SGD(0.1, 0.9, **PER_WEIGHT), 1),
    "adamw": (lambda: AdamW(1e-2, **PER_WEIGHT), 2),
    "scaled": (lambda: keras.optimizers.LossScaleOptimizer(AdamW(1e-2, **PER_WEIGHT), initial_scale=2.0**10), 2),
}
VARIANT = keras_vit.Variant(patch_size=4, hidden_size=8, num_layers=1, num_heads=2, mlp_dim=12)
CLASSES, BATCH = 3, 8
POISONS = "images", "targets", "weights"


def batches(steps, poison=None):
    """Returns batches of noise; the images or the targets of `poison` hold a value that is not finite, or weights 0."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(steps, BATCH, 8, 8, 3)).astype("float32")
    targets = rng.dirichlet(np.ones(CLASSES), (steps, BATCH)).astype("float32")
    if poison in ("images", "weights"):
        images[0, BATCH - 1, 0, 0, 0] = np.nan
    if poison == "targets":
        targets[0, 0, 0] = np.inf
    return images, targets, np.full((steps, BATCH), poison != "weights", "float32")


def changed(make, parts, strategy=None):
    """Returns the names of the variables that bad batches change, {poison: names}, and how many a good one changes."""
    keras.utils.set_random_seed(0)
    with strategy.scope() if strategy else contextlib.nullcontext():
        made = make_trainer(
            keras_vit.build(VARIANT, input_shape=(8, 8, 3), classes=CLASSES), clip_norm=1.0, accumulation=parts
        )
        optimizer = make()
        made.compile(optimizer)
        optimizer.build(made.trainable_variables)

    def after(data):
        data = tf.data.Dataset.from_tensor_slices(data)
        data = strategy.experimental_distribute_dataset(data) if strategy else data
        made.fit(data, steps_per_epoch=2, verbose=0, shuffle=False)
        if keras.backend.backend() == "jax":
            made.jax_state_sync()
        return [(one.path, keras.ops.convert_to_numpy(one)) for one in made.weights + optimizer.variables]

    def differing(one, other):
        return [name for (name, a), (_, b) in zip(one, other, strict=True) if not np.array_equal(a, b)]

    states = [after(batches(2))]
    states += [after(tuple(np.repeat(part, 2, 0) for part in batches(1, poison))) for poison in POISONS]
    result = {poison: differing(*pair) for poison, pair in zip(POISONS, zip(states, states[1:]))}
    return result | {"good": len(differing(states[-1], after(batches(2))))}


if __name__ == "__main__":
    strategy = None
    if sys.argv[1] == "two":
        two = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
        strategy = tf.distribute.MirroredStrategy([device.name for device in tf.config.list_logical_devices("CPU")])
    print(json.dumps({case: changed(*CASES[case], strategy) for case in sys.argv[2].split(",")}))
