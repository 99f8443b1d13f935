import keras
import pytest
from keras import ops

import keras_vit
from keras_vit.export.serving import serving
from keras_vit.export.tflite.conversion import converted
from keras_vit.runtime.operators import operators

CLASSES = tuple("abcde")


def model_of(change):
    """Returns a classifier of (2, 6, 3) images with something in it."""
    images = keras.Input((2, 6, 3), dtype="uint8", name="images")
    x = change(ops.cast(images, "float32"))
    return keras.Model(images, {"probabilities": keras.layers.Dense(5, activation="softmax")(x)})


def of_five_axes(x):
    x = ops.transpose(ops.reshape(x, (-1, 2, 2, 3, 3)), (0, 2, 1, 4, 3))
    return ops.reshape(x, (-1, 36))


def by_int64(x):
    return ops.reshape(ops.cast(ops.cast(x / 3, "int64"), "float32"), (-1, 36))


def without_an_axis(x):
    return ops.reshape(x, (-1, 12, 3))[:, 0]


def of_a_rare_operator(x):
    return ops.reshape(ops.cumsum(x, axis=1), (-1, 36))


def plain(x):
    return ops.reshape(ops.reshape(x, (-1, 12, 3))[:, 0:1], (-1, 3))


@pytest.mark.parametrize(
    "change, refused",
    [
        (of_five_axes, "TRANSPOSE: a tensor of 5 axes"),
        (by_int64, "CAST: a tensor of int64"),
        (without_an_axis, "STRIDED_SLICE: drops an axis"),
        (of_a_rare_operator, "CUMSUM: not among the operators of the delegate"),
    ],
)
def test_what_a_gpu_refuses_is_named(change, refused):
    assert refused in operators(converted(model_of(change)))[1]


def test_nothing_is_refused_of_what_it_takes():
    kinds, refused = operators(converted(model_of(plain)))
    assert refused == []
    assert kinds["FULLY_CONNECTED"] == kinds["SOFTMAX"] == kinds["CAST"] == 1
    assert list(kinds) == sorted(kinds)


@pytest.mark.parametrize("mode", ["float32", "float16", "int8"])
def test_nothing_is_refused_of_ours(mode):
    variant = keras_vit.Variant(patch_size=2, hidden_size=64, num_layers=1, num_heads=2, mlp_dim=72)
    model = keras_vit.build(variant, input_shape=(4, 6, 3), classes=5)
    kinds, refused = operators(converted(serving(model, CLASSES, also=("features", "rollout")).model, mode))
    assert refused == []
    assert kinds["SOFTMAX"] == 2 and kinds["BATCH_MATMUL"] >= 2  # attention and head; scores and values
    assert not [name for name in kinds if name.startswith("CUSTOM")]


def test_each_operator_is_counted():
    kinds, _ = operators(converted(model_of(lambda x: ops.reshape(2.0 * ops.sqrt(x + 1), (-1, 36)))))
    assert (kinds["SQRT"], kinds["ADD"], kinds["MUL"]) == (1, 1, 1)
