"""Whose file it is, and what it says beside its numbers."""

import json
import logging

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_vit
from keras_vit.layers.positions import resize_positions
from keras_vit.models.config import OFFICIAL_BIT, OFFICIAL_VIT, Numerics
from keras_vit.weights.formats import open_checkpoint_file

TRANSFORMERS = Numerics("erf", 1e-12, 1e-5, 1e-8, True)
DINOV2 = TIMM = Numerics("erf", 1e-6, 1e-5, 1e-8, True)


@pytest.fixture
def save_tensors(tmp_path):
    """Writes {name: array} as a .safetensors file with the JSON files beside it, and returns its path."""

    def save_tensors(arrays, **beside):
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        save_file(arrays, folder / "model.safetensors")
        for name, content in beside.items():
            (folder / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))
        return folder / "model.safetensors"

    return save_tensors


@pytest.fixture
def config(oracle):
    """Returns the config.json of a case with some values changed."""

    def config(case="hf_vit_32", **changed):
        return json.loads(str(oracle.numbers("configs")[case])) | changed

    return config


def values(model):
    return {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for path, array in expected.items():
        np.testing.assert_array_equal(found[path], array, err_msg=path)


@pytest.mark.parametrize(
    "case, format, numerics",
    [
        ("token_32", "npz", OFFICIAL_VIT),
        ("hybrid_stem_64", "npz", OFFICIAL_VIT),
        ("bit_1111x1_64", "bit", OFFICIAL_BIT),
        ("hf_vit_32", "hf", TRANSFORMERS),
        ("hf_deit_32", "hf", TRANSFORMERS),
        ("hf_vit_hybrid_64", "hf", TRANSFORMERS),
        ("hf_bit_64", "hf_bit", TRANSFORMERS),
        ("timm_vit_32", "timm", TIMM),
        ("hf_dinov2_32", "hf_dinov2", DINOV2),
        ("hf_dinov2_registers_swiglu_32", "hf_dinov2_swiglu", DINOV2),
        ("hf_deit_teacher_32", "hf_distilled", TRANSFORMERS),
        ("timm_dinov2_giant_32", "timm", TIMM),
        ("timm_deit_distilled_32", "timm", TIMM),
    ],
)
def test_the_format_is_recognized_by_its_names(oracle, tmp_path, case, format, numerics):
    path = oracle.write(case, tmp_path)
    with open_checkpoint_file(path) as file:
        assert (file.format, file.numerics) == (format, numerics)
        assert all(name.endswith("mask_token") for name in file.left_out)
        assert len(file.shapes) == len(oracle.file_shapes(case)) - len(file.left_out)
    path.with_name("config.json").unlink(missing_ok=True)
    with open_checkpoint_file(path) as file:
        assert (file.format, file.numerics) == (format, numerics)


@pytest.mark.parametrize(
    "case, mode",
    [
        ("hf_deit_teacher_32", "torch"),
        ("hf_dinov2_24x48", "torch"),
        ("hf_dinov2_registers_24x48", "antialias"),
        ("timm_dinov2_reg4_24x48", "antialias"),
    ],
)
def test_positions_are_resized_as_the_project_does(oracle, tmp_path, case, mode):
    with open_checkpoint_file(oracle.write(case, tmp_path)) as file:
        assert file.position_resize == mode


def test_timms_bit_is_told_from_transformers(save_tensors):
    names = {"stages.0.blocks.0.conv2.weight": (32, 32, 3, 3), "stem.conv.weight": (64, 3, 7, 7)}
    with open_checkpoint_file(
        save_tensors({name: np.ones(shape, np.float32) for name, shape in names.items()})
    ) as file:
        assert file.format == "timm_bit"


@pytest.mark.parametrize("prefix", ["opt/target/", "params/", "params/img/"])
def test_what_stands_in_front_of_every_name_is_taken_off(oracle, save, prefix):
    arrays = oracle.checkpoint()
    with open_checkpoint_file(save({f"{prefix}{name}": array for name, array in arrays.items()})) as file:
        assert (file.format, file.left_out) == ("npz", ())
        assert file.shapes == {name: array.shape for name, array in arrays.items()}
        np.testing.assert_array_equal(file.read("head/kernel"), arrays["head/kernel"])
        np.testing.assert_array_equal(file.read("head/kernel", (1, 3)), arrays["head/kernel"][1:3])


def test_an_optimizers_state_is_left_out_and_said(oracle, save, caplog):
    arrays = oracle.checkpoint()
    state = {f"opt/target/{name}": array for name, array in arrays.items()}
    state |= {f"opt/state/param_states/{name}/momentum": array for name, array in arrays.items()}
    state["opt/state/step"] = np.int64(1000)
    with caplog.at_level(logging.INFO, "keras_vit"):
        model = keras_vit.load(save(state))
    assert_equal(values(model), values(keras_vit.load(save(arrays, "plain.npz"))))
    assert [
        line for line in caplog.messages if line.endswith(f" and {len(arrays) + 1 - 5} more") and "left out" in line
    ]


@pytest.mark.parametrize("case, wrapper", [("hf_vit_32", "vit."), ("hf_deit_32", "deit."), ("hf_bit_64", "bit.")])
def test_a_model_of_transformers_alone_has_the_names_of_that_in_a_classifier(oracle, save_tensors, case, wrapper):
    arrays = oracle.arrays(case)
    with open_checkpoint_file(save_tensors(arrays)) as file:
        inside = file.shapes
    alone = {name.removeprefix(wrapper): array for name, array in arrays.items()}
    assert len([name for name in alone if name not in arrays]) > 40
    with open_checkpoint_file(save_tensors(alone)) as file:
        assert file.shapes == inside == {name: array.shape for name, array in alone.items()}


def test_a_token_that_masks_patches_in_training_is_left_out(oracle, save_tensors, config):
    arrays = oracle.arrays("hf_vit_32")
    masking = arrays | {"vit.embeddings.mask_token": np.ones((1, 1, 32), np.float32)}
    result = values(keras_vit.load(save_tensors(masking, config=config())))
    assert_equal(result, values(keras_vit.load(save_tensors(arrays, config=config()))))


def test_bits_convolutions_may_be_numbered_throughout(oracle, save):
    shapes = oracle.file_shapes("bit_1111x1_64")
    numbered = {}
    for number, name in enumerate(shapes):
        for layer in ("standardized_conv2d", "group_norm"):
            name = name.replace(f"{layer}/", f"{layer}_{number}/")
        numbered[name] = np.zeros(1, np.float32)
    assert len(set(numbered) - set(shapes)) == 43
    with open_checkpoint_file(save(numbered)) as file:
        assert (file.format, set(file.shapes)) == ("bit", set(shapes))


def test_group_norms_of_one_axis_and_of_four(oracle, save):
    arrays = oracle.arrays("hybrid_stem_64")
    assert arrays["gn_root/scale"].shape == (1, 1, 1, 64)
    flat = {name: array.ravel() if name.startswith("gn_") else array for name, array in arrays.items()}
    assert_equal(values(keras_vit.load(save(flat))), values(keras_vit.load(save(arrays, "four.npz"))))


def test_two_names_that_become_one(oracle, save, save_tensors):
    arrays = {f"params/{name}": array for name, array in oracle.checkpoint().items()}
    with open_checkpoint_file(save(arrays | {"cls": arrays["params/cls"]})) as file:  # only one is the model's
        assert file.left_out == ("cls",)
    arrays = oracle.arrays("hf_vit_32")
    twice = arrays | {"embeddings.cls_token": arrays["vit.embeddings.cls_token"]}
    with pytest.raises(ValueError, match="one array a weight.*embeddings.cls_token.*, .*embeddings.cls_token"):
        keras_vit.load(save_tensors(twice))


def test_a_file_of_something_else(save):
    path = save({f"layer_{i}/weights": np.ones(3, np.float32) for i in range(7)})
    for attempt in (lambda: keras_vit.load(path), lambda: keras_vit.ViT_Ti16(weights=path)):
        with pytest.raises(ValueError, match=r"Vision Transformer or a BiT.*checkpoint.npz with 7 arrays, layer_0/wei"):
            attempt()


# What stands beside the file.


def test_a_configuration_says_what_shapes_do_not(oracle, save_tensors, config):
    said = config(layer_norm_eps=0.5, hidden_act="gelu_new", num_attention_heads=2)
    model = keras_vit.load(save_tensors(oracle.arrays("hf_vit_32"), config=said))
    block = model.get_layer("block_01")
    assert (block.attention.num_heads, block.mlp.gelu) == (2, "tanh")
    assert [norm.epsilon for norm in (block.attention_norm, block.mlp_norm, model.get_layer("norm"))] == [0.5] * 3


def test_the_caller_says_otherwise(oracle, save_tensors, config):
    path = save_tensors(oracle.arrays("hf_vit_32"), config=config())
    block = keras_vit.load(path, gelu="tanh", norm_epsilon=0.25).get_layer("block_00")
    assert (block.mlp.gelu, block.mlp_norm.epsilon) == ("tanh", 0.25)


def test_without_a_configuration_transformers_defaults_are_taken_and_said(oracle, save_tensors, caplog):
    with caplog.at_level(logging.INFO, "keras_vit"):
        block = keras_vit.load(save_tensors(oracle.arrays("hf_vit_32")), num_heads=4).get_layer("block_00")
    assert (block.attention.num_heads, block.mlp.gelu, block.mlp_norm.epsilon) == (4, "erf", 1e-12)
    assert [line for line in caplog.messages if "no config.json" in line and "layer_norm_eps 1e-12, exact GELU" in line]


def test_another_architecture_is_refused_with_all_that_differs(oracle, save_tensors, config):
    said = config("hf_bit_64", layer_type="bottleneck", global_padding="SAME", num_groups=16, hidden_act="relu")
    with pytest.raises(ValueError) as error:
        keras_vit.load(save_tensors(oracle.arrays("hf_bit_64"), config=said))
    first, *rest = str(error.value).splitlines()
    assert first.endswith("config.json is of another architecture:")
    assert rest == [
        "  layer_type='bottleneck', expected 'preactivation'",
        "  global_padding='SAME', expected None",
        "  num_groups=16, expected 32",
    ]


@pytest.mark.parametrize(
    "case, name, value",
    [
        ("hf_vit_32", "hidden_size", 37),
        ("hf_vit_32", "intermediate_size", 37),
        ("hf_vit_32", "num_hidden_layers", 1),
        ("hf_vit_32", "patch_size", 7),
        ("hf_vit_32", "num_channels", 1),
        ("hf_vit_32", "id2label", {"0": "a", "1": "b"}),
        ("hf_bit_64", "num_channels", 1),
        ("timm_vit_32", "num_classes", 37),
        ("timm_vit_32", "num_features", 37),
        ("timm_vit_32", "model_args", {"patch_size": 7}),
    ],
)
def test_a_configuration_that_contradicts_the_arrays_is_refused(oracle, save_tensors, config, case, name, value):
    said = {"num_heads": 4} if case == "timm_vit_32" else config(case)
    path = save_tensors(oracle.arrays(case), config=said | {name: value})
    with pytest.raises(ValueError, match=r"config.json next to it is of another model:\n  \w+: \d+, in the arrays"):
        keras_vit.load(path, num_heads=4)


def test_another_backbone_of_a_hybrid_is_refused(oracle, save_tensors, config):
    said = config("hf_vit_hybrid_64")
    said["backbone_config"] |= {"layer_type": "preactivation", "output_stride": 16}
    with pytest.raises(ValueError, match=r"layer_type='preactivation', expected 'bottleneck'\n  output_stride=16"):
        keras_vit.load(save_tensors(oracle.arrays("hf_vit_hybrid_64"), config=said))


def test_an_unknown_activation_is_refused(oracle, save_tensors, config):
    with pytest.raises(ValueError, match="hidden_act='relu', expected 'gelu' or 'gelu_new'"):
        keras_vit.load(save_tensors(oracle.arrays("hf_vit_32"), config=config(hidden_act="relu")))


@pytest.mark.parametrize("content", ["{", "", "[1, 2]", "7", "\ufeff{}"])
@pytest.mark.parametrize("name", ["config", "preprocessor_config"])
def test_a_configuration_that_cannot_be_read(oracle, save_tensors, content, name):
    with pytest.raises(ValueError, match=rf"model.{name}\.json cannot be read"):
        keras_vit.load(save_tensors(oracle.arrays("hf_vit_32"), **{name: content}))


def test_heads_of_a_configuration_that_are_not_the_variants(oracle, save_tensors, config):
    path = save_tensors(oracle.arrays("hf_vit_32"), config=config(num_attention_heads=2))
    for attempt in (
        lambda: keras_vit.build(keras_vit.Variant(*oracle.SIZES), weights=path),
        lambda: keras_vit.load(path, num_heads=4),
    ):
        with pytest.raises(ValueError, match="with 4 attention heads.*with 2"):
            attempt()


def test_the_images_of_a_processor(oracle, save_tensors, config):
    processor = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "resample": 3}
    path = save_tensors(oracle.arrays("hf_vit_32"), config=config(), preprocessor_config=processor)
    pixels = keras_vit.load(path).pixels
    assert (pixels.mean, pixels.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert (pixels.interpolation, pixels.antialias, pixels.crop) == ("bicubic", True, None)


def test_what_timm_says(oracle, save_tensors):
    said = {
        "model_args": {"num_heads": 8, "act_layer": "gelu_tanh"},
        "pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "crop_pct": 0.9, "input_size": [3, 32, 32]},
    }
    model = keras_vit.load(save_tensors(oracle.arrays("timm_vit_32"), config=said))
    assert (model.pixels.mean, model.pixels.crop) == ((0.1, 0.2, 0.3), 0.9)
    block = model.get_layer("block_00")
    assert (block.attention.num_heads, block.mlp.gelu, block.mlp_norm.epsilon) == (8, "tanh", 1e-6)


def test_what_timm_says_of_another_architecture(oracle, save_tensors):
    arrays = {name: array for name, array in oracle.arrays("timm_vit_32").items() if name != "cls_token"}
    said = {"global_pool": "token", "model_args": {"num_heads": 4, "act_layer": "relu"}}
    with pytest.raises(ValueError, match=r"act_layer='relu'.*\n.*global_pool='token', and cls_token is missing"):
        keras_vit.load(save_tensors(arrays, config=said))


@pytest.mark.parametrize("norm", ["norm", "fc_norm"])
def test_a_head_of_timms_that_reads_the_mean(oracle, save_tensors, norm):
    """The mean of the patch tokens before or after the last norm, beside a class token."""
    arrays = {name.replace("norm.", f"{norm}."): array for name, array in oracle.arrays("timm_vit_32").items()}
    path = save_tensors(arrays, config={"global_pool": "avg", "model_args": {"num_heads": 4}})
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    logits = keras_vit.load(path, classifier_activation=None).predict(images, verbose=0)
    plain = keras_vit.load(save_tensors(oracle.arrays("timm_vit_32")), num_heads=4)
    tokens = keras.Model(plain.input, plain.get_layer("norm" if norm == "norm" else "block_02").output)
    x = tokens.predict(images, verbose=0)[:, 1:].mean(axis=1)
    if norm == "fc_norm":
        x = plain.get_layer("norm")(x)
    np.testing.assert_allclose(logits, x @ arrays["head.weight"].T + arrays["head.bias"], atol=1e-5)


def test_a_folder_with_a_file_in_parts(oracle, save_tensors, config):
    """As transformers writes models of more than 5 GB."""
    arrays, kept = oracle.arrays("hf_vit_32"), config()
    path = save_tensors(arrays, config=kept)
    whole = values(keras_vit.load(path))
    path.unlink()
    places = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(arrays)}
    for place in {*places.values()}:
        save_file({name: array for name, array in arrays.items() if places[name] == place}, path.with_name(place))
    with pytest.raises(ValueError, match="with model-00001-of-00002.safetensors, model-00002"):
        keras_vit.load(path.parent)
    index = path.with_name("model.safetensors.index.json")
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    for one in (path.parent, index):
        model = keras_vit.load(one)
        assert_equal(values(model), whole)
        assert model.get_layer("norm").epsilon == kept["layer_norm_eps"]


def test_positions_of_another_grid_of_as_many_patches_are_resized_where_the_file_tells(oracle, save_tensors, config):
    arrays = oracle.arrays("hf_vit_32")
    table = arrays["vit.embeddings.position_embeddings"]
    path = save_tensors(arrays, config=config(image_size=[64, 16]))
    own, resized = (
        values(keras_vit.load(path, **given))["encoder/position_embedding"]
        for given in ({}, {"input_shape": (32, 32, 3)})
    )
    np.testing.assert_array_equal(own, table)
    np.testing.assert_array_equal(resized, resize_positions(table, (8, 2), (4, 4), "torch"))


def test_a_folder_as_of_the_hub(oracle, save_tensors, config):
    path = save_tensors(oracle.arrays("hf_vit_32"), config=config())
    assert_equal(values(keras_vit.load(path.parent)), values(keras_vit.load(path)))


@pytest.mark.parametrize("names", [(), ("a.safetensors", "b.safetensors")])
def test_a_folder_with_none_or_two(tmp_path, names):
    for name in names:
        save_file({"one": np.ones(1, np.float32)}, tmp_path / name)
    with pytest.raises(ValueError, match="a folder with one .safetensors file, or.*Received: .*") as error:
        keras_vit.load(tmp_path)
    assert f"with {', '.join(names) or 'none'}" in str(error.value)


# What is asked of the caller, and what is made to fit.


def test_an_oblong_grid_needs_the_size(oracle, save):
    path = save(oracle.checkpoint(rows=48, columns=24))
    with pytest.raises(ValueError, match=r"square grid of patches.*Pass input_shape="):
        keras_vit.load(path)
    assert keras_vit.load(path, input_shape=(48, 24, 3)).input_shape == (None, 48, 24, 3)


def test_a_file_without_a_head_gives_features(oracle, save):
    model = keras_vit.load(save(oracle.checkpoint(include_top=False)))
    assert model.output_shape == (None, 32)
    assert model.layers[-1].name == "pooling"


def test_the_pooler_is_read_where_its_width_is_asked_for(oracle, save_tensors, config, caplog):
    path = save_tensors(oracle.arrays("hf_vit_pooler_32"), config=config("hf_vit_pooler_32"))
    with caplog.at_level(logging.INFO, "keras_vit"):
        assert keras_vit.load(path).layers[-1].name == "pooling"
    assert [line for line in caplog.messages if line.endswith("left out pooler.dense.bias, pooler.dense.weight")]
    kernel = values(keras_vit.load(path, representation_size=32))["pre_logits/kernel"]
    np.testing.assert_array_equal(kernel, oracle.arrays("hf_vit_pooler_32")["pooler.dense.weight"].T)


def test_a_head_of_zeros_is_warned_of(oracle, save, caplog):
    arrays = oracle.checkpoint()
    arrays["head/kernel"] = np.zeros_like(arrays["head/kernel"])
    keras_vit.load(save(arrays))
    (record,) = [record for record in caplog.records if record.name == "keras_vit"]
    assert record.levelno == logging.WARNING
    assert "all zeros" in record.getMessage() and "new_head=True" in record.getMessage()


@pytest.mark.parametrize(
    "case, name, how, channels, expected",
    [
        ("token_32", "embedding/kernel", "average", 2, lambda rgb: rgb.sum(axis=2, keepdims=True)[:, :, [0, 0]] / 2),
        ("hybrid_stem_64", "conv_root/kernel", "repeat", 5, lambda rgb: rgb[:, :, [0, 1, 2, 0, 1]] * 0.6),
        ("timm_vit_32", "patch_embed.proj.weight", "slice", 2, lambda rgb: rgb[:, :, :2]),
    ],
)
def test_images_of_other_channels(oracle, tmp_path, case, name, how, channels, expected):
    about, kernel = oracle.CASES[case], oracle.arrays(case)[name]
    shape = (*about.size, channels)
    result = values(keras_vit.load(oracle.write(case, tmp_path), input_shape=shape, channels=how, **about.load))
    result = result["stem/conv/kernel" if "stem" in case else "encoder/projection/kernel"]
    kernel = expected(kernel.transpose(2, 3, 1, 0) if name.endswith("weight") else kernel)
    np.testing.assert_allclose(result.reshape(kernel.shape), kernel, rtol=1e-6, atol=1e-7)


def test_other_channels_are_asked_about(oracle, save):
    with pytest.raises(ValueError, match=r"3 channels.*input_shape=\(32, 32, 5\).*channels='average'"):
        keras_vit.load(save(oracle.checkpoint()), input_shape=(32, 32, 5))


@pytest.mark.parametrize(
    "case, name, mode",
    [
        ("gap_32", "Transformer/posembed_input/pos_embedding", "corner"),
        ("hf_vit_32", "vit.embeddings.position_embeddings", "torch"),
        ("timm_vit_32", "pos_embed", "antialias"),
    ],
)
def test_positions_are_resized_as_the_files_project_does_and_the_model_knows(oracle, tmp_path, case, name, mode):
    path = oracle.write(case, tmp_path)
    encoder = keras_vit.load(path, input_shape=(56, 40, 3), **oracle.CASES[case].load).get_layer("encoder")
    assert encoder.position_resize == mode
    resized = resize_positions(oracle.arrays(case)[name], (4, 4), (7, 5), mode)
    np.testing.assert_array_equal(encoder.position_embedding, resized)


def test_the_way_of_resizing_that_the_caller_chose_is_kept_with_the_model(oracle, save, tmp_path):
    path = save(oracle.checkpoint())
    assert keras_vit.load(path).get_layer("encoder").position_resize is None  # nothing was
    model = keras_vit.load(path, input_shape=(56, 40, 3), position_resize="half_pixel")
    table = oracle.checkpoint()["Transformer/posembed_input/pos_embedding"]
    resized = resize_positions(table, (4, 4), (7, 5), "half_pixel")
    np.testing.assert_array_equal(model.get_layer("encoder").position_embedding, resized)
    model.save(tmp_path / "model.keras")
    assert keras_vit.load(tmp_path / "model.keras").get_layer("encoder").position_resize == "half_pixel"


@pytest.mark.parametrize(
    "case, name",
    [
        ("token_32", "head/bias"),
        ("rep_32", "pre_logits/bias"),
        ("bit_1111x1_64", "resnet/head/conv2d/bias"),
        ("hf_vit_32", "classifier.bias"),
        ("hf_bit_64", "classifier.1.bias"),
        ("hf_deit_32", "deit.embeddings.distillation_token"),
        ("timm_vit_32", "head.bias"),
        ("timm_deit_distilled_32", "head_dist.weight"),
        ("timm_dinov2_giant_32", "blocks.0.ls1.gamma"),
    ],
)
def test_one_missing_array_of_an_optional_part_is_missed(oracle, tmp_path, case, name):
    path = oracle.write(case, tmp_path)
    arrays = dict(oracle.arrays(case))
    (stored,) = [one for one in arrays if one == name or one.endswith(f".{name}") or name.endswith(f".{one}")]
    del arrays[stored]
    (np.savez if path.suffix == ".npz" else lambda path, **arrays: save_file(arrays, path))(path, **arrays)
    heads = {"num_heads": 4} if case.startswith("timm") else {}
    ending = name.removeprefix("deit.")
    with pytest.raises(ValueError, match=rf"does not fit the model:\n  missing: \S*{ending} .*\Z"):
        keras_vit.load(path, **heads)


@pytest.mark.parametrize("changed", [{"num_hidden_layers": 4}, {"num_register_tokens": 2}])
def test_a_configuration_of_more_than_the_file_has(oracle, save_tensors, config, changed):
    path = save_tensors(oracle.arrays("hf_vit_32"), config=config(**changed))
    with pytest.raises(ValueError, match="missing"):
        keras_vit.load(path)


def test_a_class_token_that_the_configuration_of_timm_expects(oracle, save_tensors):
    arrays = dict(oracle.arrays("timm_deit3_32"))
    del arrays["cls_token"]
    with pytest.raises(ValueError, match="cls_token is missing"):
        keras_vit.load(save_tensors(arrays, config={"global_pool": "token"}), num_heads=4)


@pytest.mark.parametrize("layers", [99, 10**9])
def test_numbers_of_blocks_that_no_file_can_have(oracle, save, layers):
    arrays = oracle.checkpoint()
    arrays[f"Transformer/encoderblock_{layers}/LayerNorm_0/bias"] = np.ones(32, np.float32)
    with pytest.raises(ValueError, match="missing|cannot be those of") as error:
        keras_vit.load(save(arrays))
    assert len(str(error.value)) < 2000


def test_a_stacked_array_of_more_blocks_than_any_model(oracle, save):
    arrays = oracle.checkpoint() | {"Transformer/encoderblock/LayerNorm_0/bias": np.zeros((10**9, 0), np.float32)}
    with pytest.raises(ValueError, match="at most 1000 blocks"):
        keras_vit.load(save(arrays))


def test_sizes_whose_model_is_far_larger_than_the_file(oracle, save):
    arrays = oracle.checkpoint() | {"embedding/kernel": np.zeros((1, 1, 3, 10**6), np.float32)}
    with pytest.raises(ValueError, match=r"checkpoint\.npz: its sizes are those of a model of"):
        keras_vit.load(save(arrays))


@pytest.mark.parametrize(
    "file, field, value",
    [
        ("config", "layer_norm_eps", "1e-6"),
        ("config", "layer_norm_eps", -1),
        ("config", "layer_norm_eps", float("nan")),
        ("config", "num_attention_heads", 2.5),
        ("config", "hidden_act", ["gelu"]),
        ("config", "image_size", {"height": 32}),
        ("config", "backbone_config", [1]),
        ("preprocessor_config", "image_mean", "0.5"),
        ("preprocessor_config", "image_std", [1, None, 1]),
        ("preprocessor_config", "rescale_factor", "x"),
        ("preprocessor_config", "size", {"height": "32"}),
        ("preprocessor_config", "resample", [2]),
        ("preprocessor_config", "do_normalize", "no"),
    ],
)
def test_values_of_other_types_in_a_configuration(oracle, save_tensors, config, file, field, value):
    beside = {"config": config()} | {file: (config() if file == "config" else {}) | {field: value}}
    with pytest.raises(ValueError, match=rf"{file}\.json holds values of other types.*\n  {field}="):
        keras_vit.load(save_tensors(oracle.arrays("hf_vit_32"), **beside))


def test_lists_that_are_nested_too_deeply(oracle, save_tensors):
    with pytest.raises(ValueError, match=r"config\.json cannot be read"):
        keras_vit.load(save_tensors(oracle.arrays("hf_vit_32"), config="[" * 10**5))


@pytest.mark.parametrize("field, value", [("image_std", [0, 1, 1]), ("image_mean", [1, 2]), ("size", 3)])
def test_pixels_that_no_model_reads_name_the_file(oracle, save_tensors, config, field, value):
    processor = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_center_crop": True, "crop_size": 2, field: value}
    path = save_tensors(oracle.arrays("hf_vit_32"), config=config(), preprocessor_config=processor)
    if field == "size":
        assert keras_vit.load(path).pixels.crop == 2 / 3
        return
    with pytest.raises(ValueError, match=r"model\.safetensors has other pixels"):
        keras_vit.load(path)


def test_long_names_are_shortened(save):
    with pytest.raises(ValueError, match="and 1 more") as error:
        keras_vit.load(save({f"{i}{'x' * 9999}": np.ones(1, np.float32) for i in range(6)}))
    assert len(str(error.value)) < 2000


def test_null_stands_for_the_default(oracle, save_tensors, config):
    processor = {"rescale_factor": None, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": None}
    path = save_tensors(oracle.arrays("hf_vit_32"), config=config(layer_norm_eps=None), preprocessor_config=processor)
    assert keras_vit.load(path).get_layer("norm").epsilon == TRANSFORMERS.norm_epsilon


@pytest.mark.parametrize("name", ["head/bias", "pre_logits/bias"])
def test_a_bias_without_axes(oracle, save, name):
    arrays = oracle.checkpoint(representation_size=20) | {name: np.float32(1)}
    with pytest.raises(ValueError, match=rf"checkpoint\.npz.*(too few|misfit)|misfit:  {name}"):
        keras_vit.build(keras_vit.Variant(*oracle.SIZES), classes=10, representation_size=20, weights=save(arrays))
