"""Masked autoencoders in files of transformers.

mae.npz has what ViTMAEForPreTraining of transformers 5.23 computes with the weights and images of tests/oracle.py and
the noise in it: the pixels of all patches, the mask and the loss.
"""

import json
import pathlib

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import keras_vit
from keras_vit.commands.default_recipe import default_recipe
from keras_vit.commands.fit import fit
from keras_vit.models.license import License
from keras_vit.pretraining import MaskedAutoencoder, load_mae, save_mae
from keras_vit.training import Recipe
from keras_vit.training.objectives import OBJECTIVES

EXPECTED = np.load(pathlib.Path(__file__).with_name("mae.npz"))
HUB, OTHER = "decoder.decoder_layers.", "decoder.decoder_encoder.layer."


def predicted(mae, images):
    """Returns the loss of all images, and the predictions and those expected of the hidden patches."""
    shuffled = np.argsort(EXPECTED["noise"], axis=1)  # the last are hidden; ours are the first
    order = np.concatenate([shuffled[:, 4:], shuffled[:, :4]], axis=1)
    assert np.take_along_axis(EXPECTED["mask"], order, axis=1)[:, : mae.num_masked].all()
    predictions = mae.predict(images, order)
    losses = keras.ops.convert_to_numpy(mae.evaluate(mae.patches(images), order, predictions))[:, 0]
    hidden = np.take_along_axis(EXPECTED["logits"], order[:, : mae.num_masked, None], axis=1)
    return losses.mean(), keras.ops.convert_to_numpy(predictions), hidden


def test_the_hidden_patches_are_those_of_transformers(published, oracle):
    mae = load_mae(published)
    loss, predictions, expected = predicted(mae, oracle.made_images(32, 32))
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(predictions, expected, atol=2e-5)
    np.testing.assert_allclose(loss, EXPECTED["loss"], rtol=1e-5)


def test_a_written_file_is_the_one_that_was_read(published, tmp_path):
    save_mae(load_mae(published), tmp_path / "again")
    before, after = (load_file(folder / "model.safetensors") for folder in (published, tmp_path / "again"))
    before = {name.replace(OTHER, HUB): array for name, array in before.items()}
    assert before.keys() == after.keys()
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array, err_msg=name)
    configs = [json.loads((folder / "config.json").read_text()) for folder in (published, tmp_path / "again")]
    unwritten = {"dtype", "initializer_range"}
    assert {name: configs[1].get(name) for name in configs[0].keys() - unwritten} == {
        name: value for name, value in configs[0].items() if name not in unwritten
    }


def test_pre_training_of_our_own_is_written_and_continued(make_vit, make_task, images, tmp_path):
    """With positions that no file can name otherwise, in both tokens and decoder."""
    task = make_task(MaskedAutoencoder, make_vit(keras_vit.Variant(3, 8, 2, 2, 12)), mask_ratio=0.6, decoder_size=8)
    save_mae(task, tmp_path / "mae")
    again = load_mae(tmp_path / "mae")
    assert (again.decoder_heads, again.mask_ratio, again.normalized) == (task.decoder_heads, 0.6, True)
    results = [keras.ops.convert_to_numpy(mae(images)) for mae in (task, again)]
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-6)
    trained = {weight.path.rsplit("/", 2)[-2] for weight in again.trainable_weights}
    assert "decoder_positions" not in trained and "pixels" in trained
    encoder = keras_vit.load(tmp_path / "mae")
    np.testing.assert_allclose(encoder(images)[:1], task.vit(images)[:1], atol=1e-5)


def test_what_transformers_has_not_is_refused_before_anything_is_written(make_vit, make_task, tmp_path):
    for fields, words in (
        ({"positions": "sincos-2d"}, "positions='sincos-2d'"),
        ({"layer_scale": 0.1}, "a dinov2 there"),
        ({"pooling": "gap"}, "pooling='none'"),
    ):
        task = make_task(MaskedAutoencoder, make_vit(keras_vit.Variant(3, 8, 1, 2, 12, **fields)))
        with pytest.raises(ValueError, match=words):
            save_mae(task, tmp_path / "mae")
    assert not (tmp_path / "mae").exists()


@pytest.mark.parametrize(
    "drop, add, words",
    [
        ("decoder", {}, "MAE with its decoder"),
        ("decoder.decoder_norm.bias", {}, "decoder.decoder_norm.bias missing, expected"),
        ("decoder.mask_token", {"decoder.mask_token": np.ones((1, 1, 15), "float32")}, "mask_token.*15.*expected.*16"),
        ("none", {"decoder.more": np.ones(3, "float32")}, "decoder.more.*expected no such array"),
    ],
)
def test_a_file_without_such_a_decoder_is_refused(published, drop, add, words):
    file = published / "model.safetensors"
    arrays = {name: array for name, array in load_file(file).items() if not name.startswith(drop)}
    save_file(arrays | add, file)
    with pytest.raises(ValueError, match=words):
        load_mae(published)


def test_a_run_continues_with_the_decoder_of_a_file_and_writes_both(published, tmp_path, caplog):
    caplog.set_level("INFO")
    settings = [f"model={published}", "objective=mae", "image_size=16", "steps=1", "batch_size=8", "learning_rate=1e-9"]
    recipe = default_recipe("synthetic:2x8", [*settings, "warmup_epochs=0"]).recipe
    fit(recipe, tmp_path / "run")
    before, after = load_mae(published), load_mae(tmp_path / "run" / "mae")
    assert (after.decoder_layers, after.decoder_heads, after.mask_ratio) == (1, before.decoder_heads, 0.75)
    for ours, value in {"pixels": before.painter, "mask": before.decoder[0].mlp.hidden}.items():
        same = after.painter if ours == "pixels" else after.decoder[0].mlp.hidden
        np.testing.assert_allclose(same.kernel, value.kernel, atol=1e-6)
    assert after.decoder_positions.table.shape == (1 + 2 * 2, before.decoder_size)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 16, 16, 3))
    encoders = [keras_vit.load(tmp_path / "run" / name)(images) for name in ("mae", "model.keras")]
    np.testing.assert_allclose(*encoders, atol=1e-6)
    assert "continues with the decoder" in caplog.text


def test_settings_of_the_decoder_and_other_channels_get_a_new_one(published, caplog):
    caplog.set_level("INFO")
    vit = keras_vit.load(published)
    for fields in ({"decoder_layers": 1, "decoder_size": 8}, {"channels": 1, "decoder_layers": 8}):
        recipe = Recipe(
            data="synthetic:2x8", variant="ViT-Ti/16", image_size=32, weights=str(published), objective="mae", **fields
        )
        network = OBJECTIVES["mae"].network(vit, recipe)
        assert network.layers[-1].decoder_layers == fields["decoder_layers"]
    assert "continues" not in caplog.text and caplog.text.count("a new decoder") == 2


def test_what_we_pre_trained_does_not_have_the_license_of_the_published_mae(make_vit, make_task, tmp_path):
    task = make_task(MaskedAutoencoder, make_vit(keras_vit.Variant(3, 8, 1, 2, 12)))
    save_mae(task, tmp_path / "own")
    assert not keras_vit.load(tmp_path / "own").license.is_known
    task.vit.license = License("cc-by-nc-4.0", "README.md")
    save_mae(task, tmp_path / "tuned")
    assert keras_vit.load(tmp_path / "tuned").license.name == "cc-by-nc-4.0"
