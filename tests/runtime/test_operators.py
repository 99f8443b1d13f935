import keras
import pytest
from keras import ops

import keras_vit
from keras_vit.export.serving import make_serving
from keras_vit.export.tflite.conversion import converted, exported
from keras_vit.runtime.operators import count_operators

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
    "change, unsupported",
    [
        (of_five_axes, "TRANSPOSE: a tensor of 5 axes"),
        (by_int64, "CAST: it turns float32 into int64"),
        (without_an_axis, "STRIDED_SLICE: it drops an axis"),
        (of_a_rare_operator, "CUMSUM: it is not among the operators of the delegate"),
    ],
)
def test_operators_that_a_delegate_does_not_support_are_named(change, unsupported):
    found = count_operators(converted(model_of(change)))[1]
    assert unsupported in found["npu" if "CUMSUM" in unsupported else "gpu"]


def test_supported_operators_pass():
    counts, unsupported = count_operators(converted(model_of(plain)))
    assert unsupported["webgpu"] == [] and unsupported["gpu"] == ["CAST: it turns uint8 into float32"]
    assert counts["FULLY_CONNECTED"] == counts["SOFTMAX"] == counts["CAST"] == 1
    assert list(counts) == sorted(counts)


@pytest.mark.parametrize("mode", ["float32", "float16", "int8"])
def test_a_gpu_supports_all_operators_of_our_models(mode):
    variant = keras_vit.Variant(patch_size=2, hidden_size=64, num_layers=1, num_heads=2, mlp_dim=72)
    model = keras_vit.build(variant, input_shape=(4, 6, 3), classes=5)
    serving = make_serving(model, CLASSES, extra_outputs=("features", "rollout"), input_type="float32")
    counts, unsupported = count_operators(exported(serving, mode))
    assert unsupported["gpu"] == unsupported["webgpu"] == []
    assert counts["SOFTMAX"] == 2 and counts["BATCH_MATMUL"] >= 2  # attention and head; scores and values
    assert not [name for name in counts if name.startswith("CUSTOM")]


def test_each_operator_is_counted():
    counts, _ = count_operators(converted(model_of(lambda x: ops.reshape(2.0 * ops.sqrt(x + 1), (-1, 36)))))
    assert (counts["SQRT"], counts["ADD"], counts["MUL"]) == (1, 1, 1)
