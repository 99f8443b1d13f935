import pytest

import keras_vit
from keras_vit.models.config import OFFICIAL_VIT, VARIANTS, Numerics
from keras_vit.weights.architecture import Architecture
from keras_vit.weights.configuration import TIMM, hf_files, timm_architecture, timm_files

PIXELS = {
    "mean": (0.1, 0.2, 0.3),
    "std": (0.4, 0.5, 0.6),
    "interpolation": "bicubic",
    "crop": None,
    "keep_aspect": True,
}
STEM = keras_vit.ResNet((1, 2, 1), (128, 256, 384))


def hf_config(variant, classes=3, image_size=(35, 49), representation_size=None, numerics=OFFICIAL_VIT):
    model = Architecture(variant, None, 5, classes, representation_size, image_size)
    return hf_files(model, numerics, PIXELS)["config.json"]


def test_a_classifier_of_transformers():
    variant = keras_vit.Variant(7, 40, 3, 5, 52, dropout=0.1)
    assert hf_config(variant, numerics=Numerics("erf", 1e-12)) == {
        "model_type": "vit",
        "architectures": ["ViTForImageClassification"],
        "id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"},
        "label2id": {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2},
        "num_channels": 5,
        "hidden_size": 40,
        "num_hidden_layers": 3,
        "num_attention_heads": 5,
        "intermediate_size": 52,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": 1e-12,
        "image_size": [35, 49],
        "patch_size": 7,
        "qkv_bias": True,
    }


def test_a_headless_model_of_transformers():
    config = hf_config(keras_vit.Variant(7, 40, 3, 5, 52), None, (35, 35), representation_size=37)
    assert config["architectures"] == ["ViTModel"]
    assert (config["pooler_output_size"], config["pooler_act"]) == (37, "tanh")
    assert (config["image_size"], config["hidden_act"]) == (35, "gelu_pytorch_tanh")
    assert "id2label" not in config


def test_the_other_families_of_transformers():
    deit = hf_config(keras_vit.Variant(7, 40, 3, 5, 52, distillation_token=True))
    assert (deit["model_type"], deit["architectures"]) == ("deit", ["DeiTForImageClassification"])
    bit = hf_config(STEM, image_size=None)
    assert (bit["model_type"], bit["architectures"]) == ("bit", ["BitForImageClassification"])
    assert (bit["layer_type"], bit["global_padding"], bit["embedding_dynamic_padding"]) == (
        "preactivation",
        None,
        False,
    )
    assert (bit["depths"], bit["hidden_sizes"], bit["embedding_size"]) == ([1, 2, 1], [128, 256, 384], 64)


def test_a_hybrid_of_transformers():
    config = hf_config(keras_vit.Variant(2, 40, 3, 5, 52, STEM), image_size=(83, 99))
    assert (config["model_type"], config["architectures"]) == ("vit-hybrid", ["ViTHybridForImageClassification"])
    assert config["patch_size"] == 2
    assert config["backbone_featmap_shape"] == [1, 384, 6, 7]  # 83: 42, 21, 11, 6; 99: 50, 25, 13, 7
    assert config["backbone_config"] == {
        "model_type": "bit",
        "num_channels": 5,
        "out_features": ["stage3"],
        "embedding_size": 64,
        "hidden_sizes": [128, 256, 384],
        "depths": [1, 2, 1],
        "width_factor": 1,
        "output_stride": 32,
        "num_groups": 32,
        "hidden_act": "relu",
        "layer_type": "bottleneck",
        "global_padding": "SAME",
        "embedding_dynamic_padding": True,
    }
    alone = hf_config(keras_vit.Variant(3, 40, 3, 5, 52, keras_vit.ResNet((), ())), image_size=(53, 67))
    assert alone["backbone_config"]["out_features"] == ["stem"]
    assert alone["backbone_featmap_shape"] == [1, 64, 14, 17]


def test_deeper_stages_than_the_published_are_not_dilated():
    deep = keras_vit.ResNet((1,) * 5, (128, 256, 256, 256, 256))
    assert hf_config(deep)["output_stride"] == 64


@pytest.mark.parametrize(
    "given, kind, expected",
    [
        ({}, "ViTImageProcessor", {"size": {"height": 35, "width": 49}}),
        (
            {"crop": 0.875},
            "BitImageProcessor",
            {"size": {"shortest_edge": 56}, "crop_size": {"height": 35, "width": 49}},
        ),
        (
            {"crop": 0.875, "keep_aspect": False},
            "DeiTImageProcessor",
            {"size": {"height": 40, "width": 56}, "crop_size": {"height": 35, "width": 49}, "do_center_crop": True},
        ),
    ],
)
def test_the_processor_of_transformers(given, kind, expected):
    model = Architecture(keras_vit.Variant(7, 40, 3, 5, 52), None, 3, 3, None, (35, 49))
    processor = hf_files(model, OFFICIAL_VIT, PIXELS | given)["preprocessor_config.json"]
    assert processor["image_processor_type"] == kind
    assert processor.items() >= expected.items()
    assert (processor["image_mean"], processor["image_std"]) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    assert processor["resample"] == 3
    assert ("do_center_crop" in processor) is bool(given)


def timm_config(variant, name=None, names=None, image_size=(35, 49), pixels=PIXELS, numerics=OFFICIAL_VIT):
    model = Architecture(variant, name, 3, 11, None, image_size)
    names = names or {"encoder/projection/kernel": "patch_embed.proj.weight"}
    return timm_files(model, numerics, pixels, names)["config.json"]


def test_a_configuration_of_timm():
    config = timm_config(keras_vit.Variant(7, 40, 3, 5, 52), pixels=PIXELS | {"crop": 0.9})
    assert config == {
        "architecture": "vit_tiny_patch16_224",
        "num_classes": 11,
        "num_features": 40,
        "global_pool": "token",
        "model_args": {
            "in_chans": 3,
            "patch_size": 7,
            "embed_dim": 40,
            "depth": 3,
            "num_heads": 5,
            "mlp_ratio": 1.3,
            "act_layer": "gelu_tanh",
        },
        "pretrained_cfg": {
            "input_size": [3, 35, 49],
            "fixed_input_size": True,
            "interpolation": "bicubic",
            "crop_pct": 0.9,
            "crop_mode": "center",
            "mean": [0.1, 0.2, 0.3],
            "std": [0.4, 0.5, 0.6],
            "num_classes": 11,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }


def test_timm_squashes_an_image_that_is_not_cropped():
    for given in ({}, {"crop": 0.9, "keep_aspect": False}):
        assert timm_config(VARIANTS["ViT-S/8"], pixels=PIXELS | given)["pretrained_cfg"]["crop_mode"] == "squash"


def test_timm_is_told_how_a_mean_is_taken():
    config = timm_config(keras_vit.Variant(7, 40, 3, 5, 52, pooling="gap"), numerics=Numerics("erf"))
    assert config["global_pool"] == "avg"
    assert (
        config["model_args"].items()
        >= {"class_token": False, "global_pool": "avg", "fc_norm": False, "act_layer": "gelu"}.items()
    )


def test_timm_knows_all_but_these_by_name():
    without = {
        name for name, row in VARIANTS.items() if timm_architecture(Architecture(row, name, 3, 9, None, None)) is None
    }
    assert without == {"BiT-R50x2", "BiT-R152x1", "BiT-R200x3"}
    assert set(TIMM) <= set(VARIANTS)
    assert len(set(TIMM.values())) == len(TIMM)


def test_a_hybrid_without_a_name_in_timm_takes_one_with_its_stem():
    row = VARIANTS["R50+ViT-B/32"]
    config = timm_config(row, "R50+ViT-B/32", {"stem/conv/kernel": "patch_embed.backbone.stem.conv.weight"})
    assert config["architecture"] == "vit_large_r50_s32_224"
    assert config["pretrained_cfg"]["first_conv"] == "patch_embed.backbone.stem.conv"
    assert (config["model_args"]["embed_dim"], config["model_args"]["depth"]) == (768, 12)
    other = keras_vit.Variant(1, 40, 3, 5, 52, STEM)
    assert "architecture" not in timm_config(other, None, {"stem/conv/kernel": "patch_embed.backbone.stem.conv.weight"})


def test_a_bit_of_timm_and_of_any_size():
    config = timm_config(VARIANTS["BiT-R50x1"], "BiT-R50x1", {"stem/conv/kernel": "stem.conv.weight"}, image_size=None)
    assert config["architecture"] == "resnetv2_50x1_bit"
    assert config["model_args"] == {"in_chans": 3}
    assert config["pretrained_cfg"]["input_size"] == [3, 224, 224]
    assert (config["pretrained_cfg"]["first_conv"], config["pretrained_cfg"]["classifier"]) == ("stem.conv", "head.fc")
    assert not config["pretrained_cfg"]["fixed_input_size"]


@pytest.mark.parametrize("hidden_size, mlp_dim", [(40, 52), (49, 1), (1408, 6144), (1664, 8192), (197, 613), (98, 2)])
def test_timm_comes_to_the_same_width(hidden_size, mlp_dim):
    config = timm_config(keras_vit.Variant(7, hidden_size, 3, 1, mlp_dim))
    assert int(hidden_size * config["model_args"]["mlp_ratio"]) == mlp_dim
