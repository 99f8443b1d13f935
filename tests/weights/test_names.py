import itertools

import keras
import numpy as np
import pytest

import keras_vit
from keras_vit.models.description import describe_model
from keras_vit.weights.names import FORMATS, find_layers, format_column
from keras_vit.weights.reshaping import KINDS

# Hidden sizes, heads and so on all differ, so that a swapped axis shows.
PLAIN = keras_vit.Variant(3, 20, 2, 4, 28)
HYBRID = keras_vit.Variant(1, 20, 2, 4, 28, stem=keras_vit.ResNet((2, 1), (128, 256)))
BIT = keras_vit.ResNet((2, 1), (128, 256))
FAMILY = {"layer_scale": 1e-5, "register_tokens": 5}
DISTILLED = keras_vit.Variant(3, 20, 2, 4, 28, pooling="token+distillation", distillation_token=True)
MEAN = {"pooling": "gap", "class_token": True}


def replaced(**fields):
    """Returns the plain architecture with heads of 4 channels, which can be rotated, and other fields."""
    return keras_vit.Variant(3, 20, 2, 5, 28, **fields)


MODELS = {
    "npz": (PLAIN, HYBRID),
    "big_vision": (PLAIN, keras_vit.Variant(3, 20, 2, 4, 28, pooling="map")),
    "bit": (BIT,),
    "hf": (PLAIN, HYBRID, keras_vit.Variant(3, 20, 2, 4, 28, distillation_token=True)),
    "hf_distilled": (DISTILLED,),
    "hf_dinov2": (keras_vit.Variant(3, 20, 2, 4, 28, pooling="token+gap", **FAMILY),),
    "hf_dinov2_swiglu": (keras_vit.Variant(3, 20, 2, 4, 28, swiglu=True, **FAMILY),),
    "hf_bit": (BIT,),
    "hf_dinov3": (replaced(positions="none", rotary=keras_vit.Rotary(), qkv_bias="qv", **FAMILY),),
    "hf_dinov3_gated": (replaced(positions="none", rotary=keras_vit.Rotary(), swiglu=True, **FAMILY),),
    **dict.fromkeys(
        ("hf_beit", "hf_beit_shared"),
        (replaced(relative_bias=True, norm_at="pooled", layer_scale=1e-5, qkv_bias="qv", **MEAN),),
    ),
    "hf_tower": (replaced(pooling="map"), replaced(pre_norm=True, patch_bias=False)),
    "open_clip": (replaced(pre_norm=True, patch_bias=False),),
    "timm_gamma": (replaced(norm_at="none", pre_norm=True, patch_bias=False, layer_scale=0.1, **MEAN),),
    "timm_eva": (
        replaced(relative_bias=True, norm_at="pooled", layer_scale=1e-5, qkv_bias="qv", **MEAN),
        replaced(rotary=keras_vit.Rotary(10_000, (16, 16)), norm_at="pooled", qkv_bias="qv", swiglu=True, **MEAN),
    ),
    "timm_eva_gated": (replaced(positions="none", rotary=keras_vit.Rotary(), qkv_bias="qv", swiglu=True, **FAMILY),),
    "timm_eva_split": (
        replaced(rotary=keras_vit.Rotary(10_000, (16, 16)), qkv_bias="qv", swiglu=True, swiglu_norm=True, **MEAN),
    ),
    "timm": (
        PLAIN,
        HYBRID,
        DISTILLED,
        replaced(pre_norm=True, patch_bias=False, norm_at="pooled", **MEAN),
        replaced(pooling="map", class_token=True, rotary=keras_vit.Rotary(10_000, (4, 4), 1, True), pre_norm=True),
        keras_vit.Variant(3, 20, 2, 4, 28, swiglu=True, **FAMILY),
    ),
    "timm_bit": (BIT,),
}
# test_encoder.py of tests/words has these
TEXT = {"hf_siglip_text", "hf_clip_text", "open_clip_siglip_text", "open_clip_clip_text", "big_vision_text"}
CASES = [(format, row) for format, rows in MODELS.items() for row in rows]


def cells_of(format, row):
    if isinstance(row, keras_vit.ResNet):
        return format_column(format, 0, row.units)
    return format_column(format, row.num_layers, row.stem.units if row.stem else ())


def test_every_format_is_tested_and_has_a_family():
    assert set(MODELS) | TEXT == set(FORMATS)
    families = {family for ends in KINDS.values() for weight in ends.values() for family in weight}
    assert families == {format.family for format in FORMATS.values()}


def test_the_numbers_of_arrays_of_the_official_files():
    """16 a block, and 8 around them: positions, class token, embedding, last norm and head; 2 more of pre-training."""

    def count(units, num_layers=12):
        names = {cell.name for cell in format_column("npz", num_layers, units).values()}
        without = {"pre_logits/kernel", "pre_logits/bias"} | ({"conv_root/kernel", "gn_root/scale", "gn_root/bias"})
        # A projection stands in the first unit of a stage alone.
        later = {name for name in names if "_proj" in name and "/unit1/" not in name}
        return len(names - later - (without if not units else {"pre_logits/kernel", "pre_logits/bias"}))

    assert count(()) == 200
    assert count((), 24) == 200 + 12 * 16
    assert count((3, 4, 9)) == 356


@pytest.mark.parametrize("format", FORMATS)
def test_no_two_rows_share_an_array(format):
    cells = format_column(format, 12, (3, 4))
    # The projection of an embedding stands where another file's head does.
    rest = {path: cell for path, cell in cells.items() if not path.startswith("projection/")}
    if format == "hf_beit_shared":  # whose blocks have one relative bias
        rest = {path: cell for path, cell in rest.items() if not path.endswith("relative_bias")}
    assert len({(cell.name, cell.part) for cell in rest.values()}) == len(rest)


def weights_of(format, row):
    """Returns {path: weight} of a model with a head, where the format has one."""
    size = (12, 12, 3) if row is not BIT else (32, 32, 3)
    classes = {} if format in ("open_clip", "hf_dinov3", "hf_dinov3_gated") else {"classes": 5}
    return describe_model(keras_vit.build(row, bool(classes), input_shape=size, **classes)).weights


@pytest.mark.parametrize("format, row", CASES)
def test_every_weight_of_a_model_has_its_row(format, row):
    assert set(weights_of(format, row)) <= set(cells_of(format, row))


@pytest.mark.parametrize("format, row", CASES)
def test_the_reshapers_invert_each_other_and_know_the_shapes(format, row):
    cells = cells_of(format, row)
    for path, weight in weights_of(format, row).items():
        shape, cell = tuple(weight.shape), cells[path]
        ours = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        if path == "encoder/position_embedding" and (format == "big_vision" or format.startswith("timm")):
            ours[:, : row.has_class_token + row.distillation_token] = 0
        if cell.reshaper is None:
            rows = shape[0] * (cell.part[1] if cell.part else 1) // len(cell.names)
            assert cell.shapes(shape, row) == ((rows, *shape[1:]),)
            continue
        for theirs in cell.reshaper.shapes(shape, row):
            there = cell.reshaper.to_file(ours, theirs, row)
            assert there.shape == theirs, path
            assert there.size == ours.size - (np.prod(shape) - np.prod(theirs)), path
            np.testing.assert_array_equal(cell.reshaper.from_file(there, shape, row), ours, err_msg=path)


def test_the_position_of_a_class_token_that_a_file_has_none_for():
    """Timm has files of both kinds, but with registers of one."""
    cell = format_column("timm")["encoder/position_embedding"]
    distilled = keras_vit.Variant(3, 20, 2, 4, 28, distillation_token=True)
    for row, tokens in ((PLAIN, [5, 4]), (distilled, [5, 3]), (MODELS["timm"][-1], [4])):
        assert [shape[1] for shape in cell.shapes((1, 5, 20), row)] == tokens
    read = cell.reshaper.from_file(np.ones((1, 4, 3)), (1, 5, 3), PLAIN)
    np.testing.assert_array_equal(read[0, :, 0], [0, 1, 1, 1, 1])


def test_a_class_tokens_position_cannot_be_written_as_big_visions():
    cell = format_column("big_vision")["encoder/position_embedding"]
    with pytest.raises(ValueError, match="zero for the class token"):
        cell.reshaper.to_file(np.ones((1, 5, 20), np.float32), (1, 4, 20), PLAIN)


def test_query_key_and_value_are_thirds_where_they_are_one():
    cells = format_column("timm", 1)
    result = {part: cells[f"block_00/attention/{part}/kernel"] for part in ("query", "key", "value")}
    assert {cell.name for cell in result.values()} == {"blocks.0.attn.qkv.weight"}
    assert [cell.part for cell in result.values()] == [(0, 3), (1, 3), (2, 3)]
    assert result["key"].shapes((20, 20), PLAIN) == ((60, 20),)


@pytest.mark.parametrize("format", FORMATS)
def test_layers_are_found_under_their_names(format):
    names = {cell.name for cell in format_column(format, 11, (3, 10)).values()}
    blocks = [layer["i"] for layer in find_layers(format, "block_{i:02d}/mlp/hidden", names)]
    units = [(layer["s"], layer["u"]) for layer in find_layers(format, "stage{s}_unit{u:02d}/conv2", names)]
    has_blocks = format not in ("bit", "hf_bit", "timm_bit")
    has_units = format in ("npz", "bit", "hf", "hf_bit", "timm", "timm_bit")
    assert set(blocks) == (set(range(11)) if has_blocks else set())
    expected = {*itertools.product([0], range(3)), *itertools.product([1], range(10))}
    assert set(units) == (expected if has_units else set())


def test_sorted_is_in_order_also_beyond_ten_blocks_and_units():
    blocks = [name.split("/")[0] for name in sorted(format_column("npz", 48)) if name.startswith("block_")]
    assert list(dict.fromkeys(blocks)) == [f"block_{i:02d}" for i in range(48)]
    units = [name.split("/")[0] for name in sorted(format_column("bit", 0, (36,))) if name.startswith("stage")]
    assert list(dict.fromkeys(units)) == [f"stage1_unit{i:02d}" for i in range(1, 37)]


def test_the_weights_of_a_model_are_named_without_its_own_name():
    inner = keras_vit.build(PLAIN, input_shape=(12, 12, 3))
    outer = keras.Sequential([keras.Input((12, 12, 3)), inner])
    assert set(describe_model(outer).weights) == {weight.path for weight in inner.weights}
