"""Robustness as a user asks for it: of model files, with images from a folder, next to a baseline."""

import keras
import numpy as np
import pytest
from PIL import Image

import keras_vit
from keras_vit.commands.robustness import robustness, summary
from keras_vit.evaluation import perturbations as changes
from keras_vit.evaluation.robustness import Robustness, RobustnessRow

CLASSES = ("blue", "green", "red")


def save(model, folder, names=CLASSES):
    folder.mkdir()
    model.save(folder / "model.keras")
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in names))
    return folder


# Models without a layer of keras_vit do not describe their pixels; these read -1 to 1.
PIXELS, BASELINE_PIXELS = {"pixels": "-1..1"}, {"baseline_pixels": "-1..1"}


def colours(names):
    """A model that knows red, green and blue from the mean of each; of no fixed grid, 10 x 14 pixels."""
    inputs = keras.Input((10, 14, 3))
    head = keras.layers.Dense(len(names), activation="softmax")
    model = keras.Model(inputs, head(keras.layers.GlobalAveragePooling2D()(inputs)))
    kernel = np.zeros((3, len(names)))
    for colour, name in enumerate(("red", "green", "blue")):
        kernel[colour, names.index(name)] = 9
    head.set_weights([kernel, np.zeros(len(names))])
    return model


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with images of three colours, a ViT, and a baseline that numbers the colours otherwise."""
    home = tmp_path_factory.mktemp("robustness")
    generator = np.random.default_rng(0)
    for colour, name in enumerate(("red", "green", "blue")):
        (home / "images" / name).mkdir(parents=True)
        for i in range(5):
            pixels = generator.integers(0, 60, (18, 22, 3), np.uint8)
            pixels[..., colour] += 150
            Image.fromarray(pixels).save(home / "images" / name / f"{i}.png")
    keras.utils.set_random_seed(0)
    vit = keras_vit.build(keras_vit.Variant(4, 8, 2, 2, 11), input_shape=(12, 20, 3), classes=3)
    save(vit, home / "vit")
    save(colours(["red", "none", "blue", "green"]), home / "mean", ("red", "none", "blue", "green"))
    save(colours(["red", "green", "blue"]), home / "other", ("red", "green", "yellow"))
    return home


def test_a_model_next_to_a_baseline(home, monkeypatch):
    monkeypatch.setattr(changes, "DROPPED_SHARES", (0.4,))
    result, rows = robustness(
        home / "vit", home / "images", home / "mean", images=12, families=("drop", "shift"), seed=1, **BASELINE_PIXELS
    )
    assert result.models == ("vit", "mean")
    assert {row.images for row in result.rows} == {12}
    heads = ["clean", "drop: random", "drop: salient", "drop: non-salient", "shift: pixels"]
    assert [row["change"] for row in rows] == heads
    # The baseline takes images of another size and numbers the colours in another order; it knows them all.
    assert [row["mean"] for row in rows] == ["100.0%"] * 5
    for row, by_model in zip(rows, result.curves.values()):
        assert row["vit"] == f"{np.mean([each.accuracy for each in by_model['vit']]):.1%}"
    assert [row["levels"] for row in rows] == ["0", "0.4", "0.4", "0.4", "1 to 4"]


def test_a_model_without_blocks_drops_no_salient_patches(home, monkeypatch, caplog):
    monkeypatch.setattr(changes, "DROPPED_SHARES", (0.4,))
    result, rows = robustness(home / "mean", home / "images", families="drop", **PIXELS)
    assert [row["change"] for row in rows] == ["clean", "drop: random"]
    assert "mean has no transformer blocks of keras_vit" in caplog.text
    assert {row.images for row in result.rows} == {15}


def test_models_of_the_same_name_are_shown_by_path(home, tmp_path):
    model = keras.saving.load_model(home / "mean" / "model.keras")
    again = save(model, tmp_path / "mean", ("red", "none", "blue", "green"))
    result, _ = robustness(home / "mean", home / "images", again, families="shift", **PIXELS, **BASELINE_PIXELS)
    assert result.models == (str(home / "mean" / "model.keras"), str(again / "model.keras"))


@pytest.mark.parametrize(
    "options, words",
    [
        ({"baseline": "other"}, "baseline with the classes of the images. Received: .*other.*not have blue"),
        ({"families": ("drops",)}, r"Received: families=\['drops'\]. Nearest: drop"),
        ({"images": 0}, "images=0"),
    ],
)
def test_faults(home, options, words):
    options = (
        options | {"baseline": home / options["baseline"], **BASELINE_PIXELS} if "baseline" in options else options
    )
    with pytest.raises(ValueError, match=words):
        robustness(home / "vit", home / "images", **options)


def test_the_summary_has_the_corruption_error():
    rows = [
        RobustnessRow("clean", "clean", 0, "a", 0.9, 1.0, 10),
        RobustnessRow("corruptions", "fog", 1, "a", 0.8, 0.9, 10),
        RobustnessRow("corruptions", "fog", 2, "a", 0.5, 0.6, 10),
    ]
    assert summary(Robustness(("a",), tuple(rows))) == [
        {"change": "clean", "levels": "0", "a": "90.0%"},
        {"change": "corruptions: fog", "levels": "1 to 2", "a": "65.0%"},
        {"change": "mean corruption error", "levels": "", "a": "35.0%"},
    ]
