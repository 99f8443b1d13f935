"""Families of published Vision Transformers: tiny checkpoints with their projects' names, and what these compute.

families.npz has the outputs of timm 1.0.31 and transformers 5.23 on the weights and images that tests/oracle.py
makes: CASE/logits; files/CASE, the names and shapes of the checkpoint's arrays; configs/CASE, the config.json beside
it; from/CASE, the case whose checkpoint is used, at another image size or patch size.
"""

import json
import pathlib
import re

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_vit
from keras_vit.models.description import describe_model
from keras_vit.models.hooks import head_of
from keras_vit.weights.names import format_column

FILE = np.load(pathlib.Path(__file__).with_name("families.npz"))
CASES = [name.removesuffix("/logits") for name in FILE.files if name.endswith("/logits")]
OWN = [case for case in CASES if f"files/{case}" in FILE.files]
ATOL = 2e-5  # implementations differ by up to 6e-6; the smallest fault in the oracle's table, 6e-5, is an epsilon


@pytest.fixture
def write(tmp_path, oracle):
    def write(case):
        """Writes the checkpoint of a case into a folder, as on the Hugging Face hub, and returns the folder."""
        source = str(FILE[f"from/{case}"]) if f"from/{case}" in FILE.files else case
        folder = tmp_path / source
        folder.mkdir()
        arrays = {name: oracle.tensor(name, shape) for name, shape in map(oracle.parse, FILE[f"files/{source}"])}
        save_file(arrays, folder / "model.safetensors")
        (folder / "config.json").write_text(str(FILE[f"configs/{source}"]))
        return folder

    return write


def arguments(case):
    """Returns the arguments of `keras_vit.load` for the image size and the patch size in the name of a case."""
    if size := re.search(r"_(\d+)x(\d+)$", case):
        return {"input_shape": (int(size[1]), int(size[2]), 3)}
    if patch := re.search(r"_p(\d+)_(\d+)$", case):
        return {"patch_size": int(patch[1]), "input_shape": (int(patch[2]), int(patch[2]), 3)}
    return {}


@pytest.mark.parametrize("case", CASES)
def test_a_checkpoint_computes_what_its_project_does(case, write, oracle):
    model = keras_vit.load(write(case), classifier_activation=None, **arguments(case))
    output = keras.ops.convert_to_numpy(model(oracle.made_images(*model.input_shape[1:3])))
    assert output.shape == FILE[f"{case}/logits"].shape
    np.testing.assert_allclose(output, FILE[f"{case}/logits"], rtol=0, atol=ATOL)


KEPT = ("timm_beit_32", "timm_eva02_base_32", "timm_pe_core_32", "hf_dinov3_gated_32", "hf_clip_32", "hf_siglip_32")


@pytest.mark.parametrize("case", KEPT)
def test_a_model_is_described_and_saved_with_all_that_it_is(case, write, oracle, tmp_path):
    model = keras_vit.load(write(case), classifier_activation=None)
    described = describe_model(model)
    options = {"classes": described.classes} if described.classes else {"include_top": False}
    own = keras_vit.build(
        described.variant,
        input_shape=described.input_shape,
        pooling=described.variant.pooling,
        gelu=described.numerics.gelu,
        norm_epsilon=described.numerics.norm_epsilon,
        **options,
    )
    assert describe_model(own).variant == described.variant
    assert {path: weight.shape for path, weight in describe_model(own).weights.items()} == {
        path: weight.shape for path, weight in described.weights.items()
    }
    model.save(tmp_path / "model.keras")
    loaded = keras_vit.load(tmp_path / "model.keras", classifier_activation=None)
    images = oracle.made_images(32, 32)
    np.testing.assert_array_equal(loaded(images), model(images))


@pytest.mark.parametrize("case", [case for case in CASES if re.search(r"_\d+x\d+$", case)])
def test_a_finished_model_is_resized_as_at_loading(case, write, oracle):
    folder = write(case)
    size = arguments(case)["input_shape"][:2]
    at_loading = keras_vit.load(folder, classifier_activation=None, **arguments(case))
    mode = at_loading.get_layer("encoder").position_resize or "corner"
    later = keras_vit.resize(keras_vit.load(folder, classifier_activation=None), size, mode)
    images = oracle.made_images(*size)
    np.testing.assert_allclose(later(images), at_loading(images), rtol=0, atol=1e-6)


def test_an_embedding_is_no_head(write, tmp_path):
    model = keras_vit.load(write("hf_clip_32"))
    assert describe_model(model).classes is None and describe_model(model).variant.projection_size == 16
    assert head_of(model) is None and keras_vit.representation(model)(np.zeros((1, 32, 32, 3))).shape == (1, 16)
    tuned = keras_vit.build(describe_model(model).variant, input_shape=(32, 32, 3), classes=3)
    assert "projection" not in [layer.name for layer in tuned.layers] and tuned.output_shape == (None, 3)
    keras_vit.save_checkpoint(tuned, tmp_path / "tuned", format="timm")
    again = describe_model(keras_vit.load(tmp_path / "tuned"))
    assert again.classes == 3 and again.variant.projection_size is None
    config = json.loads((tmp_path / "tuned" / "config.json").read_text("utf-8"))
    assert config["pretrained_cfg"]["first_conv"] == "patch_embed.proj"


def test_a_dinov3_without_a_head_returns_the_class_token(write, oracle):
    folder = write("timm_dinov3_32")
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"global_pool": "token"', '"global_pool": "avg"'))
    output = keras_vit.load(folder)(oracle.made_images(32, 32))
    np.testing.assert_allclose(output, FILE["timm_dinov3_32/logits"], rtol=0, atol=ATOL)


def test_pixels_that_no_configuration_states_are_those_of_the_family(write, caplog):
    caplog.set_level("INFO")
    pixels = keras_vit.load(write("hf_dinov3_32")).pixels
    assert pixels.mean == (0.485, 0.456, 0.406) and "those of DINOv3 are assumed" in caplog.text


def test_pixels_are_left_out_only_as_the_project_of_the_file_does(write):
    folder = write("hf_siglip_37")
    assert keras_vit.load(folder).input_shape == (None, 37, 37, 3)
    for options in ({"patch_size": 5}, {"input_shape": (38, 38, 3)}):
        with pytest.raises(ValueError, match="multiples of the patch size"):
            keras_vit.load(folder, **options)


def test_another_patch_size_is_asked_for_and_said(write, caplog):
    caplog.set_level("INFO")
    folder = write("timm_flexivit_32")
    model = keras_vit.load(folder, patch_size=16)
    assert describe_model(model).variant.patch_size == 16 and model.input_shape == (None, 32, 32, 3)
    assert "patches of 8 pixels and the model 16" in caplog.text
    with pytest.raises(ValueError, match="misfit: *patch_embed.proj.weight"):
        keras_vit.build(keras_vit.Variant(4, 32, 3, 4, 48), weights=folder, input_shape=(32, 32, 3), classes=10)
    other = keras_vit.build(
        keras_vit.Variant(8, 32, 3, 4, 48), weights=folder, patch_size=16, input_shape=(32, 32, 3), classes=10
    )
    images = np.random.default_rng(0).normal(size=(1, 32, 32, 3))
    np.testing.assert_allclose(other(images), model(images), atol=1e-6)


WRITTEN = [(case, format) for case in OWN for format in ("hf", "timm") if case.split("_")[0] == format]
WRITTEN.remove(("hf_clip_classifier_32", "hf"))  # such a classifier is read alone


@pytest.mark.parametrize("case, format", WRITTEN)
def test_a_checkpoint_is_written_in_its_own_format(case, format, write, tmp_path):
    model = keras_vit.load(write(case), classifier_activation=None)
    weights = {path: keras.ops.convert_to_numpy(weight) for path, weight in describe_model(model).weights.items()}
    keras_vit.save_checkpoint(model, tmp_path / "written", format=format)
    again = keras_vit.load(tmp_path / "written", classifier_activation=None)
    described = describe_model(again)
    assert described.numerics == describe_model(model).numerics and described.variant == describe_model(model).variant
    for path, array in weights.items():
        np.testing.assert_array_equal(described.weights[path], array, err_msg=path)


def test_what_a_format_cannot_hold_of_a_family_is_refused_and_nothing_is_written(write, tmp_path):
    for case, format, fault in (
        ("timm_eva02_small_32", "hf", "rotary=Rotary"),
        ("timm_pe_core_32", "npz", "pooling_heads=8"),
        ("timm_clip_32", "hf", "zeros in projection/bias"),
        ("hf_dinov3_gated_32", "timm", "theta=50.0.*would be read as .*theta=100.0"),
    ):
        model = keras_vit.load(write(case), classifier_activation=None)
        path = tmp_path / ("written.npz" if format == "npz" else "written")
        with pytest.raises(ValueError, match=fault):
            keras_vit.save_checkpoint(model, path, format=format)
        assert not path.exists()


def test_the_projection_of_a_file_in_openclips_names_may_be_narrower(oracle, tmp_path):
    row = keras_vit.Variant(8, 32, 1, 4, 48, pre_norm=True, patch_bias=False, projection_size=16)
    model = keras_vit.build(
        row, include_top=False, pooling="token", input_shape=(32, 32, 3), gelu="erf", norm_epsilon=1e-5
    )
    arrays, cells = {}, format_column("open_clip", 1)
    for path, weight in describe_model(model).weights.items():
        if path in cells:  # all but the bias of the projection, of zeros
            weight.assign(array := oracle.tensor(path, weight.shape))
            if reshaper := cells[path].reshaper:
                array = reshaper.to_file(array, reshaper.shapes(array.shape, row)[0], row)
            arrays.setdefault(cells[path].name, []).append(array)
    files = {f"visual.{name}": np.ascontiguousarray(np.concatenate(parts)) for name, parts in arrays.items()}
    save_file(files, tmp_path / "clip.safetensors")
    loaded = keras_vit.load(tmp_path / "clip.safetensors", num_heads=4)
    assert describe_model(loaded).variant.projection_size == 16
    images = oracle.made_images(32, 32)
    np.testing.assert_allclose(loaded(images), model(images), rtol=0, atol=1e-5)
