import dataclasses
import json
import pathlib
import runpy

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_vit
from keras_vit.evaluation.cost import cost, pretraining_exaflops
from keras_vit.evaluation.cost_rules import Work
from keras_vit.models.config import VARIANTS

ROOT = pathlib.Path(__file__).parents[2]
TINY = keras_vit.Variant(patch_size=4, hidden_size=12, num_layers=2, num_heads=3, mlp_dim=20)
SHAPE = (12, 20, 3)  # 15 patches of 48 numbers, and the class token: 16 tokens

# By hand: the projection, and in each of 2 blocks the queries, keys, values and the output, and the MLP; the head. The
# head reads the class token alone, so that the last block computes keys and values of all tokens, and the rest of one.
DENSE = 15 * 48 * 12 + 16 * (4 * 12 * 12 + 2 * 12 * 20) + 16 * 2 * 12 * 12 + 2 * 12 * 12 + 2 * 12 * 20 + 12 * 7
PRODUCTS = 2 * (16 * 16 + 16) * 12


@pytest.fixture(scope="module")
def tiny():
    return keras_vit.build(TINY, input_shape=SHAPE, classes=7)


@pytest.fixture(scope="module")
def result(tiny):
    return cost(tiny)


def row(result, kind):
    return next(row for row in result.rows if row.kind == kind)


def sequential(*parts, shape=(9, 7, 4)):
    return keras.Sequential([keras.Input(shape), *parts])


def test_a_vision_transformer_by_hand(result, tiny):
    assert row(result, "Dense").multiply_accumulates == DENSE
    assert row(result, "Dense").layers == 1 + 2 * 6 + 1
    assert row(result, "Attention").multiply_accumulates == PRODUCTS
    assert result.multiply_accumulates == DENSE + PRODUCTS
    assert result.unknown == ()
    assert result.input_shape == SHAPE


@pytest.mark.parametrize(
    "kind, options, pairs",
    [
        # Of the first block and, for the class token alone, of the last. Windows at the border count as whole: 2 x 3.
        ("WindowAttention", {"attention_window": 2}, 16 + 6 * 4 * (1 + 4) + 16),
        ("WindowAttention", {"attention_window": 5}, 16 * 16 + 16),
        ("WindowAttention", {"attention": "axial"}, 2 * (16 + 3 * 5 * (1 + 5)) + 16 + 5 * 3 * (1 + 3) + 16),
        # A query goes with 31 distances, and gathers.
        ("RelativeAttention", {"positions": "relative"}, 16 * 16 + 16 * 31 / 2 + 16 + 31 / 2),
        ("RotaryAttention", {"rotary": keras_vit.Rotary()}, 16 * 16 + 16),  # to turn a query is no sum of products
        ("BiasAttention", {"relative_bias": True}, 16 * 16 + 16),
        ("BiasAttention", {"relative_bias": True, "pooling": "gap", "class_token": True}, 2 * 16 * 16),
    ],
    ids=["windows", "one window", "axial", "relative", "rotary", "bias", "bias, all read"],
)
def test_other_attention_of_ours_by_hand(kind, options, pairs):
    result = cost(keras_vit.build(dataclasses.replace(TINY, **options), input_shape=SHAPE, classes=7))
    assert result.unknown == ()
    assert row(result, kind).multiply_accumulates == 2 * pairs * 12


def test_every_weight_is_counted_once(result, tiny):
    assert result.parameters == tiny.count_params()
    assert row(result, "LayerNormalization").parameters == 5 * 2 * 12
    assert row(result, "PatchEncoder").parameters == 12 + 16 * 12
    assert row(result, "Attention").parameters == 0


def test_activations_by_hand(result):
    assert row(result, "LayerNormalization").activations == 4 * (3 * 16 + 2) * 12
    assert row(result, "Attention").activations == 4 * 3 * (16 * 16 + 16)
    assert row(result, "Dense").activations == 4 * (15 * 12 + 16 * (5 * 12 + 20) + 16 * 2 * 12 + 3 * 12 + 20 + 7)
    assert "Dropout" not in [row.kind for row in result.rows]  # what it gives is what it got
    assert result.largest == 4 * (12 * 20 * 3 + 15 * 48)  # the image and its patches


def test_the_attention_holds_its_probabilities():
    """29 tokens in and out, and 3 heads of 29 x 29."""
    result = cost(keras_vit.build(TINY, input_shape=(16, 28, 1), classes=7))
    assert result.largest == 4 * (2 * 29 * 12 + 3 * 29 * 29)


def test_half_precision_takes_half_the_memory(result):
    with_policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = cost(keras_vit.build(TINY, input_shape=SHAPE, classes=7))
    finally:
        keras.config.set_dtype_policy(with_policy)
    for kind in ("LayerNormalization", "Attention"):
        assert row(half, kind).activations * 2 == row(result, kind).activations
    assert half.multiply_accumulates == result.multiply_accumulates


class Subclassed(keras.Model):
    """Holds a model as a user may; makes its head when it is built."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def build(self, shape):
        self.head = layers.Dense(5)
        self.head.build((None, 7))

    def call(self, images):
        return self.head(self.model(images))


@pytest.mark.parametrize("around", ["functional", "sequential", "subclassed"])
def test_inside_another_model(result, tiny, around):
    if around == "subclassed":
        model = Subclassed(tiny)
        again = cost(model, SHAPE)
    else:
        images = keras.Input(SHAPE)
        head = layers.Dense(5)
        model = (
            keras.Model(images, head(tiny(images))) if around == "functional" else sequential(tiny, head, shape=SHAPE)
        )
        again = cost(model)
    assert again.multiply_accumulates == result.multiply_accumulates + 7 * 5
    assert again.parameters == result.parameters + 7 * 5 + 5
    assert again.unknown == ()


def test_counting_changes_nothing(tiny):
    images = np.random.default_rng(0).random((2, *SHAPE), "float32")
    before = tiny.predict_on_batch(images)
    own = [dict(vars(layer)) for layer in tiny._flatten_layers()]
    cost(tiny)
    np.testing.assert_array_equal(tiny.predict_on_batch(images), before)
    assert ["call" in names for names in own] == ["call" in vars(layer) for layer in tiny._flatten_layers()]


# Products by hand, on a map of 9 x 7 pixels and 4 channels.
@pytest.mark.parametrize(
    "part, products",
    [
        (layers.Conv2D(5, (3, 2), padding="same"), 9 * 7 * 5 * 3 * 2 * 4),
        (layers.Conv2D(6, 3, strides=2, groups=2), 4 * 3 * 6 * 3 * 3 * 2),
        (layers.Conv2D(5, 2, dilation_rate=2), 7 * 5 * 5 * 2 * 2 * 4),
        (layers.Conv2DTranspose(5, 3, strides=2, padding="same"), 9 * 7 * 4 * 3 * 3 * 5),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), 7 * 5 * 8 * 9),
        (layers.SeparableConv2D(5, 3, strides=2, depth_multiplier=2), 4 * 3 * (8 * 9 + 8 * 5)),
        (layers.Dense(5), 9 * 7 * 4 * 5),
        (layers.EinsumDense("abcd,dc->abd", output_shape=(9, 4)), 9 * 7 * 4),
        (layers.EinsumDense("abcd,def->abcef", output_shape=(9, 7, 2, 3)), 9 * 7 * 4 * 2 * 3),
        (layers.EinsumDense("...d,de->...e", output_shape=5), 9 * 7 * 4 * 5),
        (layers.BatchNormalization(), 0),
        (layers.GroupNormalization(2), 0),
        (layers.AveragePooling2D(2), 0),
        (layers.PReLU(), 0),
        (keras_vit.layers.StdConv(5, 3, 2), 5 * 4 * 5 * 9 * 4),
        (keras_vit.layers.StdConv(5, 3, 2, "symmetric"), 5 * 4 * 5 * 9 * 4),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_layers_by_hand(part, products):
    result = cost(sequential(part))
    assert result.multiply_accumulates == products
    assert result.unknown == ()


def test_layers_of_sequences_by_hand():
    result = cost(sequential(layers.Conv1D(5, 3), layers.SeparableConv1D(2, 3), shape=(9, 4)))
    assert result.multiply_accumulates == 7 * 5 * 3 * 4 + 5 * (5 * 3 + 5 * 2)
    words = keras.Sequential([keras.Input((11,), dtype="int32"), layers.Embedding(30, 4)])
    assert [cost(words).multiply_accumulates, cost(words).parameters] == [0, 120]


@pytest.mark.parametrize("by_name", [False, True])
def test_keras_attentions_by_hand(by_name):
    queries, tokens = keras.Input((5, 6)), keras.Input((7, 6))
    attention = layers.MultiHeadAttention(3, 4)
    x = attention(value=tokens, query=queries) if by_name else attention(queries, tokens)
    result = cost(keras.Model([queries, tokens], x))
    assert row(result, "MultiHeadAttention").multiply_accumulates == 3 * 5 * 7 * 2 * 4
    assert row(result, "EinsumDense").multiply_accumulates == 3 * (5 * 6 * 4 + 2 * 7 * 6 * 4 + 5 * 4 * 6)
    assert row(result, "MultiHeadAttention").activations == 4 * 3 * 5 * 7


def test_attention_along_one_axis():
    x = keras.Input((5, 7, 6))
    result = cost(keras.Model(x, layers.MultiHeadAttention(3, 4, attention_axes=2)(x, x)))
    assert row(result, "MultiHeadAttention").multiply_accumulates == 5 * 3 * 7 * 7 * 2 * 4


def test_other_attentions_by_hand():
    queries, tokens = keras.Input((5, 6)), keras.Input((7, 6))
    grouped = layers.GroupQueryAttention(4, 6, 3)(queries, tokens)
    result = cost(keras.Model([queries, tokens], [grouped, layers.Attention()([queries, tokens])]))
    assert row(result, "GroupedQueryAttention").multiply_accumulates == 2 * 6 * 5 * 7 * 4
    assert row(result, "Attention").multiply_accumulates == 2 * 5 * 7 * 6


def test_a_shared_layer_multiplies_each_time_and_weighs_once():
    x = keras.Input((4,))
    dense = layers.Dense(4)
    result = cost(keras.Model(x, dense(dense(x))))
    assert (result.multiply_accumulates, result.parameters, row(result, "Dense").layers) == (32, 20, 1)


def test_one_image_of_a_model_with_a_batch_of_its_own():
    images = keras.Input((9, 7, 4), batch_size=6)
    result = cost(keras.Model(images, layers.Dense(5)(images)))
    assert result.multiply_accumulates == 9 * 7 * 4 * 5
    assert result.activations == 4 * 9 * 7 * 5
    assert result.largest == 4 * 9 * 7 * (4 + 5)


def test_a_model_that_is_not_built_yet():
    assert cost(keras.Sequential([layers.Dense(5)]), (9, 7, 4)).multiply_accumulates == 9 * 7 * 4 * 5


def test_named_inputs():
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    x = layers.Concatenate()([layers.Dense(5)(a), b])
    assert cost(keras.Model({"a": a, "b": b}, layers.Dense(2)(x))).multiply_accumulates == 4 * 5 + 8 * 2


class Doubling(layers.Layer):
    """Multiplies tokens with a matrix of its own."""

    def build(self, shape):
        self.matrix = self.add_weight(shape=(shape[-1], shape[-1]), name="matrix")

    def call(self, x):
        return ops.matmul(x, self.matrix)


class OtherDense(layers.Dense):
    def call(self, x):
        return ops.matmul(super().call(x), ops.transpose(super().call(x), (0, 2, 1)))


def test_a_layer_without_a_rule_is_told():
    model = sequential(Doubling(), layers.LSTM(3), layers.Dense(2), shape=(5, 4))
    result = cost(model)
    assert result.unknown == ("Doubling", "LSTM", "LSTMCell")
    assert "no rule: Doubling, LSTM, LSTMCell" in result.text()
    assert (result.multiply_accumulates, result.parameters) == (6, model.count_params())
    mine = cost(model, rules={Doubling: lambda layer, inputs, outputs: Work(inputs[0][1] * layer.matrix.shape[0] ** 2)})
    assert (mine.unknown, mine.multiply_accumulates) == (("LSTM", "LSTMCell"), 6 + 5 * 16)


def test_a_class_that_computes_otherwise_has_no_rule_of_its_base():
    assert cost(sequential(OtherDense(3), shape=(5, 4))).unknown == ("OtherDense",)


def test_a_product_between_layers_is_told():
    x = keras.Input((5, 4))
    assert cost(keras.Model(x, ops.matmul(x, ops.transpose(x, (0, 2, 1))))).unknown == ("Matmul",)


def test_the_shape_has_to_be_known(tiny):
    images = keras.Input((None, None, 3))
    open_model = keras.Model(images, layers.Conv2D(5, 3)(images))
    with pytest.raises(ValueError, match=r"input_shape=\(height, width, channels\).*input shape \(None, None, 3\)"):
        cost(open_model)
    assert cost(open_model, (9, 7, 3)).multiply_accumulates == 7 * 5 * 5 * 27
    with pytest.raises(ValueError, match="input shape unknown"):
        cost(Subclassed(tiny))
    with pytest.raises(ValueError, match=r"does not accept images of shape \(13, 20, 3\)"):
        cost(tiny, (13, 20, 3))


def test_the_table(result):
    lines = result.text().splitlines()
    assert lines[0].split() == ["layer", "number", "parameters", "multiply-accumulates", "activations"]
    assert [line.split()[0] for line in lines[1:3]] == ["Dense", "Attention"]
    assert lines[-2].split()[:3] == ["total", str(result.total.layers), f"{result.parameters:,}"]
    assert len({len(line) for line in lines[:-1]}) == 1


def test_exaflops():
    """The paper's ViT-B/16, 224, from timm's rounded 17.58 GMACs."""
    assert pretraining_exaflops(17.58e9, 7 * 303e6) == pytest.approx(223.7, abs=0.05)


# The GMACs of timm's benchmark-infer-amp-nchw-pt240-cu124-rtx4090.csv. It counts five operations for each number that a
# norm gives and four for each weight that is standardized, too, and all tokens of the last block.
TIMM = {
    ("ViT-Ti/16", 224): 1.26,
    ("ViT-S/32", 384): 3.45,
    ("R+ViT-Ti/16", 384): 1.34,
    ("R26+ViT-S/32", 384): 10.43,
    ("BiT-R50x1", 224): 4.23,
}

# As in test_variants: no weight is made, in a Python of its own.
COUNT = """
import json, resource, runpy, sys, keras, keras_vit
from keras_vit.evaluation.cost import cost
from keras_vit.layers.initializers import weights_to_come

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before, timm = peak(), []
for name, side in json.loads(sys.argv[2]):
    with keras.StatelessScope(initialize_variables=False), weights_to_come():
        model = keras_vit.build(name, input_shape=(side, side, 3))
        result = cost(keras.Model(model.input, model.output))
    rows = {row.kind: row for row in result.rows}
    normed = sum(rows[kind].activations // 4 for kind in ("LayerNormalization", "GroupNorm") if kind in rows)
    standardized = rows["StdConv"].parameters if "StdConv" in rows else 0
    timm.append([result.multiply_accumulates, 5 * normed + 4 * standardized, result.parameters, result.unknown])
table6 = runpy.run_path(sys.argv[1])
result = table6["lines"]()
lines = [[it.variant, it.epochs, it.multiply_accumulates, it.exaflops] for it in result]
print(json.dumps({"timm": timm, "lines": lines, "table": table6["table"](result), "growth": peak() / before}))
"""
PAPER = {
    ("ViT-B/32", 7): 55,
    ("ViT-B/16", 7): 224,
    ("ViT-L/32", 7): 196,
    ("ViT-L/16", 7): 783,
    ("ViT-L/16", 14): 1567,
    ("ViT-H/14", 14): 4262,
    ("BiT-R50x1", 7): 50,
    ("BiT-R50x2", 7): 199,
    ("BiT-R101x1", 7): 96,
    ("BiT-R152x1", 7): 141,
    ("BiT-R152x2", 7): 563,
    ("BiT-R152x2", 14): 1126,
    ("BiT-R200x3", 14): 3306,
    ("R50+ViT-B/32", 7): 106,
    ("R50+ViT-B/16", 7): 274,
    ("R50+ViT-L/32", 7): 246,
    ("R50+ViT-L/16", 7): 859,
    ("R50+ViT-L/16", 14): 1668,
}


@pytest.fixture(scope="module")
def counted(run_warm):
    table6 = ROOT / "benchmarks" / "table6.py"
    return run_warm("-c", COUNT, table6, json.dumps(list(TIMM)), KERAS_BACKEND="jax")


@pytest.mark.parametrize("number", range(len(TIMM)), ids=[f"{name} {side}" for name, side in TIMM])
def test_the_published_multiply_accumulates(counted, number):
    key = list(TIMM)[number]
    ours, norms, parameters, unknown = counted["timm"][number]
    assert round((ours + norms) / 1e9, 2) == TIMM[key]
    assert norms < 0.04 * ours
    assert unknown == []
    if key[1] == 224:
        assert parameters == VARIANTS[key[0]].parameters


@pytest.mark.parametrize("number", range(len(PAPER)), ids=[f"{name} {epochs}" for name, epochs in PAPER])
def test_a_row_of_table_6(counted, number):
    (variant, epochs), paper = list(PAPER.items())[number]
    name, passes, macs, exaflops = counted["lines"][number]
    assert (name, passes) == (variant, epochs)
    assert exaflops == pytest.approx(macs * 2 * 3 * epochs * 303e6 / 1e18)
    assert exaflops == pytest.approx(paper, rel=0.05 if variant.startswith("BiT") else 0.03)


def test_what_is_spared_for_the_table_multiplies_nothing(counted):
    whole = counted["timm"][list(TIMM).index(("BiT-R50x1", 224))][0]
    assert whole == next(macs for name, _, macs, _ in counted["lines"] if name == "BiT-R50x1")


def test_the_recipe_has_the_epochs_of_the_table():
    rows = runpy.run_path(ROOT / "recipes" / "pretrain_jft.py")["ROWS"]
    assert {(variant, epochs) for variant, (epochs, _) in rows.items()} <= set(PAPER)
    assert {variant for variant, _ in PAPER} - set(rows) == {"BiT-R200x3"}


def test_the_document_has_the_table(counted):
    assert counted["table"] in (ROOT / "docs" / "cost.md").read_text("utf-8")


def test_counting_made_no_weights(counted):
    """All of them would be 10 GB."""
    assert counted["growth"] < 3
