import dataclasses
import inspect
import json
import re

import pytest

import keras_vit
from keras_vit.models.config import VARIANTS, ResNet, Variant, get_variant

# Parameters at 224 x 224 pixels with 1,000 classes. Source: the official models_test.py, and the sum by hand for S/8,
# S/14, B/8, L/14, g, G, R50+B/32, R50+L/16 and the BiTs.
PARAMETERS = {
    "ViT-Ti/16": 5_717_416,
    "ViT-S/8": 22_055_272,
    "ViT-S/14": 22_004_584,
    "ViT-S/16": 22_050_664,
    "ViT-S/32": 22_878_952,
    "ViT-B/8": 86_576_872,
    "ViT-B/16": 86_567_656,
    "ViT-B/32": 88_224_232,
    "ViT-L/14": 304_203_752,
    "ViT-L/16": 304_326_632,
    "ViT-L/32": 306_535_400,
    "ViT-H/14": 632_045_800,
    "ViT-g/14": 1_012_611_432,
    "ViT-G/14": 1_844_440_680,
    "R+ViT-Ti/16": 6_337_704,
    "R26+ViT-S/32": 36_431_912,
    "R26+ViT-B/32": 101_383_976,
    "R50+ViT-B/16": 98_659_112,
    "R50+ViT-B/32": 110_945_832,
    "R50+ViT-L/16": 316_483_624,
    "R50+ViT-L/32": 328_994_856,
    "BiT-R50x1": 25_549_352,
    "BiT-R50x2": 97_988_712,
    "BiT-R50x3": 217_319_080,
    "BiT-R101x1": 44_541_480,
    "BiT-R101x3": 387_934_888,
    "BiT-R152x1": 60_185_128,
    "BiT-R152x2": 236_335_208,
    "BiT-R152x4": 936_533_224,
    "BiT-R200x3": 568_633_000,
}

# Counts without making a single weight: a stateless scope that never initialises leaves them open. In a Python of its
# own, because the open weights stay on Keras' list of those to be made.
COUNT = """
import json, resource, keras, keras_vit
from keras_vit.models.config import VARIANTS

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before, counts = peak(), {}
with keras.StatelessScope(initialize_variables=False):
    for name in VARIANTS:
        builder = name.replace("-", "_").replace("+", "_").replace("/", "")
        counts[name] = getattr(keras_vit, builder)().count_params()
print(json.dumps({"counts": counts, "growth": peak() / before}))
"""


@pytest.fixture(scope="module")
def counted(run_warm):
    return run_warm("-c", COUNT, KERAS_BACKEND="jax")


def test_no_variant_lacks_a_golden_count():
    assert set(VARIANTS) == set(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(counted, name):
    assert counted["counts"][name] == VARIANTS[name].parameters == PARAMETERS[name]


def test_counting_made_no_weights(counted):
    """All of them would be 29 GB."""
    assert counted["growth"] < 3


def test_a_model_with_real_weights_has_the_same_count():
    assert keras_vit.ViT_Ti16().count_params() == PARAMETERS["ViT-Ti/16"]


@pytest.mark.parametrize(
    "arguments, parameters",
    [({"input_shape": (384, 384, 3)}, 5_790_376), ({"classes": 10, "representation_size": 192}, 5_563_402)],
)
def test_parameters_of_other_sizes(arguments, parameters):
    assert keras_vit.ViT_Ti16(**arguments).count_params() == parameters


def test_every_variant_has_a_builder_and_the_reverse():
    variant_of = {name.replace("-", "_").replace("+", "_").replace("/", ""): name for name in VARIANTS}
    builders = {name for name in keras_vit.__all__ if re.match(r"(R\d*_)?ViT_|BiT_", name)}
    assert builders == set(variant_of)
    for name, variant in variant_of.items():
        builder = getattr(keras_vit, name)
        assert builder.__name__ == name
        assert f"Builds {variant}: " in builder.__doc__


def test_every_public_name_has_a_docstring():
    for name in keras_vit.__all__:
        assert inspect.getdoc(getattr(keras_vit, name)), name


@pytest.mark.parametrize(
    "name, dropout",
    [
        ("ViT-B/16", 0.0),
        ("ViT-S/32", 0.0),
        ("ViT-L/16", 0.1),
        ("ViT-L/32", 0.0),
        ("ViT-H/14", 0.1),
        ("R50+ViT-B/16", 0.1),
        ("R26+ViT-S/32", 0.0),
        ("R50+ViT-L/32", 0.1),
    ],
)
def test_dropout_of_the_official_configurations(name, dropout):
    assert VARIANTS[name].dropout == dropout


# What the official code's convolutions and pools with padding SAME give.
@pytest.mark.parametrize(
    "name, sides, grid",
    [
        ("ViT-B/16", (224, 384), (14, 24)),
        ("R+ViT-Ti/16", (224, 224), (7, 7)),
        ("R+ViT-Ti/16", (250, 225), (7, 7)),
        ("R50+ViT-B/16", (224, 384), (14, 24)),
        ("R50+ViT-B/16", (225, 97), (15, 7)),
        ("R50+ViT-L/32", (224, 193), (7, 7)),
    ],
)
def test_the_grid_of_patches(name, sides, grid):
    assert VARIANTS[name].grid(*sides) == grid


@pytest.mark.parametrize("name, stride", [("ViT-S/14", 14), ("R+ViT-Ti/16", 32), ("R50+ViT-B/16", 16)])
def test_the_pixels_a_token_stands_for(name, stride):
    assert VARIANTS[name].stride == stride


@pytest.mark.parametrize(
    "units, widths, root", [((1,), (128, 128), 64), ((0,), (128,), 64), ((1,), (100,), 64), ((1,), (128,), 48)]
)
def test_resnets_that_cannot_be(units, widths, root):
    with pytest.raises(ValueError, match=f"Received: units=.*root_width={root}"):
        ResNet(units, widths, root)


def test_a_row_comes_back_from_json():
    row = VARIANTS["R50+ViT-B/16"]
    assert Variant(**json.loads(json.dumps(dataclasses.asdict(row)))) == row


@pytest.mark.parametrize(
    "options, message",
    [
        ({"pooling": "gap", "distillation_token": True}, "only with a class token"),
        ({"pooling": "map", "register_tokens": 4}, "only with a class token"),
        ({"pooling": "token+distillation"}, "distillation_token=True for"),
        ({"register_tokens": -1}, "register_tokens 0 or more"),
        ({"layer_scale": 0.0}, "layer_scale None or"),
        ({"positions": "sines"}, "positions one of"),
        ({"positions_at": "top"}, "positions_at one of"),
        ({"attention": "local"}, "attention one of"),
        ({"attention_window": 0}, "attention_window None or 1 or more"),
        ({"positions": "relative", "positions_at": "layers"}, "which are not added to tokens"),
        ({"attention": "axial", "attention_window": 3}, "only one of attention='axial'"),
    ],
)
def test_options_that_do_not_go_together(options, message):
    with pytest.raises(ValueError, match=message):
        Variant(8, 32, 1, 4, 48, **options)


def test_positions_in_two_dimensions_need_four_parts():
    with pytest.raises(ValueError, match="multiple of 4"):
        Variant(8, 30, 1, 3, 48, positions="learned-2d")


@pytest.mark.parametrize(
    "name, nearest",
    [("ViT-B16", "ViT-B/16"), ("vit-l/16", "ViT-L/16"), ("ViT_H14", "ViT-H/14"), ("B/16", "ViT-B/16")],
)
def test_an_unknown_name_raises_and_offers_the_nearest(name, nearest):
    with pytest.raises(ValueError, match=rf"Received: variant='{name}'.*Nearest names:.*{nearest}"):
        get_variant(name)


@pytest.mark.parametrize("value", [None, 1.5, "", "qqq"])
def test_an_unknown_variant_without_near_names_lists_all(value):
    with pytest.raises(ValueError, match="ViT-Ti/16.*ViT-G/14.*BiT-R200x3"):
        get_variant(value)


def test_a_name_and_a_variant_of_ones_own():
    own = Variant(5, 6, 1, 2, 7)
    assert get_variant(own) is own
    assert get_variant("ViT-L/32") is VARIANTS["ViT-L/32"]


def test_a_variant_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        VARIANTS["ViT-B/16"].num_heads = 1


@pytest.mark.parametrize("field", ["patch_size", "hidden_size", "num_layers", "num_heads", "mlp_dim"])
@pytest.mark.parametrize("value", [0, -16, 16.0, "16", None, True])
def test_sizes_are_positive_whole_numbers(field, value):
    sizes = {"patch_size": 16, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "mlp_dim": 48}
    with pytest.raises(ValueError, match=f"{field}={value!r}"):
        Variant(**{**sizes, field: value})


def test_all_wrong_sizes_stand_in_one_message():
    with pytest.raises(ValueError, match=r"patch_size=0, mlp_dim=-1"):
        Variant(0, 32, 2, 4, -1)


def test_the_width_is_shared_out_among_the_heads():
    with pytest.raises(ValueError, match="hidden_size=32, num_heads=5"):
        Variant(16, 32, 2, 5, 48)


@pytest.mark.parametrize("pooling", ["mean", "TOKEN", None, ""])
def test_unknown_poolings_raise(pooling):
    with pytest.raises(ValueError, match=f"pooling={pooling!r}"):
        Variant(16, 32, 2, 4, 48, pooling=pooling)


@pytest.mark.parametrize("dropout", [-0.1, 1, 1.5, float("nan")])
def test_dropout_is_a_part_of_one(dropout):
    with pytest.raises(ValueError, match="dropout="):
        Variant(16, 32, 2, 4, 48, dropout=dropout)
