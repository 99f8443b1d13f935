"""The licence of a checkpoint: what states it, and that it stays with the model."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_vit
from keras_vit.models.license import TERMS, License
from keras_vit.weights.checkpoints import checkpoints
from keras_vit.weights.formats import CheckpointFile, open_checkpoint_file
from keras_vit.weights.licenses import license_of
from keras_vit.weights.open import open_checkpoint

TINY = keras_vit.Variant(patch_size=8, hidden_size=16, num_layers=1, num_heads=2, mlp_dim=24)
FAMILIES = np.load(pathlib.Path(__file__).with_name("families.npz"))
BY_FAMILY = {
    "hf_dinov3_32": "dinov3-license",
    "timm_dinov3_32": "dinov3-license",
    "hf_mae_32": "cc-by-nc-4.0",
    "hf_ijepa_32": "cc-by-nc-4.0",
    "timm_eva02_base_32": "unknown",
    "hf_clip_32": "unknown",
    "hf_siglip_32": "unknown",
}


@pytest.fixture
def folder(tmp_path):
    """A checkpoint as on the Hugging Face Hub, whose configuration says nothing of a licence."""
    model = keras_vit.build(TINY, input_shape=(16, 16, 3), classes=2)
    keras_vit.save_checkpoint(model, tmp_path / "hub", format="timm")
    return tmp_path / "hub"


def found(path):
    with open_checkpoint(str(path)) as opened:
        return opened.license


def configured(path, **fields):
    config = json.loads((path / "config.json").read_text())
    pretrained = config["pretrained_cfg"] | fields.pop("pretrained_cfg", {})
    (path / "config.json").write_text(json.dumps(config | fields | {"pretrained_cfg": pretrained}))


@pytest.mark.parametrize("case", BY_FAMILY)
def test_a_family_has_its_license(case, tmp_path, oracle):
    arrays = {name: oracle.tensor(name, shape) for name, shape in map(oracle.parse, FAMILIES[f"files/{case}"])}
    save_file(arrays, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(str(FAMILIES[f"configs/{case}"]))
    with open_checkpoint_file(tmp_path) as file:
        assert license_of(file).name == BY_FAMILY[case]
    if "dinov3" in case:
        (tmp_path / "config.json").unlink()
        with open_checkpoint_file(tmp_path) as file:
            name, origin = dataclasses.astuple(license_of(file))
            assert name == "dinov3-license" and ("EUPE" in origin) == case.startswith("timm")


@pytest.mark.parametrize(
    "config, name",
    [
        ({"model_type": "vit_mae"}, "cc-by-nc-4.0"),
        ({"model_type": "ijepa"}, "cc-by-nc-4.0"),
        ({"model_type": "vit"}, "unknown"),
        ({"architecture": "vit_base_patch16_224", "pretrained_cfg": {"tag": "mae"}}, "cc-by-nc-4.0"),
        ({"architecture": "vit_base_patch16_clip_224", "pretrained_cfg": {"tag": "metaclip_400m"}}, "cc-by-nc-4.0"),
        ({"architecture": "vit_base_patch16_clip_224", "pretrained_cfg": {"tag": "openai"}}, "mit"),
        ({"architecture": "vit_base_patch16_clip_224", "pretrained_cfg": {"tag": "laion2b"}}, "unknown"),
        (
            {"architecture": "vit_small_patch16_dinov3_qkvb", "pretrained_cfg": {"tag": "eupe_lvd1689m"}},
            "fair-noncommercial-research-license",
        ),
        ({"architecture": "beit_base_patch16_224", "pretrained_cfg": {"tag": "in22k_ft_in22k"}}, "apache-2.0"),
        ({"architecture": "eva02_base_patch14_224", "pretrained_cfg": {"tag": "mim_in22k"}}, "mit"),
        ({"architecture": "eva02_base_patch14_224"}, "unknown"),  # an architecture alone is nobody's file
    ],
)
def test_what_a_configuration_shows(config, name):
    file = CheckpointFile("folder/model.safetensors", None, {}, None, config=config)
    assert license_of(file).name == name


def test_what_is_closest_to_the_file_counts(folder):
    assert found(folder) == License("unknown", "nothing beside the checkpoint states it")
    configured(folder, architecture="vit_base_patch16_224", pretrained_cfg={"tag": "mae"})
    assert found(folder).name == "cc-by-nc-4.0" and "vit_base_patch16_224.mae" in found(folder).origin
    configured(folder, pretrained_cfg={"license": "Apache-2.0"})
    assert found(folder) == License("apache-2.0", "config.json")
    (folder / "LICENSE.md").write_text("# DINOv3 License\n\nLast updated: then")
    assert found(folder) == License("dinov3-license", "LICENSE.md")
    (folder / "README.md").write_text("---\ntags:\n- a\nlicense: mit\n---\n# license: gpl")
    assert found(folder) == License("mit", "README.md")


@pytest.mark.parametrize(
    "text, name",
    [
        ("---\nlicense: other\nlicense_name: dinov3-license\nlicense_link: LICENSE\n---\n", "dinov3-license"),
        ("---\r\nlicense:\r\n- cc-by-nc-4.0\r\n---\r\n", "cc-by-nc-4.0"),
        ("---\nlicense: other\nlicense_name: 'apple-sample-code-license'\n---\n", "apple-ascl"),
        ("---\nlicense: other\n---\n", "unknown"),
        ("# A model\nlicense: mit\n", "unknown"),
        (b"\xff\xfe---", "unknown"),
    ],
)
def test_the_header_of_a_readme(folder, text, name):
    (folder / "README.md").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert found(folder).name == name


def test_the_files_beside_an_npz_are_those_of_something_else(tmp_path):
    keras_vit.save_checkpoint(keras_vit.build(TINY, input_shape=(16, 16, 3), classes=2), tmp_path / "own.npz")
    (tmp_path / "LICENSE").write_text("MIT License")
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    assert found(tmp_path / "own.npz").name == "unknown"


def test_a_published_checkpoint_has_that_of_its_row():
    file, row = CheckpointFile("a.npz", None, {}, None), checkpoints()[0]
    assert license_of(file, row) == License("apache-2.0", f"as published with {row.name}")
    assert license_of(file, dataclasses.replace(row, license="mit")).name == "mit"


def test_a_license_stays_with_the_model(folder, tmp_path):
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    model = keras_vit.load(folder)
    assert model.license == License("cc-by-nc-4.0", "README.md")
    model.save(tmp_path / "own.keras")
    assert keras_vit.load(tmp_path / "own.keras").license == model.license
    assert keras_vit.resize(model, 32).license == keras_vit.load(folder, dtype="bfloat16").license == model.license
    tuned = keras_vit.build(TINY, weights=tmp_path / "own.keras", input_shape=(16, 16, 3), classes=5, new_head=True)
    assert tuned.license == model.license
    for format, name in (("hf", "own-hf"), ("timm", "own-timm")):
        keras_vit.convert(tmp_path / "own.keras", tmp_path / name, format)
        assert found(tmp_path / name) == License("cc-by-nc-4.0", "config.json")
    assert keras_vit.build(TINY, input_shape=(16, 16, 3)).license is None


def test_a_license_says_what_it_asks_for():
    license = License("Other: DINOv3", "README.md")
    assert license.name == "other-dinov3" and license.permissive is None and license.is_known
    assert {name: License(name, "").permissive for name in TERMS} == {name: t.permissive for name, t in TERMS.items()}
    for name, terms in TERMS.items():
        text = License(name, "README.md").text
        assert text.startswith(f"{name} (README.md): ") and terms.obligations in text and terms.source in text
    described = License("dinov3", "a").description()
    assert (described["name"], described["origin"], described["permissive"]) == ("dinov3-license", "a", False)
    assert "Built with DINOv3" in described["obligations"]
    assert License("", "a").description()["permissive"] is None and not License("", "a").is_known
