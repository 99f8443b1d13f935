import json

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import keras_vit

CASES = ("clip", "clip_gelu_legacy", "siglip", "siglip_wide", "open_clip", "open_clip_custom", "open_clip_siglip")
# How open_clip makes an image fit: the shorter side resized, the middle kept.
SHORTEST = {"interpolation": "bicubic", "antialias": True, "crop": 1.0}
ATOL = 2e-5  # implementations differ by up to 2e-6


@pytest.fixture
def write(tmp_path, words, oracle):
    return lambda case, **options: words.write(oracle, case, tmp_path / case, **options)


def numbers(x):
    return keras.ops.convert_to_numpy(x)


@pytest.mark.parametrize("case", CASES)
def test_both_towers_compute_what_their_projects_do(case, write, words, oracle):
    check(write(case, tokenizer=False), case, words, oracle)


@pytest.mark.parametrize("stacked", [False, True])
def test_both_towers_of_big_vision(stacked, words, oracle, tmp_path):
    arrays = words.as_big_vision(words.arrays_of(oracle, "siglip_wide"), stacked=stacked)
    np.savez(tmp_path / "two_towers.npz", **arrays)
    check(tmp_path / "two_towers.npz", "siglip_wide", words, oracle)
    with pytest.raises(ValueError, match="Expected tokenizer.json or spiece.model beside the weights"):
        keras_vit.tokenizer(tmp_path / "two_towers.npz")


def check(file, case, words, oracle):
    encoder, model = keras_vit.text_encoder(file), keras_vit.load(file)
    text, image = numbers(encoder(words.FILE["ids"])), numbers(model(oracle.made_images(32, 32)))
    np.testing.assert_allclose(text, words.FILE[f"{case}/text"], rtol=0, atol=ATOL)
    np.testing.assert_allclose(image, words.FILE[f"{case}/image"], rtol=0, atol=ATOL)
    cosine = (image / np.linalg.norm(image, axis=1, keepdims=True)) @ (
        text / np.linalg.norm(text, axis=1, keepdims=True)
    ).T
    assert (encoder.bias is None) == ("siglip" not in case)
    logits = encoder.scale * cosine + (encoder.bias or 0)
    np.testing.assert_allclose(logits, words.FILE[f"{case}/logits"], rtol=0, atol=ATOL)


def test_the_cases_are_those_of_the_file(words):
    assert set(words.CASES) == set(CASES)


@pytest.mark.parametrize("case", ("clip", "siglip"))
def test_an_encoder_is_saved_whole(case, write, words, tmp_path):
    encoder = keras_vit.text_encoder(write(case))
    encoder.save(tmp_path / "text.keras")
    loaded = keras.models.load_model(tmp_path / "text.keras")
    assert (loaded.scale, loaded.bias) == (encoder.scale, encoder.bias)
    np.testing.assert_array_equal(loaded(words.FILE["ids"]), encoder(words.FILE["ids"]))


def changed(folder, change):
    arrays = load_file(folder / "model.safetensors")
    change(arrays)
    save_file(arrays, folder / "model.safetensors")


FAULTS = {
    "missing: text_model.head.bias": lambda arrays: arrays.pop("text_model.head.bias"),
    "missing: text_model.final_layer_norm.weight": lambda arrays: arrays.pop("text_model.final_layer_norm.weight"),
    "unused: *text_model.other": lambda arrays: arrays.update({"text_model.other": np.ones(3, np.float32)}),
    "misfit: *text_model.head.bias": lambda arrays: arrays.update({"text_model.head.bias": np.ones(3, np.float32)}),
    "position_embedding.weight is missing": lambda arrays: arrays.pop(
        "text_model.embeddings.position_embedding.weight"
    ),
}


@pytest.mark.parametrize("message", FAULTS)
def test_a_tower_is_read_whole_or_not_at_all(message, write):
    folder = write("siglip")
    changed(folder, FAULTS[message])
    with pytest.raises(ValueError, match=message):
        keras_vit.text_encoder(folder)


def test_a_checkpoint_without_a_text_tower(tmp_path):
    tiny = keras_vit.Variant(8, 32, 1, 2, 64)
    keras_vit.save_checkpoint(keras_vit.build(tiny, input_shape=(32, 32, 3), classes=3), tmp_path / "vit", "hf")
    with pytest.raises(ValueError, match=r"text tower, of SigLIP or CLIP.*Received: .* with 24 arrays"):
        keras_vit.text_encoder(tmp_path / "vit")


def test_heads_and_the_end_that_no_configuration_states(write, words, caplog):
    caplog.set_level("INFO")
    folder = write("clip")
    expected = keras_vit.text_encoder(folder)(words.FILE["ids"])
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match="Pass num_heads="):
        keras_vit.text_encoder(folder)
    result = keras_vit.text_encoder(folder, num_heads=4)(words.FILE["ids"])
    np.testing.assert_array_equal(result, expected)
    assert "the id 98 is assumed to end a text" in caplog.text


def test_an_activation_that_no_layer_computes(write):
    folder = write("clip")
    config = (folder / "config.json").read_text().replace("quick_gelu", "relu", 1)
    (folder / "config.json").write_text(config)
    with pytest.raises(ValueError, match="hidden_act='relu' of the text tower"):
        keras_vit.text_encoder(folder)


@pytest.mark.parametrize(
    "case, old, new, message",
    [
        ("open_clip_siglip", '"last"', '"argmax"', "pool_type='argmax' of the text tower, expected 'last'"),
        ("open_clip_siglip", '"no_causal_mask": true', '"no_causal_mask": false', "no_causal_mask=False"),
        ("open_clip", '"heads": 4', '"heads": "4"', "heads='4', expected an integer"),
    ],
)
def test_what_another_text_tower_of_open_clip_states(case, old, new, message, write):
    folder = write(case, tokenizer=False)
    config = (folder / "open_clip_config.json").read_text()
    assert old in config
    (folder / "open_clip_config.json").write_text(config.replace(old, new))
    with pytest.raises(ValueError, match=message):
        keras_vit.text_encoder(folder)


def test_what_another_image_tower_of_open_clip_states(write):
    folder = write("open_clip", tokenizer=False)
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    assert keras_vit.load(folder).pixels == keras_vit.Pixels(**config["preprocess_cfg"], **SHORTEST)
    config["preprocess_cfg"]["resize_mode"] = "squash"
    path.write_text(json.dumps(config))
    assert keras_vit.load(folder).pixels.crop is None
    config["model_cfg"]["vision_cfg"]["pool_type"] = "avg"
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="open_clip_config.json is of another architecture:\n  pool_type='avg'"):
        keras_vit.load(folder)


def test_the_pixels_of_a_tower_that_timm_builds(write):
    folder = write("open_clip_siglip", tokenizer=False)
    path = folder / "open_clip_config.json"
    squashed = keras_vit.Pixels(interpolation="bicubic", antialias=True, keep_aspect=False)
    assert keras_vit.load(folder).pixels == squashed
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}))
    assert keras_vit.load(folder).pixels == keras_vit.Pixels(**SHORTEST)


def test_a_projection_beside_the_trunk_is_no_part_of_the_model(write):
    folder = write("open_clip_siglip", tokenizer=False)
    path = folder / "open_clip_model.safetensors"
    save_file({**load_file(path), "visual.head.proj.weight": np.ones((16, 128), np.float32)}, path)
    with pytest.raises(ValueError, match="unused: *visual.head.proj.weight"):
        keras_vit.load(folder)


def test_a_folder_with_the_same_weights_twice(write):
    folder = write("clip", tokenizer=False)
    save_file({"visual.proj": np.ones((4, 4), np.float32)}, folder / "open_clip_model.safetensors")
    assert keras_vit.load(folder).output_shape == keras_vit.text_encoder(folder).output_shape == (None, 16)
