"""The model card of a run."""

import dataclasses
import json

import numpy as np
import pytest
import yaml

import keras_vit
from keras_vit.commands import pages
from keras_vit.data.sources import Examples, Source
from keras_vit.evaluation.accuracy import Scores
from keras_vit.models.config import Variant
from keras_vit.training.recipe import Recipe

TINY = Variant(patch_size=4, hidden_size=16, num_layers=2, num_heads=2, mlp_dim=24)
RECIPE = Recipe(data="/home/someone/flowers", data_dir="/data", variant=TINY, image_size=8, epochs=7)
EXAMPLES = [Examples((b"",) * n, np.arange(n) % 3, ("",) * n) for n in (11, 5, 7)]
SOURCE = Source("flowers", ("rose", "aster", "lily"), *EXAMPLES, bad=(("a.jpg", "torn"),), digest="ab" * 32)


def card_of(folder, recipe=RECIPE):
    run = {"devices": "one device", "versions": {"keras": "3.15.1", "backend": "tensorflow"}}
    (folder / "run.json").write_text(json.dumps(run))
    model = keras_vit.build(TINY, input_shape=(8, 8, 3), classes=3)
    scores = Scores(SOURCE.test.labels, np.eye(3)[[0, 1, 2, 0, 1, 2, 1]] * 0.6 + 0.4 / 3)
    metrics = {"parameters": 4321, "bad_images": 1, "training_seconds": 61.4}
    pages.write_run_card(folder / "card.md", recipe, model, SOURCE, scores, metrics, [])
    text = (folder / "card.md").read_text("utf-8")
    return yaml.safe_load(text.split("---\n")[1]), text


def test_a_card_describes_the_run_without_paths_of_this_machine(tmp_path):
    head, text = card_of(tmp_path)
    assert head["license"] == "unknown" and "base_model" not in head and "datasets" not in head
    assert "from scratch" in text and "4,321 parameters" in text and "85.71%" in text
    assert "| train | 11 |" in text and "| validation | 5 |" in text and "| test | 7 |" in text
    assert "| epochs | 7 |" in text and "| data | flowers |" in text and "batch_size" not in text
    assert "someone" not in text and "/data" not in text
    assert "- training: 61 s" in text and "- backend: tensorflow" in text and "ab" * 32 in text


def test_a_checkpoint_of_the_table_brings_its_license(tmp_path):
    recipe = dataclasses.replace(RECIPE, variant="ViT-S/16", weights="vit_s16_augreg_in21k")
    head, text = card_of(tmp_path, dataclasses.replace(recipe, license="MIT"))
    assert head["license"] == "apache-2.0"
    assert "from the checkpoint vit_s16_augreg_in21k (gs://vit_models/augreg/" in text


def test_a_model_of_the_hub_is_the_base(tmp_path):
    recipe = dataclasses.replace(RECIPE, data="hf:org/flowers/small", weights="hf://org/vit-base@v1.0")
    head, text = card_of(tmp_path, dataclasses.replace(recipe, license="MIT"))
    assert head["base_model"] == "org/vit-base" and head["datasets"] == ["org/flowers"] and head["license"] == "mit"


@pytest.mark.parametrize("weights", ["/home/someone/mine.npz", "https://example.org/a/mine.npz", "mine.npz"])
def test_a_weight_file_is_shown_by_its_name(tmp_path, weights):
    head, text = card_of(tmp_path, dataclasses.replace(RECIPE, weights=weights))
    assert "from the checkpoint mine.npz." in text and "someone" not in text and head["license"] == "unknown"


def test_data_on_this_disk_is_not_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "flowers").mkdir(parents=True)
    assert pages._hub_data("hf:org/flowers") is None
    assert pages._hub_data("hf:org/other") == "org/other"
