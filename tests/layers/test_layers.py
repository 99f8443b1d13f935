"""Properties of every layer, in one table; the other files of this folder test what each computes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vit import layers

# The layer with no argument at its default, and the shapes of its inputs; sizes are primes where they may be.
TABLE = {
    "Patches": (lambda **k: layers.Patches(3, **k), [(15, 21, 5)]),
    "Patches dropping": (lambda **k: layers.Patches(3, drop_remainder=True, **k), [(17, 22, 5)]),
    "PatchEncoder": (lambda **k: layers.PatchEncoder(7, dropout=0.5, **k), [(11, 13)]),
    "PatchEncoder without": (lambda **k: layers.PatchEncoder(7, class_token=False, **k), [(11, 13)]),
    "PatchEncoder distilled": (lambda **k: layers.PatchEncoder(7, distillation_token=True, **k), [(11, 13)]),
    "PatchEncoder with registers": (lambda **k: layers.PatchEncoder(8, register_tokens=2, **k), [(11, 13)]),
    "PatchEncoder in 2-D": (
        lambda **k: layers.PatchEncoder(8, positions="learned-2d", grid=(3, 5), register_tokens=2, **k),
        [(15, 13)],
    ),
    "Positions": (lambda **k: layers.Positions("learned", (3, 5), **k), [(17, 7)]),
    "Positions in 2-D": (lambda **k: layers.Positions("learned-2d", (3, 5), **k), [(17, 8)]),
    "Positions of sines": (lambda **k: layers.Positions("sincos-2d", (3, 5), **k), [(17, 8)]),
    "TokenMap": (lambda **k: layers.TokenMap((3, 5), **k), [(17, 13)]),
    "StdConv": (lambda **k: layers.StdConv(7, 3, **k), [(11, 13, 5)]),
    "StdConv strided": (lambda **k: layers.StdConv(7, 3, 2, "symmetric", 1e-8, True, **k), [(11, 14, 5)]),
    "GroupNorm": (lambda **k: layers.GroupNorm(1e-5, "zeros", **k), [(5, 7, 96)]),
    "Stem": (lambda **k: layers.Stem(32, **k), [(11, 14, 3)]),
    "Stem preactivated": (lambda **k: layers.Stem(32, True, 1e-5, 1e-10, True, **k), [(11, 14, 3)]),
    "Bottleneck": (lambda **k: layers.Bottleneck(128, **k), [(5, 7, 128)]),
    "Bottleneck projected": (lambda **k: layers.Bottleneck(128, 2, **k), [(5, 7, 64)]),
    "Bottleneck preactivated": (lambda **k: layers.Bottleneck(128, 2, True, 1e-5, 1e-10, True, **k), [(5, 7, 64)]),
    "ClassToken": (lambda **k: layers.ClassToken(**k), [(11, 13)]),
    "ClassAndMean": (lambda **k: layers.ClassAndMean(3, **k), [(11, 13)]),
    "ClassAndDistillation": (lambda **k: layers.ClassAndDistillation(**k), [(11, 13)]),
    "DistilledHead": (lambda **k: layers.DistilledHead(5, **k), [(14,)]),
    "AttentionPooling": (lambda **k: layers.AttentionPooling(2, 17, gelu="erf", **k), [(11, 14)]),
    "Attention": (lambda **k: layers.Attention(2, dropout=0.5, **k), [(11, 14), (5, 14)]),
    "MLP": (lambda **k: layers.MLP(17, dropout=0.5, gelu="erf", **k), [(11, 13)]),
    "RelativeAttention": (lambda **k: layers.RelativeAttention(2, dropout=0.5, **k), [(11, 14)] * 2),
    "WindowAttention": (lambda **k: layers.WindowAttention(2, 0.5, (3, 5), (2, 2), **k), [(17, 14)] * 2),
    "Attention biased": (lambda **k: layers.Attention(2, qkv_bias="qv", **k), [(11, 14), (5, 14)]),
    "RotaryAttention": (lambda **k: layers.RotaryAttention(2, 0.5, (3, 5), 50.0, **k), [(17, 16)] * 2),
    "RotaryAttention counted": (
        lambda **k: layers.RotaryAttention(2, 0.5, (3, 5), 1e4, (7, 11), 1, True, **k),
        [(17, 16)] * 2,
    ),
    "CausalAttention": (lambda **k: layers.CausalAttention(2, dropout=0.5, **k), [(11, 14)] * 2),
    "BiasAttention": (lambda **k: layers.BiasAttention(2, 0.5, (3, 5), **k), [(16, 14)] * 2),
    "SwiGLU": (lambda **k: layers.SwiGLU(17, dropout=0.5, **k), [(11, 13)]),
    "SwiGLU normalized": (lambda **k: layers.SwiGLU(17, norm_epsilon=1e-5, **k), [(11, 13)]),
    "MLP of CLIP": (lambda **k: layers.MLP(17, gelu="quick", **k), [(11, 13)]),
    "TextToken": (lambda **k: layers.TextToken(**k), [(11, 13), (11,)]),
    "PatchMean": (lambda **k: layers.PatchMean(2, **k), [(11, 13)]),
    "LayerScale": (lambda **k: layers.LayerScale(0.1, **k), [(11, 13)]),
    "TransformerBlock": (lambda **k: layers.TransformerBlock(2, 17, 0.5, 0.25, 0.125, "erf", **k), [(11, 14)]),
    "TransformerBlock scaled": (
        lambda **k: layers.TransformerBlock(2, 17, layer_scale=0.1, swiglu=True, **k),
        [(11, 14)],
    ),
    "RelativeBlock": (lambda **k: layers.RelativeBlock(2, 17, 0.5, 0.25, 0.125, "erf", **k), [(11, 14)]),
    "RotaryBlock": (lambda **k: layers.RotaryBlock(2, 17, (3, 5), 1e4, (7, 11), 1, True, **k), [(17, 16)]),
    "CausalBlock": (lambda **k: layers.CausalBlock(2, 17, 0.5, 0.25, 0.125, "erf", **k), [(11, 14)]),
    "BiasBlock": (lambda **k: layers.BiasBlock(2, 17, (3, 5), qkv_bias="none", **k), [(16, 14)]),
    "WindowBlock": (
        lambda **k: layers.WindowBlock(2, 17, (3, 5), (2, 2), dropout=0.5, attention_dropout=0.25, **k),
        [(17, 14)],
    ),
}
BATCH = 3
SUBLAYERS = ("projection", "dropout", "attention", "norm", "mlp", "query", "key", "value", "out", "hidden", "mlp_norm")
SUBLAYERS += ("conv", "conv1", "conv2", "conv3", "norm1", "norm2", "norm3", "shortcut", "shortcut_norm")
SUBLAYERS += ("positions", "distillation", "attention_norm", "attention_dropout", "hidden_dropout", "out_dropout")


@pytest.fixture(params=TABLE)
def case(request):
    keras.utils.set_random_seed(0)
    make, shapes = TABLE[request.param]
    layer = make(name="layer")
    inputs = [keras.random.normal((BATCH, *shape)) for shape in shapes]
    layer(*inputs)
    # No weight stays at 0 or 1, so that none can be forgotten unseen.
    layer.set_weights([np.random.default_rng(0).normal(0, 0.5, weight.shape) for weight in layer.weights])
    return make, layer, inputs


def inner(layer):
    """Returns a layer and those inside it."""
    result = [getattr(layer, name) for name in SUBLAYERS if isinstance(getattr(layer, name, None), keras.Layer)]
    return [
        layer,
        *getattr(layer, "skips", ()),
        *getattr(layer, "scales", ()),
        *(below for sublayer in result for below in inner(sublayer)),
    ]


def test_the_table_holds_every_layer():
    others = {"NamedNumbers"}  # it returns a dictionary: test_named_numbers.py
    assert {name.split()[0] for name in TABLE} == set(layers.__all__) - others


def test_registered_under_the_packages_name(case):
    cls = type(case[1])
    assert keras.saving.get_registered_name(cls) == f"keras_vit>{cls.__name__}"


def test_rebuilt_from_its_config(case):
    _, layer, inputs = case
    config = layer.get_config()
    rebuilt = type(layer).from_config(config)
    assert rebuilt.get_config() == config
    rebuilt(*inputs)
    rebuilt.set_weights(layer.get_weights())
    np.testing.assert_array_equal(rebuilt(*inputs), layer(*inputs))
    rates = [[part.rate for part in inner(one) if isinstance(part, keras.layers.Dropout)] for one in (layer, rebuilt)]
    assert rates[0] == rates[1]


def test_the_output_has_the_shape_that_was_computed_before(case):
    _, layer, inputs = case
    computed = layer.compute_output_shape(*(tuple(x.shape) for x in inputs))
    assert tuple(computed) == tuple(layer(*inputs).shape)
    symbolic = layer(*(keras.KerasTensor((None, *x.shape[1:])) for x in inputs))
    assert symbolic.shape == (None, *computed[1:])


def test_saved_and_loaded(case, tmp_path):
    _, layer, inputs = case
    symbolic = [keras.Input(x.shape[1:]) for x in inputs]
    model = keras.Model(symbolic, layer(*symbolic))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.layers[-1]) is type(layer)
    np.testing.assert_array_equal(loaded(inputs), layer(*inputs))


@pytest.mark.parametrize("policy, compute", [("mixed_bfloat16", "bfloat16"), ("mixed_float16", "float16")])
def test_mixed_precision(case, policy, compute):
    make, layer, inputs = case
    mixed = make(dtype=policy)
    output = mixed(*inputs)
    assert output.dtype == compute
    assert np.isfinite(keras.ops.convert_to_numpy(keras.ops.cast(output, "float32"))).all()
    assert {weight.dtype for weight in mixed.weights} <= {"float32"}
    assert len(mixed.weights) == len(layer.weights)
    assert {part.dtype_policy.name for part in inner(mixed)} == {policy}


def test_the_gradient_reaches_every_weight(case):
    _, layer, inputs = case
    if not layer.weights:
        inputs = [tf.Variable(inputs[0]), *inputs[1:]]
    with tf.GradientTape() as tape:
        output = layer(*inputs)
        loss = keras.ops.sum(output * keras.random.normal(output.shape, seed=1))
    watched = [weight.value for weight in layer.trainable_weights] or inputs[:1]
    assert len(layer.trainable_weights) == len(layer.weights)
    for weight, gradient in zip(layer.weights or inputs[:1], tape.gradient(loss, watched)):
        assert gradient is not None, weight.path
        if not getattr(weight, "path", "").endswith("key/bias"):  # moves all scores of a row alike: softmax hides it
            assert np.abs(keras.ops.convert_to_numpy(gradient)).max() > 1e-4, weight.path


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("batch", [None, 1])
def test_no_tensor_has_more_than_four_axes(case, training, batch):
    """GPU delegates of phones refuse more."""
    _, layer, inputs = case
    arguments = {"training": training} if "training" in layer._call_signature.parameters else {}
    traced = tf.function(lambda *x: layer(*x, **arguments)).get_concrete_function(
        *(tf.TensorSpec((batch, *x.shape[1:])) for x in inputs)
    )
    operations = traced.graph.get_operations()
    assert not [operation.type for operation in operations if "Call" in operation.type]  # would hide others
    ranks = {output.name: output.shape.rank for operation in operations for output in operation.outputs}
    assert len(ranks) > len(inputs)
    assert {name: rank for name, rank in ranks.items() if rank is None or rank > 4} == {}
