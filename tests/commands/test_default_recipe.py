"""The recipe for images that come without one: from a checkpoint, by the number of images, or from nothing."""

import dataclasses
import functools
import http.server
import json
import logging
import threading

import keras
import numpy as np
import pytest
from PIL import Image

import keras_vit
from keras_vit.commands import default_recipe, fit
from keras_vit.commands.recipes import find_recipe
from keras_vit.models.config import VARIANTS
from keras_vit.training.recipe import Recipe, change
from keras_vit.training.transfer import EPOCHS, FROM_NOTHING, SETTINGS, transfer_settings
from keras_vit.weights import checkpoints, transfer
from keras_vit.weights.checkpoints import find_checkpoint

SMALL = "tiny"  # in place of the default checkpoint


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, published):
    """A folder of 3 x 16 images, an empty cache and no network."""
    random = np.random.default_rng(0)
    for name, level in (("dark", 40), ("grey", 120), ("light", 200)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(16):
            pixels = random.integers(level - 30, level + 30, (32, 40, 3)).astype("uint8")
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{i}.png")
    monkeypatch.setenv("KERAS_VIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KERAS_VIT_OFFLINE", raising=False)
    monkeypatch.setenv("KERAS_VIT_MIRROR", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(transfer, "WAITS", ())
    return tmp_path / "images"


@pytest.fixture
def published(monkeypatch):
    """A small checkpoint among the published ones, in place of the default."""
    variant = keras_vit.Variant(patch_size=8, hidden_size=128, num_layers=1, num_heads=2, mlp_dim=256)
    monkeypatch.setitem(VARIANTS, "ViT-Tiny/8", variant)
    row = dataclasses.replace(find_checkpoint("vit_ti16_augreg_in21k"), name=SMALL, variant="ViT-Tiny/8", image_size=32)
    row = dataclasses.replace(row, address="gs://vit_models/tiny.npz")
    monkeypatch.setattr(checkpoints, "_table", lambda table=checkpoints._table: (*table(), row))
    monkeypatch.setattr(default_recipe, "DEFAULT_MODEL", SMALL)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def mirror(tmp_path_factory):
    """The address of a mirror with the checkpoint `SMALL`."""
    folder = tmp_path_factory.mktemp("mirror")
    (folder / "vit_models").mkdir()
    keras.utils.set_random_seed(1)
    variant = keras_vit.Variant(patch_size=8, hidden_size=128, num_layers=1, num_heads=2, mlp_dim=256)
    model = keras_vit.build(variant, input_shape=(32, 32, 3), include_top=False)
    keras_vit.save_checkpoint(model, folder / "vit_models/tiny.npz")
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_folder_is_learned_from_a_checkpoint_of_the_mirror(folder, mirror, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("KERAS_VIT_MIRROR", mirror)
    caplog.set_level(logging.INFO)
    settings = ["steps=2", "exports=", "batch_size=8", "learning_rate=1e-6"]
    recipe, name, source = find_recipe(folder, settings)
    count = len(source.train.labels)
    own = {"steps": 2, "exports": (), "batch_size": 8, "learning_rate": 1e-6}
    model = {"variant": "ViT-Tiny/8", "image_size": 32, "weights": SMALL}
    assert recipe == Recipe(data=str(folder), **{**transfer_settings(count), **model, **own})
    assert (name, recipe.missing_weights) == ("images", None)
    assert f"fine-tunes {SMALL} with the settings for {count} training images" in caplog.text
    metrics = fit.fit(recipe, tmp_path / "run", source)
    assert "fits the head on the features" in caplog.text
    described = json.loads((tmp_path / "run/run.json").read_text())
    assert described["recipe"]["head"] == "probe" and described["weights_sha256"]
    # The brightness of images is in every feature: the probe alone is right, and two such steps change nothing.
    assert metrics["test_accuracy"] > 0.8
    assert not any("random weights" in line for line in metrics["verdict"])
    # Without the mirror and its file, the same command continues the run, too.
    monkeypatch.setattr(default_recipe, "_fetched", lambda *_: pytest.fail("fetches the checkpoint again"))
    assert find_recipe(folder, settings, run=lambda name: str(tmp_path / "run")).recipe == recipe


def test_without_a_network_it_says_so_and_keeps_saying_it(folder, tmp_path, caplog, monkeypatch):
    for i in range(8):  # half of two classes: no model can be right
        (folder / "dark" / f"{i}.png").rename(folder / "light" / f"of_dark_{i}.png")
        (folder / "light" / f"{i}.png").rename(folder / "dark" / f"of_light_{i}.png")
    settings = ["exports=", "epochs=2", "image_size=16"]
    recipe, _, source = find_recipe(folder, settings)
    message = caplog.text
    assert "Cannot download" in message and "save it as" in message and "trained from random weights" in message
    assert recipe == change(Recipe(data=str(folder), **FROM_NOTHING, missing_weights=SMALL), settings)
    metrics = fit.fit(recipe, tmp_path / "run", source)
    sentence = f"The training began with random weights, because the checkpoint {SMALL} could not be fetched."
    assert metrics["verdict"][0] == fit.result_lines(metrics)[1].strip() == sentence
    assert json.loads((tmp_path / "run/run.json").read_text())["recipe"]["missing_weights"] == SMALL
    for page in ("report.html", "card.md"):
        assert sentence in (tmp_path / "run" / page).read_text()
    command = metrics["next_step"]["command"].split()
    assert "model=vit_s16_augreg_in21k" in command and "head=probe" in command
    # The command's settings make a recipe that starts from the checkpoint, and no longer says that it is missing.
    again = find_recipe(tmp_path / "run/run.json", [part for part in command if "=" in part]).recipe
    assert (again.weights, again.missing_weights, again.head) == ("vit_s16_augreg_in21k", None, "probe")
    assert (again.variant, again.image_size) == ("ViT-S/16", 224)
    # The same command continues the run: nothing is fetched, whether or not the file is there by now.
    monkeypatch.setattr(default_recipe, "_fetched", lambda *_: pytest.fail("fetches the checkpoint again"))
    again = find_recipe(folder, settings, run=lambda name: str(tmp_path / "run")).recipe
    assert fit.fit(again, tmp_path / "run")["test_accuracy"] == metrics["test_accuracy"]


def test_settings_that_freeze_most_weights_need_the_checkpoint(folder):
    for setting in ("lora=4", "freeze_to=norm"):
        with pytest.raises(OSError, match=f"Cannot download(.|\n)*{setting.split('=')[0]} needs a checkpoint"):
            find_recipe(folder, [setting])


def test_a_checkpoint_that_was_named_is_not_replaced(folder):
    for setting in ("weights=imagenet21k", "model=ViT-S/16"):
        recipe = find_recipe(folder, [setting, "exports="]).recipe
        with pytest.raises(OSError, match="Cannot download(.|\n)*save it as"):
            fit.fit(recipe, folder.parent / "run")
        assert not (folder.parent / "run" / "run.json").exists()


@pytest.mark.parametrize(
    "settings, expected",
    [
        ([], {"weights": SMALL, "variant": "ViT-Tiny/8", "image_size": 32, "head": "probe"}),
        (["weights=none"], {"weights": None, "variant": FROM_NOTHING["variant"], "image_size": 64, "head": "new"}),
        (["model=none"], {"weights": None, "variant": FROM_NOTHING["variant"]}),
        (["weights=none", "variant=ViT-S/16"], {"weights": None, "variant": "ViT-S/16", "epochs": 30}),
        (["variant=ViT-S/32"], {"weights": "imagenet21k", "variant": "ViT-S/32", "image_size": 224}),
        (["model=ViT-B/16", "image_size=32"], {"weights": "imagenet21k", "variant": "ViT-B/16", "image_size": 32}),
        (["model=ViT-B/8"], {"weights": "imagenet21k", "variant": "ViT-B/8"}),
        (["model=vit_b16_augreg_in21k_in1k_384"], {"variant": "ViT-B/16", "image_size": 384}),
        (["weights=imagenet"], {"weights": "imagenet", "variant": "ViT-Tiny/8", "head": "probe"}),
        (["weights=imagenet", "variant=ViT-B/16"], {"weights": "imagenet", "variant": "ViT-B/16", "head": "probe"}),
        (["objective=mae"], {"weights": None, "head": "new", "objective": "mae"}),
        (["representation_size=8"], {"weights": SMALL, "head": "new", "representation_size": 8}),
        (["learning_rate=1e-5", "flip=false"], {"learning_rate": 1e-5, "flip": False, "head": "probe"}),
    ],
)
def test_settings_name_the_model(folder, settings, expected):
    recipe = find_recipe(folder, settings, fetch=False).recipe
    assert {name: getattr(recipe, name) for name in expected} == expected


def test_a_checkpoint_of_a_family_shows_its_architecture(folder, tmp_path, monkeypatch):
    tiny = keras_vit.Variant(patch_size=8, hidden_size=16, num_layers=1, num_heads=2, mlp_dim=24)
    model = keras_vit.build(tiny, input_shape=(32, 32, 3), classes=2)
    keras_vit.save_checkpoint(model, tmp_path / "hub", format="timm")
    monkeypatch.setattr("keras_vit.weights.open.fetch", lambda address: tmp_path / "hub")
    recipe = find_recipe(folder, ["model=mae_b16"]).recipe
    assert (recipe.variant, recipe.image_size, recipe.weights) == (tiny, 32, "mae_b16")
    loaded = keras_vit.load("mae_b16")
    assert loaded.license.name == "cc-by-nc-4.0"
    assert loaded.pixels.crop in (None, 1.0)  # of config.json, not of the row
    assert keras_vit.build(tiny, weights="mae_b16", input_shape=(32, 32, 3)).license == loaded.license


def test_a_file_shows_its_architecture(folder, tmp_path):
    own = keras_vit.Variant(patch_size=8, hidden_size=128, num_layers=2, num_heads=2, mlp_dim=64)
    keras_vit.save_checkpoint(keras_vit.build(own, input_shape=(48, 48, 3), include_top=False), tmp_path / "own.npz")
    keras_vit.save_checkpoint(keras_vit.ViT_Ti16(weights=None, include_top=False), tmp_path / "ti.npz")
    for setting in ("model", "weights"):
        recipe = find_recipe(folder, [f"{setting}={tmp_path}/ti.npz"]).recipe
        assert (recipe.variant, recipe.image_size, recipe.weights) == ("ViT-Ti/16", 224, f"{tmp_path}/ti.npz")
        recipe = find_recipe(folder, [f"{setting}={tmp_path}/own.npz"]).recipe
        sizes = {name: getattr(recipe.variant, name) for name in ("patch_size", "hidden_size", "num_layers", "mlp_dim")}
        assert sizes == {name: getattr(own, name) for name in sizes}
        assert (recipe.variant.num_heads, recipe.image_size, recipe.head) == (2, 48, "probe")


@pytest.mark.parametrize(
    "settings, error",
    [
        (["model=ViT-S/16", "weights=imagenet"], "model, or weights and variant, not both"),
        (["model=ViT-S16"], r"Received: ViT-S16, and there is no such file\. Nearest names:.* ViT-S/16"),
        (["model=absent.npz"], r"Received: absent.npz, and there is no such file"),
        (["model=ViT-S/14"], "a variant with a published checkpoint"),
        (["modle=ViT-B/16"], "unknown field 'modle'. Nearest: model"),
    ],
)
def test_what_names_no_model_is_refused(folder, settings, error):
    with pytest.raises(ValueError, match=error):
        find_recipe(folder, settings)


def test_the_built_in_data_needs_no_network():
    for data in ("digits", "synthetic:3x8"):
        assert find_recipe(data).recipe == Recipe(data=data, **FROM_NOTHING)
    recipe = find_recipe("digits", ["model=ViT-Ti/16"], fetch=False).recipe
    assert (recipe.weights, recipe.head) == ("imagenet21k", "probe")


def test_the_table_has_a_row_for_every_number_of_images():
    limits, epochs = zip(*EPOCHS)
    assert limits[-1] is None and [*limits[:-1]] == sorted({*limits[:-1]}) and [*epochs] == sorted(epochs, reverse=True)
    for count, expected in zip([*limits[:-1], 10**9], epochs, strict=True):
        assert transfer_settings(count) == {**SETTINGS, "epochs": expected}
        Recipe(data="images", variant="ViT-S/16", image_size=224, weights="imagenet21k", **transfer_settings(count))
    assert transfer_settings(None) == transfer_settings(10**9)
