"""`keras-vit check --labels`: the page and the table of labels that are probably wrong, and which model judges them."""

import csv
import dataclasses
import json

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import keras_vit
from keras_vit.commands import cli
from keras_vit.commands.image_list import write_images
from keras_vit.commands.label_check import TABLE_COLUMNS, check_labels_of
from keras_vit.data import open_source
from keras_vit.training.recipe import Recipe

ROW = keras_vit.Variant(4, 12, 2, 2, 16)
WRONG = "blue/red7.png"


def command(*arguments):
    result = CliRunner().invoke(cli.main, ["check", *map(str, arguments)])
    assert "Traceback" not in result.output
    return result


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_VIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Images of two colours, one of them in the folder of the other."""
    folder, random = tmp_path_factory.mktemp("label_check") / "photos", np.random.default_rng(1)
    for name, channel in (("blue", 2), ("red", 0)):
        (folder / name).mkdir(parents=True)
        for i in range(12):
            image = random.integers(0, 60, (13, 11, 3), np.uint8)
            image[..., channel] += 190
            misplaced = (name, i) == ("red", 7)
            Image.fromarray(image).save(folder / (WRONG if misplaced else f"{name}/{i}.png"))
    return folder


@pytest.fixture(scope="module")
def model(photos):
    keras.utils.set_random_seed(0)
    path = photos.parent / "features.keras"
    keras_vit.build(ROW, input_shape=(12, 20, 3), include_top=False, pooling="token").save(path)
    return path


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_is_corrected_and_then_used(photos, model, tmp_path):
    result = command(photos, "--labels", model, "--output", tmp_path / "found.html")
    assert result.exit_code == 0, result.output
    table = tmp_path / "found.csv"
    first, *others = rows_of(table)
    assert tuple(first) == TABLE_COLUMNS
    assert (first["path"], first["label"], first["likelier"], first["keep"]) == (WRONG, "blue", "red", "yes")
    assert all(0.5 < float(row["score"]) <= float(first["score"]) for row in others)
    assert f"{first['score']}  {WRONG}: blue, likelier red" in result.output
    assert f"corrections={table}" in result.output and "fit would accept this folder" in result.output
    page = (tmp_path / "found.html").read_text("utf-8")
    assert WRONG in page and "labelled blue, likelier red" in page and "nearest: red" in page

    table.write_text(f"path,label,keep\n{WRONG},red,yes\nred/3.png,red,no\n", "utf-8")
    again = command(photos, "--labels", model, "--output", tmp_path / "found.html")
    assert again.exit_code == 2 and "may have your corrections" in again.output
    again = command(
        *(photos, "--labels", model, "--corrections", table, "--output", tmp_path / "second.html"),
    )
    assert again.exit_code == 0 and WRONG not in again.output.split("least probable first")[1]
    both = {row["path"]: (row["label"], row["score"], row["keep"]) for row in rows_of(tmp_path / "second.csv")}
    assert both[WRONG] == ("red", "", "yes") and both["red/3.png"] == ("red", "", "no")


def test_the_unedited_table_changes_nothing(photos, model, tmp_path):
    check = check_labels_of(photos, model)
    check.write_table(tmp_path / "labels.csv")
    assert open_source(photos, corrections=tmp_path / "labels.csv").digest == open_source(photos).digest


def run_folder(photos, folder, weights):
    """Writes the folder of a run that was trained on the images, without training it."""
    folder.mkdir()
    recipe = Recipe(data=str(photos), variant=ROW, image_size=12, weights=weights)
    (folder / "run.json").write_text(json.dumps({"recipe": dataclasses.asdict(recipe)}))
    write_images(folder, open_source(photos))
    keras.utils.set_random_seed(5)
    trained = keras_vit.build(ROW, input_shape=(12, 12, 3), classes=2)
    trained.class_names = ("blue", "red")
    trained.save(folder / "model.keras")
    return folder


def test_a_run_that_was_trained_on_the_images_is_replaced_by_its_checkpoint(photos, tmp_path):
    keras.utils.set_random_seed(2)
    start = keras_vit.build(ROW, input_shape=(12, 12, 3), classes=7)
    keras_vit.save_checkpoint(start, tmp_path / "start.npz")
    run = run_folder(photos, tmp_path / "run", str(tmp_path / "start.npz"))
    check = check_labels_of(photos, run)
    assert f"features of {tmp_path / 'start.npz'}, which {run} started from" in check.notes[0]
    np.testing.assert_allclose(check.features, check_labels_of(photos, tmp_path / "start.npz").features, atol=1e-5)
    assert check.listed[0] == check.examples.names.index(WRONG)

    others = tmp_path / "others"
    for number, name in enumerate(("blue", "red")):
        (others / name).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (12, 12), (200 * number + i, 9, 200)).save(others / name / f"{i}.png")
    check = check_labels_of(others, run)
    assert not any("started from" in note for note in check.notes)
    own = keras_vit.representation(keras.models.load_model(run / "model.keras"))
    pixels = np.stack([np.asarray(Image.open(others / name)) for name in check.examples.names])
    expected = own.predict(keras_vit.preprocess_input(pixels), verbose=0)
    np.testing.assert_allclose(check.features, expected, atol=1e-5)


def test_a_run_from_random_weights_is_used_with_a_note(photos, tmp_path):
    check = check_labels_of(photos, run_folder(photos, tmp_path / "run", None))
    assert "from random weights: it fits wrong labels" in check.notes[0]


def test_each_label_of_an_image_is_checked(photos, model, tmp_path):
    labels = {str(path.relative_to(photos)): ["bright", path.stem[:3]] for path in sorted(photos.glob("*/*.png"))}
    labels = {name: ["bright", *(["sky"] if "blue/" in name else [])] for name in labels}
    path = tmp_path / "labels.csv"
    path.write_text("path,label\n" + "".join(f"{photos / name},{'|'.join(each)}\n" for name, each in labels.items()))
    check = check_labels_of(path, model, learns="labels")
    assert check.command("a b.csv") == f"keras-vit fit {path} corrections='a b.csv' objective=labels"
    name, label, likelier, *_ = check.rows[0]
    assert (name, label, likelier) == (str(photos / WRONG), "bright|sky", "bright")
    check.write_page(tmp_path / "page.html", "Labels")
    assert "bright|sky, likelier bright" in (tmp_path / "page.html").read_text("utf-8")


def test_a_checkpoint_is_adapted_to_the_channels_and_has_the_gelu_that_is_set(photos, tmp_path):
    start = keras_vit.build(ROW, input_shape=(12, 12, 3), classes=7)
    keras_vit.save_checkpoint(start, tmp_path / "start.npz")
    random = np.random.default_rng(0)
    for name in ("dry", "wet"):
        (tmp_path / "bands" / name).mkdir(parents=True)
    for name, light in (("dry", 190), ("wet", 0)):  # the bands of an adapted kernel are alike
        for i in range(8):
            image = random.integers(0, 60, (12, 12, 5), np.uint8) + np.uint8(light)
            np.save(tmp_path / "bands" / ("wet" if (name, i) == ("dry", 3) else name) / f"{name}{i}.npy", image)
    output = ("--output", tmp_path / "bands.html")
    result = command(tmp_path / "bands", "--labels", tmp_path / "start.npz", "--channels", 5, *output)
    assert result.exit_code == 0 and result.output.strip().endswith("channels=5"), result.output
    assert rows_of(tmp_path / "bands.csv")[0]["path"] == "wet/dry3.npy"
    assert (tmp_path / "bands.html").read_text("utf-8").count("data:image") > 1

    features = {gelu: check_labels_of(photos, tmp_path / "start.npz", gelu=gelu).features for gelu in ("tanh", "erf")}
    assert 0 < np.abs(features["tanh"] - features["erf"]).max() < 0.01
    result = command(photos, "--labels", tmp_path / "start.npz", "--gelu", "relu", *output)
    assert result.exit_code == 2 and "--gelu" in result.output


@pytest.mark.parametrize("options, words", [({"gelu": "erf"}, "gelu='erf'"), ({"channels": 4}, "4 channels.*of 3")])
def test_a_keras_model_has_its_own_gelu_and_channels(photos, model, options, words):
    with pytest.raises(ValueError, match=words):
        check_labels_of(photos, model, **options)


def test_another_pixel_contract_is_worth_a_hint_for_a_checkpoint_on_poor_features(photos, model, tmp_path):
    random = np.random.default_rng(0)
    for i in range(24):
        (tmp_path / "noise" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (12, 12, 3), np.uint8)).save(
            tmp_path / "noise" / "ab"[i % 2] / f"{i}.png"
        )
    keras_vit.save_checkpoint(keras_vit.build(ROW, input_shape=(12, 12, 3), classes=7), tmp_path / "start.npz")
    hints = [
        any("--pixels" in note for note in check_labels_of(data, weights, pixels=pixels).notes)
        for data, weights, pixels in (
            (tmp_path / "noise", tmp_path / "start.npz", None),
            (tmp_path / "noise", tmp_path / "start.npz", "imagenet"),
            (tmp_path / "noise", model, None),
            (photos, tmp_path / "start.npz", None),
        )
    ]
    assert hints == [True, False, False, False]


def test_data_sets_are_checked_too(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = command("synthetic:3x8", "--labels", model)
    assert result.exit_code == 0 and "of 24 labels" in result.output
    assert (tmp_path / "labels.html").exists() and (tmp_path / "labels.csv").exists()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--output", "x.html"), "Expected --labels MODEL"),
        (("--labels", "none.keras", "--output", "x.txt"), "ends in .html"),
        (("--labels", "none.keras", "--output", "x.html"), "none.keras"),
    ],
)
def test_other_arguments_are_refused(photos, arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = command(photos, *arguments)
    assert result.exit_code == 2 and words in result.output


def test_numbers_are_refused(model, tmp_path):
    with pytest.raises(ValueError, match="of which numbers are learned"):
        check_labels_of(tmp_path, model, learns="numbers")
