"""What a file is of is told from its shapes."""

import logging
import math
import re

import numpy as np
import pytest

from keras_vit.models.config import OFFICIAL_VIT, VARIANTS, Variant
from keras_vit.weights.architecture import detect_architecture, heads_of
from keras_vit.weights.families import family_of
from keras_vit.weights.formats import NUMERICS, CheckpointFile, open_checkpoint_file

CASES = (
    *("token_32", "rep_32", "headless_32", "gap_32", "hybrid_111_64", "hybrid_stem_64", "bit_1111x1_64"),
    *("hf_vit_32", "hf_vit_pooler_32", "hf_deit_32", "hf_vit_hybrid_64", "hf_bit_64", "timm_vit_32"),
    *("hf_dinov2_32", "hf_dinov2_24x48", "hf_dinov2_registers_24x48", "hf_dinov2_registers_swiglu_32"),
    *("hf_deit_teacher_32", "timm_dinov2_reg4_24x48", "timm_dinov2_giant_32", "timm_deit_distilled_32"),
    "timm_deit3_32",
)


def resnet(row, unit, gamma, beta, preactivation):
    """Returns {name: shape} of a ResNet's stages; `unit(stage, number)` begins the names of a unit."""
    result, channels = {}, row.root_width
    for stage, (units, width) in enumerate(zip(row.units, row.widths), 1):
        for number in range(1, units + 1):
            inside = width // 4
            names = UNIT_NAMES[preactivation]
            kernels = [(1, 1, channels, inside), (3, 3, inside, inside), (1, 1, inside, width)]
            if number == 1:
                kernels.append((1, 1, channels, width))
            for (conv, norm), kernel in zip(names, kernels):
                result[f"{unit(stage, number)}/{conv}/kernel"] = kernel
                if norm:
                    normed = kernel[2 if preactivation else 3]
                    result |= {f"{unit(stage, number)}/{norm}/{name}": (normed,) for name in (gamma, beta)}
            channels = width
    return result


UNIT_NAMES = {
    False: [*((f"conv{i}", f"gn{i}") for i in (1, 2, 3)), ("conv_proj", "gn_proj")],
    True: [*((f"{i}/standardized_conv2d", f"{i}/group_norm") for i in "abc"), ("a/proj/standardized_conv2d", None)],
}


def official_bit(row, classes=1000):
    root, last = row.root_width, row.widths[-1]
    return {
        "resnet/root_block/standardized_conv2d/kernel": (7, 7, 3, root),
        **resnet(row, "resnet/block{}/unit{:02d}".format, "gamma", "beta", preactivation=True),
        **{f"resnet/group_norm/{name}": (last,) for name in ("gamma", "beta")},
        "resnet/head/conv2d/kernel": (1, 1, last, classes),
        "resnet/head/conv2d/bias": (classes,),
    }


def official_vit(row, side=224, classes=1000):
    """Returns {name: shape} of the official file of a row, by its numbers alone."""
    width, heads, p, channels = row.hidden_size, row.num_heads, row.patch_size, 3
    result = {}
    if row.stem:
        channels = row.stem.widths[-1] if row.stem.widths else row.stem.root_width
        result = {"conv_root/kernel": (7, 7, 3, 64), "gn_root/scale": (64,), "gn_root/bias": (64,)}
        result |= resnet(row.stem, "block{}/unit{}".format, "scale", "bias", preactivation=False)
    tokens = (side // row.stride) ** 2 + 1
    result |= {"cls": (1, 1, width), "Transformer/posembed_input/pos_embedding": (1, tokens, width)}
    result |= {"embedding/kernel": (p, p, channels, width), "embedding/bias": (width,)}
    result |= {f"Transformer/encoder_norm/{name}": (width,) for name in ("scale", "bias")}
    for block in (f"Transformer/encoderblock_{i}" for i in range(row.num_layers)):
        result |= {f"{block}/LayerNorm_{i}/{name}": (width,) for i in (0, 2) for name in ("scale", "bias")}
        attention = f"{block}/MultiHeadDotProductAttention_1"
        for part in ("query", "key", "value"):
            result[f"{attention}/{part}/kernel"] = width, heads, width // heads
            result[f"{attention}/{part}/bias"] = heads, width // heads
        result |= {f"{attention}/out/kernel": (heads, width // heads, width), f"{attention}/out/bias": (width,)}
        for dense, shape in (("Dense_0", (width, row.mlp_dim)), ("Dense_1", (row.mlp_dim, width))):
            result |= {f"{block}/MlpBlock_3/{dense}/kernel": shape, f"{block}/MlpBlock_3/{dense}/bias": shape[1:]}
    return result | {"head/kernel": (width, classes), "head/bias": (classes,)}


def file_of(format, shapes, **facts):
    return CheckpointFile("some.file", format, shapes, OFFICIAL_VIT, **facts)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_official_file_of_every_variant(name):
    """From its names and shapes alone; those have as many numbers as the row says."""
    row = VARIANTS[name]
    is_vit = isinstance(row, Variant)
    shapes = official_vit(row) if is_vit else official_bit(row)
    assert sum(map(math.prod, shapes.values())) == row.parameters
    result = detect_architecture(file_of("npz" if is_vit else "bit", shapes))
    assert (result.name, result.variant) == (name, row)
    assert (result.channels, result.classes, result.representation_size) == (3, 1000, None)
    assert result.image_size == ((224, 224) if is_vit else None)


def test_the_number_of_arrays_of_the_published_files():
    assert len(official_vit(VARIANTS["ViT-B/16"])) == 200
    assert len(official_vit(VARIANTS["R50+ViT-B/16"])) == 356


def test_the_dropout_is_the_published_rows_and_the_pooling_the_files():
    shapes = official_vit(VARIANTS["ViT-L/16"])
    del shapes["cls"]
    shapes["Transformer/posembed_input/pos_embedding"] = 1, 196, 1024
    result = detect_architecture(file_of("npz", shapes))
    assert (result.name, result.variant.dropout, result.variant.pooling) == ("ViT-L/16", 0.1, "gap")


@pytest.mark.parametrize("case", CASES)
def test_the_files_of_other_projects(oracle, tmp_path, case):
    about = oracle.CASES[case]
    heads = 4 if case.startswith("timm") else None
    with open_checkpoint_file(oracle.write(case, tmp_path)) as file:
        result = detect_architecture(file, heads)
    assert (result.variant, result.name, result.channels) == (about.row, None, 3)
    assert result.classes == about.build.get("classes")
    representation = {"rep_32": 20, "hf_vit_pooler_32": 32}
    assert result.representation_size == representation.get(case)
    own_size = (40, 40) if case.endswith("_24x48") else about.size
    assert result.image_size == (own_size if isinstance(about.row, Variant) else None)


def test_the_size_of_an_oblong_image_is_told_by_a_configuration_alone(oracle):
    shapes = oracle.shapes(rows=48, columns=24)
    assert detect_architecture(file_of("npz", shapes)).image_size is None
    assert detect_architecture(file_of("npz", shapes, image_size=(24, 48))).image_size == (24, 48)
    assert detect_architecture(file_of("npz", shapes, image_size=(32, 32))).image_size is None  # resized since


def test_positions_of_an_oblong_image_with_and_without_a_row_for_the_class_token():
    for rows, tokens in ((1, 7), (0, 6)):
        shapes = plain_timm(192) | {"pos_embed": (1, tokens, 192)}
        assert detect_architecture(file_of("timm", shapes, image_size=(16, 24))).image_size == (16, 24), rows


def plain_timm(width, layers=2, mlp_dim=91):
    """Returns {name: shape} of a file of timm, a square of four patches."""
    shapes = {"cls_token": (1, 1, width), "pos_embed": (1, 5, width)}
    names = [("patch_embed.proj", (width, 3, 8, 8)), ("norm", (width,)), ("head", (7, width))]
    for block in (f"blocks.{i}" for i in range(layers)):
        names += [(f"{block}.norm1", (width,)), (f"{block}.norm2", (width,)), (f"{block}.attn.proj", (width, width))]
        names += [(f"{block}.attn.qkv", (3 * width, width)), (f"{block}.mlp.fc1", (mlp_dim, width))]
        names += [(f"{block}.mlp.fc2", (width, mlp_dim))]
    for name, shape in names:
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes


def test_heads_are_64_wide_where_nothing_tells_which_is_said(caplog):
    with caplog.at_level(logging.INFO, "keras_vit"):
        result = detect_architecture(file_of("timm", plain_timm(192)))
    assert result.variant == Variant(8, 192, 2, 3, 91)
    (message,) = caplog.messages
    assert "some.file: 3 attention heads of width 64" in message and "num_heads=" in message


def test_heads_of_the_largest_models_are_wider():
    for name in ("ViT-H/14", "ViT-g/14", "ViT-G/14"):
        row = VARIANTS[name]
        shapes = plain_timm(row.hidden_size, mlp_dim=row.mlp_dim)
        assert detect_architecture(file_of("timm", shapes)).variant.num_heads == row.num_heads == 16


@pytest.mark.parametrize("given, facts", [(6, {}), (None, {"num_heads": 6}), (6, {"num_heads": 3})])
def test_heads_that_the_caller_or_a_configuration_tells(caplog, given, facts):
    with caplog.at_level(logging.INFO, "keras_vit"):
        assert detect_architecture(file_of("timm", plain_timm(192), **facts), given).variant.num_heads == 6
    assert not caplog.messages


def test_heads_that_cannot_be_64_wide_are_asked_for():
    with pytest.raises(ValueError, match="some.file: the number of attention heads .*hidden_size=90 .*Pass num_heads="):
        detect_architecture(file_of("timm", plain_timm(90)))


@pytest.mark.parametrize(
    "lost", ["patch_embed.proj.weight", "pos_embed", "blocks.0.attn.qkv.weight", "blocks.0.mlp.fc1.bias"]
)
def test_a_file_that_lacks_what_tells(lost):
    shapes = plain_timm(192)
    del shapes[lost]
    with pytest.raises(ValueError, match=rf"some.file: .* {re.escape(lost)} is missing\. Name the"):
        detect_architecture(file_of("timm", shapes))


def test_a_stage_that_is_missing(oracle):
    shapes = {name: shape for name, shape in oracle.file_shapes("bit_1111x1_64").items() if "block2/" not in name}
    with pytest.raises(ValueError, match="the architecture cannot be detected"):
        detect_architecture(file_of("bit", shapes))


def test_a_class_token_that_is_missing_is_not_taken_for_a_mean(oracle):
    shapes = oracle.shapes()
    del shapes["cls"]
    assert detect_architecture(file_of("npz", shapes)).variant.pooling == "token"


def test_the_shapes_are_read_and_no_number(oracle, tmp_path):
    arrays = oracle.checkpoint()
    arrays["head/bias"][:] = np.nan
    np.savez(tmp_path / "file.npz", **arrays)
    with open_checkpoint_file(tmp_path / "file.npz") as file:
        assert detect_architecture(file).classes == 10


@pytest.mark.parametrize("case", CASES)
def test_a_file_that_lacks_any_one_array_is_of_the_same_architecture(oracle, tmp_path, case):
    """Then loading says that it is missing; no file is taken for one without the part that the array belongs to."""
    heads = 4 if case.startswith("timm") else None
    with open_checkpoint_file(oracle.write(case, tmp_path)) as file:
        whole = detect_architecture(file, heads)
        # timm has models without these, too, whose positions are as many; a configuration alone tells them apart.
        optional = {"cls_token"} if case == "timm_deit3_32" else {"reg_token"}
        for name in {*file.shapes} - (optional if case.startswith("timm") else set()):
            shape = file.shapes.pop(name)
            try:
                assert detect_architecture(file, heads) == whole, name
            except ValueError as error:
                assert name in str(error)
            file.shapes[name] = shape


def test_heads_that_no_file_states_are_those_of_the_published_size():
    def heads(format, hidden_size, mlp_dim, names=()):
        file = CheckpointFile("file", format, {}, NUMERICS[format], family=family_of(format, names))
        return heads_of(file, hidden_size, 1, mlp_dim)

    assert heads("timm", 1280, 5120) == 16  # ViT-H, CLIP H/14, I-JEPA
    assert heads("timm", 1408, 6144) == heads("timm", 1664, 8192) == 16
    assert heads("timm", 768, 3072) == 12
    assert heads("timm_eva_gated", 1280, 5120, ["reg_token"]) == 20  # DINOv3 H+
    assert heads("timm_eva_gated", 4096, 8192, ["reg_token"]) == 32
    assert heads("hf_clip_text", 1280, 5120) == 20  # the text tower of OpenCLIP's bigG
    with pytest.raises(ValueError, match="Pass num_heads="):
        heads("timm", 100, 400)
