"""The model card of a run."""

import dataclasses
import io
import json

import numpy as np
import pytest
import yaml
from PIL import Image

import keras_vit
from keras_vit.commands import pages
from keras_vit.data.sources import Examples, Source
from keras_vit.evaluation.accuracy import Scores
from keras_vit.evaluation.verdict import Verdict
from keras_vit.models.config import Variant
from keras_vit.training.recipe import Recipe

TINY = Variant(patch_size=4, hidden_size=16, num_layers=2, num_heads=2, mlp_dim=24)
RECIPE = Recipe(data="/home/someone/flowers", data_dir="/data", variant=TINY, image_size=8, epochs=7)


def bright_square(height=20):
    """Returns an image, encoded: a bright square on a dark page."""
    pixels = np.full((height, 24, 3), 40, np.uint8)
    pixels[5:-5, 6:-6] = 230
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


EXAMPLES = [
    Examples((bright_square(),) * (n - 1) + (bright_square(32),), np.arange(n) % 3, ("",) * n) for n in (11, 5, 7)
]
SOURCE = Source("flowers", ("rose", "aster", "lily"), *EXAMPLES, bad=(("a.jpg", "torn"),), digest="ab" * 32)


def card_of(folder, recipe=RECIPE):
    run = {"devices": "one device", "versions": {"keras": "3.15.1", "backend": "tensorflow"}}
    (folder / "run.json").write_text(json.dumps(run))
    model = keras_vit.build(TINY, input_shape=(8, 8, 3), classes=3)
    scores = Scores(SOURCE.test.labels, np.eye(3)[[0, 1, 2, 0, 1, 2, 1]] * 0.6 + 0.4 / 3)
    metrics = {"parameters": 4321, "bad_images": 1, "training_seconds": 61.4}
    verdict = Verdict(scores, SOURCE.class_names, "it is not of interest", ("none", "The curves are level."))
    pages.write_run_card(folder / "card.md", recipe, model, SOURCE, verdict, metrics, [])
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


def test_a_card_says_what_the_training_images_look_like(tmp_path):
    _, text = card_of(tmp_path)
    data = text.split("## Data")[1].split("## Recipe")[0]
    assert "flowers: a folder of images." in data
    assert "Of 11 training images: height x width in the file from 20 x 24 to 32 x 24 pixels;" in data
    assert "**Bright on dark**: the border is darker than the centre in 100% of them" in data
    assert "On 7 test images the accuracy is " in data and "if the same images are inverted." in data


@pytest.mark.parametrize(
    "data, words",
    [
        ("digits", "scikit-learn's load_digits"),
        ("hf:org/flowers/small", "a data set of the Hugging Face Hub"),
        ("./flowers", "a folder of images"),
        ("/far/away/flowers.zip", "the images of a .zip file"),
        ("oxford_iiit_pet:4.0.0", "a data set of TensorFlow Datasets"),
        ("synthetic:3x8", "synthetic images made by keras_vit"),
    ],
)
def test_a_card_says_what_kind_of_data_it_is(tmp_path, data, words):
    _, text = card_of(tmp_path, dataclasses.replace(RECIPE, data=data))
    assert f"flowers: {words}" in text


def test_a_checkpoint_of_the_table_brings_its_license(tmp_path):
    recipe = dataclasses.replace(RECIPE, variant="ViT-S/16", weights="vit_s16_augreg_in21k")
    head, text = card_of(tmp_path, dataclasses.replace(recipe, license="MIT"))
    assert head["license"] == "apache-2.0"
    assert "from the checkpoint vit_s16_augreg_in21k (gs://vit_models/augreg/" in text
    assert "Licence of the checkpoint: apache-2.0 (as published): copies keep" in text


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
