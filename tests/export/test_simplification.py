"""TFLite files have fewer operators than the converter writes, and compute what the model does."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_vit
from keras_vit.export.tflite.conversion import converted
from keras_vit.export.tflite.quantization import run_tflite
from keras_vit.runtime.operators import count_operators

RANDOM = np.random.default_rng(0)
SHAPE = (8, 12, 3)
PLAIN = keras_vit.Variant(patch_size=4, hidden_size=64, num_layers=2, num_heads=2, mlp_dim=128)


def with_random_weights(model):
    model.set_weights([value + RANDOM.normal(0, 0.1, value.shape) for value in model.get_weights()])
    return model


def vit(**arguments):
    return keras_vit.build(PLAIN, input_shape=SHAPE, classes=5, classifier_activation=None, **arguments)


def shared():
    """A dense layer without a bias that is called twice, behind a norm that something else reads, too."""
    images = keras.Input(SHAPE)
    norm = keras.layers.LayerNormalization()(ops.reshape(images, (-1, 8, 36)))
    dense = keras.layers.Dense(36, use_bias=False)
    x = dense(3.0 * dense(norm)) + norm
    return keras.Model(images, keras.layers.Dense(5)(keras.layers.Dense(36, activation="relu")(x)[:, 0:2]))


def difference(file, model, images):
    expected = model.predict(images, verbose=0).reshape(len(images), -1)
    return abs(run_tflite(file, images[:, None]) - expected).max() / abs(expected).max()


@pytest.mark.parametrize(
    "model",
    [vit, lambda: with_random_weights(vit(pooling="gap")), lambda: with_random_weights(shared())],
    ids=["as built, without biases", "random weights", "shared layer"],
)
def test_a_file_computes_what_the_model_does(model):
    model, images = model(), RANDOM.normal(size=(5, *SHAPE)).astype("float32")
    for head in [layer for layer in model.layers if layer.name == "head"]:
        head.kernel.assign(RANDOM.normal(0, 0.3, head.kernel.shape))
    # Rounding in another order; 16 and 8 bits have 11 and 8 digits.
    for mode, most in (("float32", 1e-5), ("float16", 5e-3), ("int8", 0.05)):
        assert difference(converted(model, mode), model, images) < most


def test_a_block_has_no_operator_too_many():
    model = with_random_weights(vit())
    files = {mode: count_operators(converted(model, mode))[0] for mode in ("float32", "float16", "int8")}
    shorter = count_operators(
        converted(
            with_random_weights(
                keras_vit.build(
                    keras_vit.Variant(4, 64, 1, 2, 128), input_shape=SHAPE, classes=5, classifier_activation=None
                )
            )
        )
    )[0]
    block = {name: count - shorter.get(name, 0) for name, count in files["float32"].items()}
    assert {name: count for name, count in block.items() if count} == {
        "ADD": 4,  # two residual connections, and two epsilons
        "BATCH_MATMUL": 2,
        "FULLY_CONNECTED": 6,
        "GELU": 1,
        "MEAN": 4,
        "MUL": 2,
        "RESHAPE": 4,
        "RSQRT": 2,
        "SOFTMAX": 1,
        "SQUARED_DIFFERENCE": 2,
        "SUB": 2,
        "TRANSPOSE": 4,
    }
    assert files["int8"] == files["float32"] == {k: n for k, n in files["float16"].items() if k != "DEQUANTIZE"}


def test_norms_keep_the_scale_that_smoothing_moved_into_them():
    model = with_random_weights(vit())
    folded, kept = (count_operators(converted(model, fold_norms=fold))[0] for fold in (True, False))
    # Of five norms, two have a reader that is no layer: the first of the last block is sliced, the last is reshaped.
    assert kept["MUL"] - folded["MUL"] == kept["ADD"] - folded["ADD"] == 3
