"""`keras-vit search`: which images it lists, what it embeds again, and what it refuses."""

import csv
import functools
import json
import os
import pathlib
import shutil

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import keras_vit
from keras_vit.commands import cli
from keras_vit.commands import search as work
from keras_vit.data import read_pixels

NAMES = [f"{folder}/{i}.png" for folder in ("a b", "c") for i in range(4)]
TEXTS = ["red dog", "two cats"]


def write_image(path, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), np.uint8)
    Image.fromarray(pixels).resize((40, 36), Image.Resampling.BICUBIC).save(path)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory, words, oracle):
    """A SigLIP, a CLIP, and a classifier without a text tower."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for case in ("siglip", "clip"):
        words.write(oracle, case, folder / case)
    keras.utils.set_random_seed(0)
    model = keras_vit.build(keras_vit.Variant(8, 16, 1, 2, 24), input_shape=(32, 48, 3), classes=3)
    model.get_layer("head").kernel.assign(np.random.default_rng(0).normal(size=(16, 3)))
    model.save(folder / "model.keras")
    return folder


@pytest.fixture(scope="module", autouse=True)
def opened_once():
    """Each model is opened and compiled once, whatever searches with it."""
    opened, towers, encode = {}, work._open, functools.cache(keras_vit.text_encoder)

    def once(model, options):
        key = os.path.basename(model), repr(options)
        return opened[key] if key in opened else opened.setdefault(key, towers(model, options))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "_open", once)
        patch.setattr(keras_vit, "text_encoder", lambda weights: encode(str(weights)))
        yield


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """The working folder, with photos: eight images, and one that cannot be read."""
    for number, name in enumerate(NAMES):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, number)
    (tmp_path / "photos" / "torn.jpg").write_bytes(b"no image")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def embedded(monkeypatch):
    """The number of images in each batch that is embedded."""
    counts, embed = [], work._embedded

    def counting(opened, pixels):
        counts.append(len(pixels))
        return embed(opened, pixels)

    monkeypatch.setattr(work, "_embedded", counting)
    return counts


def run(*arguments):
    result = CliRunner().invoke(cli.main, ["search", *map(str, arguments)])
    assert "Traceback" not in result.output
    return result


def rows_of(*arguments):
    """Returns {query: [(image, similarity, probability)]}."""
    result = run(*arguments, "--json")
    assert result.exit_code == 3, result.output
    rows = {}
    for row in map(json.loads, result.stdout.splitlines()):
        rows.setdefault(row["query"], []).append((row["image"], row["similarity"], row.get("probability")))
    return rows


def unit(x):
    x = keras.ops.convert_to_numpy(x)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def expected(checkpoint, texts, names):
    """Returns the cosines (texts, images) of a checkpoint's two towers."""
    model, encoder = keras_vit.load(checkpoint), keras_vit.text_encoder(checkpoint)
    pixels = np.stack([read_pixels(f"photos/{name}", (32, 32)) for name in names])
    images = unit(model(model.preprocess_input(pixels)))
    return unit(encoder(keras_vit.tokenizer(checkpoint)(texts))) @ images.T


@pytest.mark.parametrize("case", ["siglip", "clip"])
def test_words_are_compared_by_both_towers_of_the_checkpoint(case, checkpoints):
    rows = rows_of("photos", *TEXTS, "--model", checkpoints / case, "--top", 5)
    cosines, encoder = expected(checkpoints / case, TEXTS, NAMES), keras_vit.text_encoder(checkpoints / case)
    for text, row in zip(TEXTS, cosines):
        order = np.argsort(-row)[:5]
        assert [image for image, _, _ in rows[text]] == [f"photos/{NAMES[i]}" for i in order]
        np.testing.assert_allclose([similarity for _, similarity, _ in rows[text]], row[order], rtol=0, atol=1e-5)
        probabilities = [probability for _, _, probability in rows[text]]
        if case == "clip":
            assert probabilities == [None] * 5
        else:
            sigmoid = keras.ops.sigmoid(encoder.scale * row[order] + encoder.bias)
            np.testing.assert_allclose(probabilities, sigmoid, rtol=0, atol=1e-5)


def test_the_first_search_makes_an_index_and_a_page_and_the_next_needs_no_model(checkpoints, embedded, monkeypatch):
    first = run("photos", *TEXTS, "--model", checkpoints / "siglip", "--top", 3)
    assert first.exit_code == 3 and embedded == [8]
    assert sorted(os.listdir("runs/photos-search")) == ["index.npz", "search.html"]
    assert "runs/photos-search/index.npz, 8 images: 8 new" in first.stderr and "1 of 9 images cannot" in first.stderr
    assert "photos/torn.jpg: " in first.stderr and "torn" not in first.stdout
    lines = first.stdout.splitlines()
    assert lines[0] == '"red dog"' and lines[1].split() == ["rank", "similarity", "probability", "image"]
    assert len(lines) == 10 and lines[2].split()[0] == "1" and lines[2].endswith(".png")
    page = pathlib.Path("runs/photos-search/search.html").read_text("utf-8")
    assert page.count("<figure>") == 6 and 'href="../../photos/a%20b/0.png"' in page and "probability" in page
    with np.load("runs/photos-search/index.npz") as file:
        assert file["images"].tolist() == NAMES and file["embeddings"].dtype == np.float32
    before = pathlib.Path("runs/photos-search/index.npz").stat().st_mtime_ns
    monkeypatch.setattr(work, "_open", None)  # the image tower is not needed
    assert run("photos", *TEXTS, "--top", 3).stdout == first.stdout
    assert pathlib.Path("runs/photos-search/index.npz").stat().st_mtime_ns == before
    os.remove("photos/torn.jpg")
    again = run("photos", "red dog", "--output", "new/page.html")
    assert again.exit_code == 0 and "8 images, all unchanged" in again.stderr
    assert pathlib.Path("new/page.html").exists() and embedded == [8]


def test_new_and_changed_images_alone_are_embedded(checkpoints, embedded):
    rows_of("photos", *TEXTS, "--model", checkpoints / "clip")
    os.remove("photos/c/3.png")
    write_image("photos/new.png", 8)
    write_image("photos/torn.jpg", 9)
    write_image("photos/c/1.png", 10)
    result = run("photos", *TEXTS, "--json")
    assert result.exit_code == 0 and embedded == [8, 3]
    assert "3 new or changed, 6 unchanged, 1 no longer there" in result.stderr
    names = [name for name in NAMES if name != "c/3.png"] + ["new.png", "torn.jpg"]
    cosines = expected(checkpoints / "clip", TEXTS, names)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    for text, row in zip(TEXTS, cosines):
        images = [one["image"] for one in rows if one["query"] == text]
        assert images == [f"photos/{names[i]}" for i in np.argsort(-row)]


def test_a_stopped_search_keeps_what_it_has_embedded(checkpoints, embedded, monkeypatch):
    monkeypatch.setattr(work, "read_batches", functools.partial(work.read_batches, size=3))
    arguments, counting = ["photos", "red dog", "--model", checkpoints / "clip"], work._embedded

    def stopped(opened, pixels):
        if len(embedded) == 2:
            raise KeyboardInterrupt
        return counting(opened, pixels)

    with monkeypatch.context() as patch:
        patch.setattr(work, "_embedded", stopped)
        result = run(*arguments)
    assert result.exit_code == 130 and "continues it" in result.stderr
    assert os.listdir("runs/photos-search") == ["index.npz"]
    assert len(rows_of(*arguments)["red dog"]) == 8 and embedded == [3, 3, 2]


def test_the_index_is_written_during_a_long_search(checkpoints, monkeypatch):
    written = []
    monkeypatch.setattr(work, "_SECONDS_BETWEEN_WRITES", 0.0)
    monkeypatch.setattr(work, "read_batches", functools.partial(work.read_batches, size=3))
    monkeypatch.setattr(work, "write_index", lambda path, index: written.append(len(index.paths)))
    run("photos", "red dog", "--model", checkpoints / "clip")
    assert written == [3, 6, 8, 8]


def test_images_are_compared_by_the_input_of_the_head(checkpoints):
    shutil.copy("photos/c/2.png", "query.png")
    model = checkpoints / "model.keras"
    options = ["--image", "query.png", "--image", "photos/a b/1.png", "--csv"]
    result = run("photos", "--model", model, *options)
    rows = list(csv.DictReader(result.stdout.splitlines()))
    assert {row["by"] for row in rows} == {"image"} and {row["probability"] for row in rows} == {""}
    by_query = {query: [row for row in rows if row["query"] == query] for query in ("query.png", "photos/a b/1.png")}
    assert by_query["query.png"][0]["image"] == "photos/c/2.png" and len(by_query["query.png"]) == 8
    assert float(by_query["query.png"][0]["similarity"]) == pytest.approx(1, abs=1e-6)
    own = by_query["photos/a b/1.png"]
    assert len(own) == 7 and "photos/a b/1.png" not in [row["image"] for row in own]  # the image itself is left out
    pixels = np.stack([read_pixels(f"photos/{name}", (32, 48)) for name in NAMES])
    features = keras_vit.representation(keras.models.load_model(model))(pixels / 127.5 - 1)
    cosines = unit(features) @ unit(features).T
    others = [i for i in np.argsort(-cosines[1]) if i != 1]
    assert [row["image"] for row in own] == [f"photos/{NAMES[i]}" for i in others]
    np.testing.assert_allclose([float(row["similarity"]) for row in own], cosines[1][others], rtol=0, atol=1e-5)


def test_an_index_of_another_model_or_folder_is_refused_and_kept(checkpoints):
    run("photos", "red dog", "--model", checkpoints / "clip", "--index", "x.npz")
    before = pathlib.Path("x.npz").read_bytes()
    shutil.copytree(checkpoints / "clip", "moved")
    shutil.copytree("photos", "copied", copy_function=shutil.copy2)
    for message, arguments in {
        "model: ": ["photos", "red dog", "--model", checkpoints / "siglip"],
        "image size: (32, 32) there, (48, 48) here": ["photos", "red dog", "--image-size", "48", "48"],
        "imagenet here": ["photos", "red dog", "--pixels", "imagenet"],
        "erf here": ["photos", "red dog", "--gelu", "erf"],
        "none of which is here": ["other", "red dog"],
    }.items():
        pathlib.Path("other").mkdir(exist_ok=True)
        write_image("other/1.png", 1)
        result = run(*arguments, "--index", "x.npz")
        assert result.exit_code == 2 and message in result.stderr, result.output
        assert pathlib.Path("x.npz").read_bytes() == before
    same = ["--model", "moved", "--image-size", "32", "32", "--index", "x.npz"]
    assert (
        "all unchanged" not in run("photos", "red dog", *same).stderr and "0 new" in run("copied", "cat", *same).stderr
    )
    assert "8 unchanged" in run("photos", "red dog", "--index", "x.npz").stderr  # with the model at its new place
    shutil.rmtree("moved")
    assert "moved, which is no longer there" in run("photos", "red dog", "--index", "x.npz").stderr
    before = pathlib.Path("x.npz").read_bytes()
    shutil.rmtree("photos")
    pathlib.Path("photos").mkdir()
    assert run("photos", "red dog", "--model", checkpoints / "clip", "--index", "x.npz").exit_code == 2  # not mounted
    assert pathlib.Path("x.npz").read_bytes() == before


def test_the_help_names_the_default_model():
    assert work.SEARCH_MODEL in next(one.help for one in cli.main.commands["search"].params if one.name == "model")


@pytest.mark.parametrize(
    "message, arguments",
    [
        ("Expected words or --image", ["photos"]),
        ("one of --json and --csv", ["photos", "dog", "--json", "--csv"]),
        ("write --image before it", ["photos", "photos/c/2.png"]),
        ("none of them blank", ["photos", " "]),
        ("which is not a folder", ["photos/c/2.png", "dog"]),
        ("ends in .npz", ["photos", "dog", "--index", "x.zip"]),
        ("Name a file for it with --index", [".", "dog"]),
        ("needs a SigLIP or CLIP checkpoint", ["photos", "dog", "--model", "MODEL"]),
        ("Images cannot be read", ["photos", "--image", "photos/torn.jpg", "--model", "MODEL"]),
        ("a folder without images", ["empty", "dog"]),
        ("cannot be read", ["photos", "dog", "--index", "damaged.npz"]),
    ],
)
def test_what_a_careless_user_types(message, arguments, checkpoints):
    pathlib.Path("empty").mkdir()
    pathlib.Path("damaged.npz").write_bytes(b"PK")
    model = {"MODEL": str(checkpoints / "model.keras")}
    result = run(*(model.get(argument, argument) for argument in arguments))
    assert result.exit_code == 2 and message in result.output
    assert not pathlib.Path("runs").exists()
