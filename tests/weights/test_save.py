"""What a project's file looks like, by its names, shapes and numbers; the models themselves: test_conversion.py."""

import dataclasses
import json
import logging

import numpy as np
import pytest

import keras_vit
from keras_vit.models.config import OFFICIAL_BIT, OFFICIAL_VIT, Numerics
from keras_vit.weights.architecture import Architecture
from keras_vit.weights.formats import open_checkpoint_file
from keras_vit.weights.load import read_weights
from keras_vit.weights.readers import open_arrays
from keras_vit.weights.save import WRITTEN_FORMATS, arrays_in_format, find_unsupported, write_checkpoint

PIXELS = {"mean": (0.5,) * 5, "std": (0.5,) * 5, "interpolation": "bilinear", "crop": None, "keep_aspect": True}
VIT = keras_vit.Variant(patch_size=3, hidden_size=10, num_layers=1, num_heads=2, mlp_dim=7)
DEIT = keras_vit.Variant(3, 10, 1, 2, 7, distillation_token=True)
DINOV2 = keras_vit.Variant(3, 10, 1, 2, 8, pooling="token+gap", register_tokens=4, layer_scale=1e-5, swiglu=True)
SHAPES = {
    "encoder/class_token": (1, 1, 10),
    "encoder/position_embedding": (1, 1 + 6, 10),
    "encoder/projection/kernel": (3 * 3 * 5, 10),
    "encoder/projection/bias": (10,),
    **{
        f"block_00/{layer}/{name}": shape
        for layer, width in (
            ("attention/query", 10),
            ("attention/key", 10),
            ("attention/value", 10),
            ("attention/out", 10),
            ("mlp/hidden", 7),
        )
        for name, shape in (("kernel", (10, width)), ("bias", (width,)))
    },
    "block_00/mlp/out/kernel": (7, 10),
    "block_00/mlp/out/bias": (10,),
    **{
        f"{norm}/{name}": (10,)
        for norm in ("block_00/attention_norm", "block_00/mlp_norm", "norm")
        for name in ("gamma", "beta")
    },
    "head/kernel": (10, 11),
    "head/bias": (11,),
}
IMAGE_SIZE = (6, 9)


def counted(shapes):
    """Returns arrays in which no number stands twice."""
    arrays, start = {}, 1
    for name, shape in shapes.items():
        arrays[name] = np.arange(start, start + np.prod(shape), dtype=np.float32).reshape(shape)
        start += np.prod(shape)
    return arrays


def model(variant=VIT, classes=11, representation_size=None, image_size=IMAGE_SIZE):
    return Architecture(variant, None, 5, classes, representation_size, image_size)


@pytest.fixture
def arrays():
    return counted(SHAPES)


def dense(name, inputs, outputs):
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm(name):
    return {f"{name}.weight": (10,), f"{name}.bias": (10,)}


def test_the_names_and_shapes_of_transformers(arrays):
    arrays["encoder/distillation_token"] = np.ones((1, 1, 10), np.float32)
    layer = "deit.encoder.layer.0."
    assert {name: array.shape for name, array in arrays_in_format(arrays, "hf", DEIT, "deit.").items()} == {
        "deit.embeddings.cls_token": (1, 1, 10),
        "deit.embeddings.distillation_token": (1, 1, 10),
        "deit.embeddings.position_embeddings": (1, 7, 10),
        "deit.embeddings.patch_embeddings.projection.weight": (10, 5, 3, 3),
        "deit.embeddings.patch_embeddings.projection.bias": (10,),
        **norm(layer + "layernorm_before"),
        **dense(layer + "attention.attention.query", 10, 10),
        **dense(layer + "attention.attention.key", 10, 10),
        **dense(layer + "attention.attention.value", 10, 10),
        **dense(layer + "attention.output.dense", 10, 10),
        **norm(layer + "layernorm_after"),
        **dense(layer + "intermediate.dense", 10, 7),
        **dense(layer + "output.dense", 7, 10),
        **norm("deit.layernorm"),
        **dense("classifier", 10, 11),
    }


def test_the_names_and_shapes_of_timm(arrays):
    assert {name: array.shape for name, array in arrays_in_format(arrays, "timm", VIT).items()} == {
        "cls_token": (1, 1, 10),
        "pos_embed": (1, 7, 10),
        "patch_embed.proj.weight": (10, 5, 3, 3),
        "patch_embed.proj.bias": (10,),
        **norm("blocks.0.norm1"),
        **dense("blocks.0.attn.qkv", 10, 30),
        **dense("blocks.0.attn.proj", 10, 10),
        **norm("blocks.0.norm2"),
        **dense("blocks.0.mlp.fc1", 10, 7),
        **dense("blocks.0.mlp.fc2", 7, 10),
        **norm("norm"),
        **dense("head", 10, 11),
    }


def test_the_names_and_shapes_of_transformers_dinov2(tmp_path, arrays):
    more = {
        "encoder/register_tokens": (1, 4, 10),
        "block_00/attention_scale/gamma": (10,),
        "block_00/mlp_scale/gamma": (10,),
        "block_00/mlp/hidden/kernel": (10, 16),
        "block_00/mlp/hidden/bias": (16,),
        "block_00/mlp/out/kernel": (8, 10),
        "head/kernel": (20, 11),
    }
    arrays |= counted(more)
    write_checkpoint(tmp_path / "folder", "hf", arrays, model(DINOV2, image_size=(6, 6)), OFFICIAL_VIT, PIXELS)
    prefix = "dinov2_with_registers."
    layer = f"{prefix}encoder.layer.0."
    with open_arrays(tmp_path / "folder/model.safetensors") as file:
        assert file.shapes == {
            f"{prefix}embeddings.cls_token": (1, 1, 10),
            f"{prefix}embeddings.mask_token": (1, 10),
            f"{prefix}embeddings.register_tokens": (1, 4, 10),
            f"{prefix}embeddings.position_embeddings": (1, 7, 10),
            f"{prefix}embeddings.patch_embeddings.projection.weight": (10, 5, 3, 3),
            f"{prefix}embeddings.patch_embeddings.projection.bias": (10,),
            **norm(layer + "norm1"),
            **dense(layer + "attention.attention.query", 10, 10),
            **dense(layer + "attention.attention.key", 10, 10),
            **dense(layer + "attention.attention.value", 10, 10),
            **dense(layer + "attention.output.dense", 10, 10),
            layer + "layer_scale1.lambda1": (10,),
            **norm(layer + "norm2"),
            **dense(layer + "mlp.weights_in", 10, 16),
            **dense(layer + "mlp.weights_out", 8, 10),
            layer + "layer_scale2.lambda1": (10,),
            **norm(f"{prefix}layernorm"),
            **dense("classifier", 20, 11),
        }
    config = json.loads((tmp_path / "folder/config.json").read_text("utf-8"))
    assert config["architectures"] == ["Dinov2WithRegistersForImageClassification"]
    assert (config["mlp_ratio"], config["use_swiglu_ffn"], config["num_register_tokens"]) == (1.2, True, 4)
    assert "intermediate_size" not in config


def test_timms_files_with_registers_have_no_position_for_the_class_token(arrays):
    result = arrays_in_format(arrays, "timm", keras_vit.Variant(3, 10, 1, 2, 7, register_tokens=4))
    positions = arrays["encoder/position_embedding"]
    np.testing.assert_array_equal(result["pos_embed"], positions[:, 1:])
    np.testing.assert_array_equal(result["cls_token"], arrays["encoder/class_token"] + positions[:, :1])


def test_two_heads_have_other_names_in_each_project(arrays):
    arrays |= counted({"head/distillation/kernel": (10, 11), "head/distillation/bias": (11,)})
    variant = dataclasses.replace(DEIT, pooling="token+distillation")
    for format, names in (("hf", ("cls_classifier", "distillation_classifier")), ("timm", ("head", "head_dist"))):
        result = arrays_in_format(arrays, format, variant, "deit." if format == "hf" else "")
        for ours, theirs in zip(("head", "head/distillation"), names):
            np.testing.assert_array_equal(result[f"{theirs}.weight"], arrays[f"{ours}/kernel"].T)


def test_the_numbers_lie_as_pytorch_has_them(arrays):
    result = arrays_in_format(arrays, "timm", VIT)
    kernel = arrays["encoder/projection/kernel"]
    for row, column, channel, out in ((0, 0, 0, 0), (0, 2, 3, 7), (2, 1, 4, 9)):
        assert (
            result["patch_embed.proj.weight"][out, channel, row, column]
            == kernel[(row * 3 + column) * 5 + channel, out]
        )
    for part, name in enumerate(("query", "key", "value")):
        rows = slice(10 * part, 10 * part + 10)
        attention = f"block_00/attention/{name}"
        np.testing.assert_array_equal(result["blocks.0.attn.qkv.weight"][rows], arrays[f"{attention}/kernel"].T)
        np.testing.assert_array_equal(result["blocks.0.attn.qkv.bias"][rows], arrays[f"{attention}/bias"])
    np.testing.assert_array_equal(result["head.weight"], arrays["head/kernel"].T)


def test_the_numbers_lie_as_flax_has_them(arrays):
    result = arrays_in_format(arrays, "npz", VIT)
    kernel = arrays["encoder/projection/kernel"]
    assert result["embedding/kernel"].shape == (3, 3, 5, 10)
    assert result["embedding/kernel"][2, 1, 4, 9] == kernel[(2 * 3 + 1) * 5 + 4, 9]
    attention = "Transformer/encoderblock_0/MultiHeadDotProductAttention_1"
    query, out = arrays["block_00/attention/query/kernel"], arrays["block_00/attention/out/kernel"]
    np.testing.assert_array_equal(result[f"{attention}/query/kernel"][:, 1], query[:, 5:])  # the second head of two
    np.testing.assert_array_equal(result[f"{attention}/out/kernel"][1], out[5:])
    assert result[f"{attention}/value/bias"].shape == (2, 5)


def test_norms_of_groups_have_four_axes_in_the_official_files_and_the_head_of_a_bit_is_a_convolution():
    hybrid = keras_vit.Variant(1, 10, 1, 2, 7, stem=keras_vit.ResNet((1,), (128,)))
    gamma = np.arange(32, dtype=np.float32)
    for format, shape in (("npz", (1, 1, 1, 32)), ("hf", (32,)), ("timm", (32,))):
        (result,) = arrays_in_format({"stage1_unit01/norm2/gamma": gamma}, format, hybrid).values()
        np.testing.assert_array_equal(result, gamma.reshape(shape))
    head = np.arange(128 * 11, dtype=np.float32).reshape(128, 11)
    for format, expected in (("bit", head[None, None]), ("hf", head.T), ("timm", head.T[..., None, None])):
        (result,) = arrays_in_format({"head/kernel": head}, format, hybrid.stem).values()
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("format", ["npz", "hf", "timm"])
def test_what_is_written_is_read_and_the_numbers_are_float32_in_one_piece(tmp_path, arrays, format):
    path = tmp_path / ("file.npz" if format == "npz" else "folder")
    write_checkpoint(path, format, arrays, model(), OFFICIAL_VIT, PIXELS)
    with open_checkpoint_file(path) as file:
        result = dict(read_weights(file, SHAPES, VIT, grid=(2, 3)))
        assert (file.format, file.left_out) == (format, ())
    assert result.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(result[name], array, err_msg=name)
    if format == "npz":
        with np.load(path, allow_pickle=False) as file:
            assert {file[name].dtype for name in file.files} == {np.dtype("f4")}
    else:
        assert json.loads((path / "config.json").read_text("utf-8"))


ODD = {
    "bit, official": ("npz", keras_vit.ResNet((1,), (128,)), {}, "the official code has no BiT"),
    "vit, bit": ("bit", VIT, {}, "BiT's project has no transformer"),
    "none": ("npz", keras_vit.Variant(3, 10, 1, 2, 7, pooling="none"), {}, "a file looks the same with 'gap'"),
    "gap, hf": (
        "hf",
        keras_vit.Variant(1, 10, 1, 2, 7, keras_vit.ResNet((1,), (128,)), pooling="gap"),
        {},
        "pooling='gap': transformers' classifiers",
    ),
    "map, npz": ("npz", keras_vit.Variant(3, 10, 1, 2, 7, pooling="map"), {}, "no file of 'npz' has this"),
    "distilled, timm": ("timm", DEIT, {}, "a distillation token: only transformers"),
    "distilled hybrid": (
        "hf",
        keras_vit.Variant(1, 10, 1, 2, 7, keras_vit.ResNet((1,), (128,)), distillation_token=True),
        {},
        "the project's hybrid has none",
    ),
    "pre_logits, hf": ("hf", VIT, {"representation_size": 10}, "classifiers read the class token itself"),
    "pre_logits, timm": ("timm", VIT, {"representation_size": 10, "classes": None}, "timm has none"),
    "pooler of a hybrid": (
        "hf",
        keras_vit.Variant(1, 10, 1, 2, 7, keras_vit.ResNet((1,), (128,))),
        {"representation_size": 13, "classes": None},
        "pre_logits of width 13: the pooler",
    ),
    "positions": ("timm", dataclasses.replace(VIT, positions="none"), {}, "positions='none': no other project's"),
    "window": ("hf", dataclasses.replace(VIT, attention_window=2), {}, "attention_window=2: no other project's"),
    "registers, npz": (
        "npz",
        dataclasses.replace(VIT, register_tokens=4, layer_scale=1.0),
        {},
        "register_tokens=4, layer_scale=1.0: the official code has no such layers",
    ),
    "registers, hf": ("hf", dataclasses.replace(VIT, register_tokens=4), {}, "in DINOv2, with LayerScale"),
    "both, timm": ("timm", DINOV2, {}, "pooling='token+gap': only transformers' DINOv2"),
    "both, hf": ("hf", dataclasses.replace(VIT, pooling="token+gap"), {}, "with a head and LayerScale"),
    "one, hf": (
        "hf",
        dataclasses.replace(VIT, layer_scale=1.0),
        {"image_size": (6, 6)},
        "transformers' DINOv2 reads 'token+gap'",
    ),
    "oblong": ("hf", DINOV2, {}, "a grid of patches that is not a square"),
    "gated": ("hf", dataclasses.replace(DINOV2, mlp_dim=7), {"image_size": (6, 6)}, "have multiples of 8"),
    "two heads and registers": (
        "timm",
        dataclasses.replace(DEIT, pooling="token+distillation", register_tokens=4),
        {},
        "timm's distilled DeiT has no such layers",
    ),
    "no heads": (
        "hf",
        dataclasses.replace(DEIT, pooling="token+distillation"),
        {"classes": None},
        "without a head, a file looks the same with 'token'",
    ),
    "no shortcut": ("hf", keras_vit.ResNet((1,), (128,), 128), {}, "a first stage as wide as the stem"),
    "rest of a map": (
        "timm",
        keras_vit.Variant(3, 10, 1, 2, 7, keras_vit.ResNet((), ())),
        {"image_size": (48, 64)},
        "not an integer number of patches",
    ),
}


@pytest.mark.parametrize("format, variant, facts, expected", ODD.values(), ids=ODD)
def test_what_a_format_cannot_hold(format, variant, facts, expected):
    (fault,) = find_unsupported(format, [], model(variant, **facts))
    assert expected in fault


def test_all_faults_are_found_at_once_and_weights_without_a_name_are_among_them():
    paths = ["encoder/distillation_token", "pre_logits/bias", *(f"adapter_{i}/kernel" for i in range(7))]
    faults = find_unsupported("timm", paths, model(DEIT, representation_size=10))
    assert [fault.split(":")[0] for fault in faults] == [
        "a distillation token",
        "a layer pre_logits",
        "weights without a name in it",
    ]
    assert faults[-1].endswith(
        "adapter_0/kernel, adapter_1/kernel, adapter_2/kernel, adapter_3/kernel, adapter_4/kernel, ..."
    )


@pytest.mark.parametrize("format", WRITTEN_FORMATS)
def test_what_fits_is_supported(format):
    variant = keras_vit.ResNet((1,), (128,)) if format == "bit" else VIT
    paths = ["stem/conv/kernel"] if format == "bit" else SHAPES
    assert find_unsupported(format, paths, model(variant)) == []


@pytest.mark.parametrize(
    "format, numerics, expected",
    [
        ("npz", OFFICIAL_VIT, []),
        ("npz", Numerics("erf", 1e-12), ["gelu='tanh' for 'erf', norm_epsilon=1e-06 for 1e-12"]),
        ("hf", Numerics("erf", 1e-3), []),
        ("timm", Numerics("tanh", 1e-12), ["norm_epsilon=1e-06 for 1e-12", "pass act_layer='gelu_tanh'"]),
        ("timm", Numerics("erf"), []),
    ],
)
def test_what_the_project_computes_differently_is_logged(tmp_path, arrays, caplog, format, numerics, expected):
    caplog.set_level(logging.INFO, "keras_vit")
    path = tmp_path / ("file.npz" if format == "npz" else "folder")
    write_checkpoint(path, format, arrays, model(), numerics, PIXELS)
    assert len(caplog.messages) == len(expected)
    for message, text in zip(caplog.messages, expected):
        assert message.startswith(str(path)) and text in message


def test_of_convolutions_and_pixels_it_is_said_too(tmp_path, caplog):
    caplog.set_level(logging.INFO, "keras_vit")
    bit, arrays = keras_vit.ResNet((1,), (128,)), {"norm/gamma": np.ones(128, np.float32)}
    write_checkpoint(
        tmp_path / "folder",
        "timm",
        arrays | {"stem/conv/kernel": np.ones((7, 7, 5, 64), np.float32)},
        model(bit),
        OFFICIAL_BIT,
        PIXELS,
    )
    assert "conv_epsilon=1e-08 for 1e-10" in caplog.messages[0]
    assert "timm has no function" in caplog.messages[1]
    write_checkpoint(tmp_path / "file.npz", "bit", arrays, model(bit), OFFICIAL_BIT, PIXELS | {"std": (0.25,) * 5})
    assert "std=(0.25," in caplog.messages[2]


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["folder", "folder/file.safetensors"])
def test_a_checkpoint_replaces_an_older_one_whole_or_not_at_all(tmp_path, arrays, name, monkeypatch):
    def write(classes):
        write_checkpoint(tmp_path / name, "hf", arrays, model(classes=classes), OFFICIAL_VIT, PIXELS)

    write(11)
    first = contents(tmp_path)
    assert len(first) == 3
    monkeypatch.setattr("pathlib.Path.write_text", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write(None)
    assert contents(tmp_path) == first
    monkeypatch.undo()
    write(None)
    again = contents(tmp_path)
    assert again.keys() == first.keys()
    assert b"ViTModel" in again["folder/config.json"]


def test_files_of_others_are_never_overwritten(tmp_path, arrays):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "config.json").write_text("another's")
    for name, received in ((".", "with notes.txt"), ("new.safetensors", "next to a config.json")):
        with pytest.raises(ValueError, match=received):
            write_checkpoint(tmp_path / name, "timm", arrays, model(), OFFICIAL_VIT, PIXELS)
    assert contents(tmp_path) == {"notes.txt": b"mine", "config.json": b"another's"}


def test_transformers_is_told_that_the_file_is_its_own_kind(tmp_path, arrays):
    from safetensors import safe_open

    write_checkpoint(tmp_path / "file.safetensors", "hf", arrays, model(), OFFICIAL_VIT, PIXELS)
    with safe_open(tmp_path / "file.safetensors", "numpy") as file:
        assert file.metadata() == {"format": "pt"}
    with open_arrays(tmp_path / "file.safetensors") as file:
        assert "vit.layernorm.weight" in file.shapes
        assert "classifier.weight" in file.shapes


@pytest.mark.parametrize("path", ["folder", "file.safetensors"])
def test_weights_are_as_readable_as_their_configuration(tmp_path, arrays, path):
    write_checkpoint(tmp_path / path, "hf", arrays, model(VIT), OFFICIAL_VIT, PIXELS)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 1 and len({file.stat().st_mode for file in files}) == 1
