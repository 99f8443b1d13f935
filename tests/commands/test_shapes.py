"""Images that are no squares of RGB, through every command: bands, grey, RGBA, and another width than height."""

import dataclasses
import io
import json
import re

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import keras_vit
from keras_vit.commands.cli import main
from keras_vit.commands.evaluate import evaluate
from keras_vit.commands.fit import fit
from keras_vit.commands.predict import predict
from keras_vit.commands.preview import preview
from keras_vit.commands.robustness import robustness
from keras_vit.data.decoding import decode
from keras_vit.export.api import export_model
from keras_vit.export.targets import TARGETS
from keras_vit.models.config import VARIANTS
from keras_vit.training.recipe import Recipe
from keras_vit.training.transfer import DEFAULT_MODEL, PATCH_SIZE, like_size
from keras_vit.weights.checkpoints import find_checkpoint

TINY = keras_vit.Variant(patch_size=8, hidden_size=16, num_layers=1, num_heads=2, mlp_dim=16)
SIZE = (16, 24)


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    """A folder of .npy files of five bands, one class with a bright band in front, the other behind."""
    folder = tmp_path_factory.mktemp("fields")
    random = np.random.default_rng(0)
    for name, band in (("dry", 0), ("wet", 4)):
        (folder / name).mkdir()
        for i in range(16):
            levels = random.integers(0, 90, (21, 33, 5), dtype=np.uint8)
            levels[..., band] += 150
            np.save(folder / name / f"{i:02d}.npy", levels)
    return folder


@pytest.fixture(scope="module")
def run(fields, tmp_path_factory):
    """The finished run of a recipe of five bands, and its metrics."""
    folder = tmp_path_factory.mktemp("runs") / "fields"
    recipe = Recipe(
        data=str(fields),
        variant=TINY,
        image_size=SIZE,
        channels=5,
        steps=30,
        warmup_steps=0,
        batch_size=8,
        validation=0.0,
        test=0.25,
        learning_rate=3e-3,
        exports=("tflite-int8", "onnx"),
        tensorboard=False,
        randaugment=(1, 5),
    )
    pytest.importorskip("tf2onnx")
    return folder, fit(recipe, folder), recipe


def test_a_web_page_of_bands_is_refused_at_once(run, fields, tmp_path):
    folder, _, recipe = run
    message = "grey or RGB or RGBA images for web, .* channels=5"
    result = CliRunner().invoke(main, ["export", str(folder), "--to", "web", "--output", str(tmp_path)])
    assert result.exit_code == 2 and re.search(message, result.output) and "npm" not in result.output
    with pytest.raises(ValueError, match=message):
        fit(dataclasses.replace(recipe, exports=("web",)), tmp_path / "run")
    model = keras_vit.build(TINY, input_shape=(*SIZE, 5), classes=2)
    with pytest.raises(ValueError, match=message):
        export_model(model, tmp_path, {"web": TARGETS["web"]._replace(requirements=None)})
    assert not list(tmp_path.iterdir())


def test_a_run_of_bands_is_exported_and_agrees(run):
    folder, metrics, _ = run
    assert metrics["test_accuracy"] == 1
    assert [item["target"] for item in metrics["exports"]] == ["tflite-int8", "onnx"]
    for item in metrics["exports"]:
        assert item["from_encoded"]["preprocessing_agreement"] == item["top1_agreement"] == 1
    described, card = json.loads((folder / "run.json").read_text()), (folder / "card.md").read_text("utf-8")
    assert described["recipe"]["image_size"] == list(SIZE) and len(described["pixels"]["mean"]) == 5
    assert "5-band, 16 x 24 pixels" in card and "| 5-band pixels, integers from 0 to 255 |" in card
    assert "data:image" in (folder / "report.html").read_text("utf-8")


def test_model_and_files_predict_the_same_from_a_file(run, fields, tmp_path):
    folder, _, _ = run
    path = fields / "wet" / "03.npy"
    answers = [predict(folder / name, [path])[0] for name in ("model.keras", "model.onnx", "model_int8.tflite")]
    assert [[name for name, _ in answer] for answer in answers] == [["wet", "dry"]] * 3
    assert answers[0][0][1] == pytest.approx(answers[1][0][1], abs=1e-5) == pytest.approx(answers[2][0][1], abs=0.02)
    Image.new("RGB", (9, 9)).save(tmp_path / "photo.png")
    for name in ("model.keras", "model.onnx"):
        with pytest.raises(ValueError, match=r"photo\.png: .*5"):
            predict(folder / name, [tmp_path / "photo.png"])


def test_other_commands_read_the_same_bands(run, fields, tmp_path):
    folder, _, recipe = run
    for name in ("model.keras", "model.onnx"):
        assert evaluate(folder / name, fields).scores.accuracy == 1
    assert robustness(folder / "model.keras", fields, families=["shift"], images=4)
    with pytest.raises(ValueError, match=r"RGB or grey for the family corruptions.*5 channels"):
        robustness(folder / "model.keras", fields, families=["corruptions"], images=4)
    assert preview(recipe, tmp_path / "preview.html").read_text("utf-8").count("data:image") > 8
    page = tmp_path / "analysis.html"
    pytest.importorskip("matplotlib")
    result = CliRunner().invoke(main, ["analyze", str(folder), str(fields / "dry" / "00.npy"), "--output", str(page)])
    assert result.exit_code == 0, result.output
    assert "16 × 24 pixels" in page.read_text("utf-8")


def test_a_check_says_what_to_set(fields):
    result = CliRunner().invoke(main, ["check", str(fields)])
    assert result.exit_code == 2 and "channels=5" in result.output
    for size, proposed in (((), "176,288"), ((32, 48), "32,48"), ((56, 56), "64"), ((16, 20), "16")):
        sides = ["--image-size", *map(str, size)] if size else []
        result = CliRunner().invoke(main, ["check", str(fields), "--channels", "5", *sides])
        assert result.exit_code == 0 and "8-bit" not in result.output
        assert re.search(rf"keras-vit fit \S+ image_size={proposed} channels=5$", result.output.strip())
        assert (DEFAULT_MODEL in result.output) == (size in ((56, 56), (16, 20)))


def test_a_size_of_the_same_proportions_is_one_that_the_default_checkpoint_reads():
    assert find_checkpoint(DEFAULT_MODEL).variant == "ViT-S/16" and VARIANTS["ViT-S/16"].patch_size == PATCH_SIZE
    for size, expected in (((96, 160), (176, 288)), ((500, 500), (224, 224)), ((4000, 3000), (256, 192))):
        assert like_size(size) == expected


def encoded(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize("channels", [1, 4])
def test_a_server_gets_grey_or_rgba_from_any_image(channels, tmp_path, measured_once, monkeypatch):
    monkeypatch.setattr("keras_vit.export.writing.latency_and_memory", measured_once)
    random = np.random.default_rng(channels)
    pixels = random.integers(0, 256, (6, 21, 33, 4), dtype=np.uint8)
    pixels[..., 3] = 255 * (random.random((6, 21, 33)) > 0.5)
    images = [encoded(image) for image in (pixels[0], pixels[1], pixels[2, ..., :3], pixels[3, ..., 0])]
    model = keras_vit.build(TINY, input_shape=(*SIZE, channels), classes=3)
    model.get_layer("head").kernel.assign(random.normal(size=(16, 3)))
    (agreement,) = export_model(model, tmp_path, ["savedmodel"], images=images)
    assert agreement.from_encoded["preprocessing_agreement"] == 1
    assert agreement.from_encoded["file_max_difference"] < 1e-5
    file = keras_vit.runtime.open_exported(tmp_path / "saved_model")
    assert (file.image_size, file.channels) == (SIZE, channels)
    at_once = file.predict(np.stack([file.read(image) for image in images]))["probabilities"]
    np.testing.assert_allclose(file.predict_encoded(images)["probabilities"], at_once, atol=1e-5)
    assert len({decode(image, channels).shape[2] for image in images}) == 1
    with pytest.raises(ValueError, match=f"RGB images for the .zip of an Android app.*{channels} channel"):
        export_model(model, tmp_path, ["tflite-float32"], images=images, bundle=True)
