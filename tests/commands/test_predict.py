"""`keras-vit predict` on many images: how they are named, what is written of them, and what does not stop it."""

import csv
import io
import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import keras_vit
from keras_vit import _progress
from keras_vit.commands import cli, image_files
from keras_vit.commands.image_files import image_paths, read_batches
from keras_vit.commands.predict import iterate_predictions, open_predictor, predict
from keras_vit.commands.prediction_lines import STYLES, PredictedImage
from keras_vit.data.decoding import ImageError
from keras_vit.models.features import representation
from keras_vit.runtime.tflite import TFLiteFile

DIGITS = pathlib.Path(keras_vit.__path__[0], "..", "savedmodels", "digits", "model_int8.tflite").resolve()
SIZE = (12, 8)
ODD_NAMES = [b"caf\xe9.png", "Bild von 3.00\u202fUhr.png".encode(), b"two\nlines.png", b'a,"b".png', b"\x1b[2J.png"]


def run(*arguments, **options):
    return CliRunner().invoke(cli.main, ["predict", *map(str, arguments)], **options)


def png(seed):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (9, 7), np.uint8)).save(file, "PNG")
    return file.getvalue()


def write_images(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        (folder / name).write_bytes(png(seed))
    return folder


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Images in folders, with what is no image beside them; the folder is the current one."""
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "photos" / "b", ["2.png", "10.JPG", "[1].png"])
    write_images(tmp_path / "photos" / "a" / "deep", ["x.png"])
    write_images(tmp_path / "photos", [".hidden.png", "c.png"])
    (tmp_path / "photos" / "notes.txt").write_text("none")
    (tmp_path / "empty").mkdir()
    return tmp_path / "photos"


IN_PHOTOS = ["photos/a/deep/x.png", "photos/b/10.JPG", "photos/b/2.png", "photos/b/[1].png", "photos/c.png"]


# Which images


def paths_of(*arguments):
    return [str(item) if isinstance(item, ImageError) else os.fspath(item) for item in image_paths(arguments)]


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["photos"], IN_PHOTOS),
        ([pathlib.Path("photos")], IN_PHOTOS),
        (["photos/c.png", "photos/c.png"], ["photos/c.png"] * 2),
        (["photos/b/[1].png"], ["photos/b/[1].png"]),  # a file of this name is no pattern
        (["photos/b/*"], IN_PHOTOS[1:4]),
        (["photos/b/[0-9]*"], IN_PHOTOS[1:3]),
        (["photos/**/*.png"], [IN_PHOTOS[0], *IN_PHOTOS[2:]]),
        (["photos/**"], [IN_PHOTOS[0], *IN_PHOTOS[1:], "photos/notes.txt"]),
        (["photos/c.png", "photos/a", "photos/b/2*"], ["photos/c.png", IN_PHOTOS[0], "photos/b/2.png"]),
    ],
)
def test_images_are_named_by_paths_folders_and_patterns(photos, arguments, expected):
    assert paths_of(*arguments) == expected


@pytest.mark.parametrize("start, end", [(b"", b"\n"), (b"\xef\xbb\xbf", b"\r\n")])
def test_images_are_named_by_lists(photos, monkeypatch, start, end):
    lines = start + end.join([b"photos/c.png", b"", b"photos/b", b"photos/b/[1].png", b"missing \xe9.png"])
    pathlib.Path("list.txt").write_bytes(lines)
    expected = ["photos/c.png", *IN_PHOTOS[1:4], "photos/b/[1].png", "missing \udce9.png"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert paths_of("photos/a", "@list.txt") == [IN_PHOTOS[0], *expected]
    assert paths_of("-", "photos/a") == [*expected, IN_PHOTOS[0]]


@pytest.mark.parametrize(
    "argument, words",
    [
        ("nowhere/", "nowhere/: no such file"),
        ("nowhere.png", "nowhere.png: no such file"),
        ("empty", "empty: a folder without images; 0 files"),
        ("*.gif", "*.gif: no file has a name of this pattern"),
        ("@nowhere.txt", "@nowhere.txt: a list that cannot be read (No such file or directory)"),
        ("@empty.txt", "@empty.txt: a list without a path"),
        ("@utf16.txt", "@utf16.txt: expected a list in UTF-8"),
        ("-", "standard input: a list without a path"),
        ("photos/notes.txt", "photos/notes.txt: not an image in a format that is read"),
        (os.devnull, f"{os.devnull}: not a file"),
    ],
)
def test_what_names_no_image_is_named_and_does_not_stop_the_others(photos, argument, words):
    pathlib.Path("empty.txt").write_text("\n\n")
    pathlib.Path("utf16.txt").write_text("photos/c.png\n" * 3, "utf-16")
    alone = run(DIGITS, argument)
    assert alone.exit_code == 2 and alone.stdout == "" and words in alone.stderr
    among = run(DIGITS, "photos/c.png", argument, "photos/a")
    assert among.exit_code == 3 and words in among.stderr and "1 of 3 images" in among.stderr
    assert [line.split(":")[0] for line in among.stdout.splitlines()] == ["photos/c.png", "photos/a/deep/x.png"]


def test_links_in_a_circle_are_followed_once(photos):
    (photos / "a" / "deep" / "up").symlink_to(photos, target_is_directory=True)
    (photos / "b" / "other").symlink_to(photos / "a", target_is_directory=True)
    (photos / "z").symlink_to(photos / "z")
    (photos / "z.png").symlink_to(photos / "z.png")
    assert paths_of("photos") == [*IN_PHOTOS[:4], "photos/b/other/deep/x.png", "photos/c.png", "photos/z.png"]


def test_other_files_of_a_folder_are_counted(photos):
    assert "photos: left out: 1 file " in run(DIGITS, photos.name).stderr


# Thousands of images


@pytest.fixture(scope="module")
def thousands(tmp_path_factory):
    """3,000 images of 40 contents in three folders, 2 of which cannot be read."""
    folder = tmp_path_factory.mktemp("thousands")
    contents = [png(seed) for seed in range(40)]
    for number in range(3000):
        path = folder / str(number // 1000) / f"{number:04}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(contents[number % 40])
    (folder / "0" / "0500.png").write_bytes(contents[0][:60])
    (folder / "2" / "2999.png").write_bytes(b"")
    return folder


def test_thousands_are_predicted_in_order_and_two_bad_ones_named(thousands, monkeypatch):
    monkeypatch.setattr(_progress, "SECONDS_BETWEEN_UPDATES", -1.0)
    sizes, own = [], TFLiteFile.predict
    monkeypatch.setattr(TFLiteFile, "predict", lambda self, pixels: (sizes.append(len(pixels)), own(self, pixels))[1])
    result = run(DIGITS, thousands, "--json", "--top", 3)
    assert result.exit_code == 3
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    names = [str(path) for path in sorted(thousands.rglob("*.png")) if path.name not in ("0500.png", "2999.png")]
    assert [row["image"] for row in rows] == names and len(names) == 2998
    assert max(sizes) == 64 and sum(sizes) == 2998
    faults = [line.split(": ")[0] for line in result.stderr.splitlines() if ".png: " in line]
    assert faults == [f"{thousands}/0/0500.png", f"{thousands}/2/2999.png"]
    assert "Error: 2 of 3,000 images could not be read." in result.stderr
    assert "2998 images predicted, " in result.stderr and " images/s" in result.stderr
    ((*expected,),) = predict(DIGITS, [names[7]], top=3)
    assert [(each["class"], pytest.approx(each["probability"])) for each in rows[47]["classes"]] == expected


class Counted:
    """A model whose `read` returns pixels that are counted while they live."""

    image_size, channels = (2, 2), 3

    def read(self, image):
        return np.zeros((2, 2, 3), np.uint8)


def test_memory_holds_two_batches_whatever_the_number_of_images():
    taken = itertools.count()
    images = (png(0) for _ in iter(lambda: next(taken), None))  # without an end
    batches = read_batches(Counted(), images, size=10)
    for number, batch in enumerate(itertools.islice(batches, 4), 1):
        assert len(batch.images) == 10
        assert next(taken) <= 10 * (number + 1) + number + 1  # each look at the counter adds one
    batches.close()


def test_threads_read_the_next_batch_while_the_model_runs(monkeypatch):
    monkeypatch.setattr(image_files, "THREADS", 2)
    together, started = threading.Barrier(2), threading.Semaphore(0)

    class Model(Counted):
        def read(self, image):
            started.release()
            together.wait(30)  # for another thread that reads, too
            return super().read(image)

    batches = read_batches(Model(), [png(0)] * 32, size=8)
    assert len(next(batches).images) == 8
    for _ in range(16):  # the model has the first batch; meanwhile the second is read
        assert started.acquire(timeout=30)
    assert [len(batch.images) for batch in batches] == [8, 8, 8]


# What is written


def test_odd_names_are_exact_in_json_and_csv_and_on_one_line_as_text(tmp_path):
    folder = write_images(tmp_path / "odd", map(os.fsdecode, ODD_NAMES))
    names = sorted(os.path.join(str(folder), os.fsdecode(name)) for name in ODD_NAMES)
    as_json = run(DIGITS, folder, "--json")
    assert [json.loads(line)["image"] for line in as_json.stdout.splitlines()] == names
    as_csv = run(DIGITS, folder, "--csv")
    table = io.StringIO(as_csv.stdout_bytes.decode("utf-8", "surrogateescape"), newline="")
    assert [row["image"] for row in csv.DictReader(table)] == names
    as_text = run(DIGITS, folder)
    lines = as_text.stdout.split("\n")[:-1]
    assert len(lines) == len(names) and all(line.isprintable() for line in lines)
    file = tmp_path / "table.csv"
    assert run(DIGITS, folder, "--csv", "--output", file).exit_code == 0
    assert file.read_bytes() == as_csv.stdout_bytes


def test_classes_are_columns_of_csv_in_the_order_of_probability(photos):
    result = run(DIGITS, photos, "--csv", "--top", 2)
    heading, *rows = csv.reader(io.StringIO(result.stdout))
    assert heading == ["image", "class_1", "probability_1", "class_2", "probability_2"]
    predictions = predict(DIGITS, [photos], top=2)
    assert [[row[1], row[3]] for row in rows] == [[name for name, _ in each] for each in predictions]
    for row, ((_, first), (_, second)) in zip(rows, predictions, strict=True):
        assert (np.float32(row[2]), np.float32(row[4])) == (np.float32(first), np.float32(second))
    assert run(DIGITS, photos, "--csv", "--json").exit_code == 2


def model_with(head):
    vit = keras_vit.build(
        keras_vit.Variant(4, 16, 1, 2, 24), include_top=False, pooling="token", input_shape=(*SIZE, 3)
    )
    return keras.Model(vit.input, head(vit.output))


HEADS = {
    "numbers": lambda x: [keras.layers.Dense(1, name="age")(x), keras.layers.Dense(2, name="box")(x)],
    "number": keras.layers.Dense(1),
    "binary": keras.layers.Dense(1, "sigmoid"),
}


@pytest.mark.parametrize(
    "head, options, names",
    [
        ("numbers", ["--outputs", "numbers"], ["age", "box 0", "box 1"]),
        ("number", [], ["numbers"]),
        ("binary", ["--outputs", "scores"], None),
    ],
)
def test_numbers_and_binary_heads_have_columns_and_keys(photos, tmp_path, head, options, names):
    model = model_with(HEADS[head])
    model.save(tmp_path / "model.keras")
    arguments = [tmp_path / "model.keras", "photos/c.png", "photos/b/2.png", *options]
    text, as_json, as_csv = (run(*arguments, *style) for style in ([], ["--json"], ["--csv"]))
    assert (text.exit_code, as_json.exit_code, as_csv.exit_code) == (0, 0, 0), text.output
    rows = [json.loads(line) for line in as_json.stdout.splitlines()]
    table = list(csv.DictReader(io.StringIO(as_csv.stdout)))
    file = open_predictor(arguments[0], outputs=(options or [None])[-1])
    pixels = np.stack([file.read(path) for path in arguments[1:3]])
    arrays = np.concatenate(keras.tree.flatten(model.predict(file.preprocess(pixels), verbose=0)), axis=1)
    lines = text.stdout.splitlines()
    for row, cells, line, values in zip(rows, table, lines, arrays.tolist(), strict=True):
        if names:
            assert list(row["numbers"]) == names == [*cells][1:]
            assert list(row["numbers"].values()) == [pytest.approx(value, rel=1e-4) for value in values]
            assert [float(cells[name]) for name in names] == pytest.approx([*row["numbers"].values()], rel=1e-5)
            # Each style is a run of its own, whose last digits may differ.
            texts = [part.rpartition(" ")[2] for part in line.split(": ")[1].split(", ")]
            assert [float(text) for text in texts] == pytest.approx([*row["numbers"].values()], rel=1e-5)
            assert texts == [f"{float(text):.6g}" for text in texts]
            shown = [f"{name} {text}".removeprefix("numbers ") for name, text in zip(names, texts, strict=True)]
        else:
            assert [each["class"] for each in row["classes"]] == [cells["class_1"], cells["class_2"]]
            assert sum(each["probability"] for each in row["classes"]) == pytest.approx(1)
            assert float(cells["probability_1"]) == pytest.approx(max(values[0], 1 - values[0]), abs=1e-5)
            shown = [f"{each['class']} {each['probability']:.1%}" for each in row["classes"]]
        assert line == f"{row['image']}: {', '.join(shown)}"


def test_all_images_have_the_same_columns_for_several_labels(photos, tmp_path):
    keras.utils.set_random_seed(0)
    row = keras_vit.Variant(4, 16, 1, 2, 24)
    model = keras_vit.build(row, input_shape=(*SIZE, 3), classes=3, classifier_activation="sigmoid")
    model.class_names, names = ("dark", "labels", "wet"), ["photos/c.png", "photos/b/2.png", "photos/a/deep/x.png"]
    model.get_layer("head").kernel.assign(np.random.default_rng(0).normal(0, 3, (16, 3)))
    file = open_predictor(_saved(model, tmp_path))
    scores = file.predict(np.stack([file.read(name) for name in names]))["probabilities"]
    low, middle, high = np.sort(scores, axis=0)
    model.thresholds = tuple(float(two[k]) for k, two in enumerate(((low + middle) / 2, low / 2, (middle + high) / 2)))
    table = list(csv.reader(io.StringIO(run(_saved(model, tmp_path), *names, "--csv").stdout)))
    assert table[0] == ["image", "labels", "score_dark", "score_labels", "score_wet"]
    assert {len(cells) for cells in table} == {5} and [cells[0] for cells in table[1:]] == names
    for cells, values in zip(table[1:], scores, strict=True):
        np.testing.assert_allclose(np.array(cells[2:], float), values, rtol=1e-4)
        chosen = {name for name, value, least in zip(model.class_names, values, model.thresholds) if value >= least}
        assert {*cells[1].split("|")} == chosen
    assert len({cells[1] for cells in table[1:]}) > 1


def _saved(model, folder):
    model.save(folder / "model.keras")
    return folder / "model.keras"


def test_what_is_not_finite_is_null_in_json():
    line = STYLES["json"].line(PredictedImage("a.png", [("x", float("nan")), ("y", 0.1)], is_classes=False))
    assert json.loads(line, parse_constant=pytest.fail) == {"image": "a.png", "numbers": {"x": None, "y": 0.1}}


def test_a_file_appears_when_it_is_complete(photos, tmp_path, monkeypatch):
    file = tmp_path / "new" / "lines.txt"
    assert run(DIGITS, "nowhere.png", "--output", file).exit_code == 2
    assert not file.exists()
    result = run(DIGITS, "nowhere.png", photos.name, "--output", file)
    assert result.exit_code == 3 and result.stdout == "" and f"wrote {file}" in result.stderr
    before = file.read_text()
    assert [line.split(": ")[0] for line in before.splitlines()] == IN_PHOTOS
    monkeypatch.setattr(TFLiteFile, "predict", lambda self, pixels: (_ for _ in ()).throw(ValueError("fails")))
    assert run(DIGITS, photos.name, "--output", file).exit_code == 2
    assert file.read_text() == before and [path.name for path in file.parent.iterdir()] == [file.name]


# Features


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    """A model as a .keras file and a .tflite file with features."""
    folder = tmp_path_factory.mktemp("vit")
    model = keras_vit.build(keras_vit.Variant(4, 16, 1, 2, 24), input_shape=(*SIZE, 3), classes=3)
    model.save(folder / "model.keras")
    (folder / "labels.txt").write_text("ash\nelm\nfir\n")
    keras_vit.export.tflite(model, folder / "features.tflite", mode="float32", extra_outputs=["features"])
    return folder, model


@pytest.mark.parametrize("name", ["model.keras", "features.tflite"])
def test_features_are_written_with_the_names_of_the_images(vit, thousands, tmp_path, name):
    folder, model = vit
    file = tmp_path / "features.npz"
    arguments = [folder / name, thousands / "0", "--features", file, "--json"]
    result = run(*arguments)
    assert result.exit_code == 3, result.output
    plain = run(*arguments[:2], "--json")
    read, preprocess = open_predictor(folder / name).read, open_predictor(folder / "model.keras").preprocess
    with np.load(file) as arrays:
        images, features = arrays["images"].tolist(), arrays["features"]
    assert images == [json.loads(line)["image"] for line in result.stdout.splitlines()] and len(images) == 999
    assert features.shape == (999, 16) and features.dtype == np.float32
    some = [*range(70), 998]
    pixels = np.stack([read(images[i]) for i in some])
    expected = representation(model).predict(preprocess(pixels), verbose=0)
    np.testing.assert_allclose(features[some], expected, atol=1e-5)
    for one, other in zip(plain.stdout.splitlines(), result.stdout.splitlines(), strict=True):
        for a, b in zip(json.loads(one)["classes"], json.loads(other)["classes"]):
            assert a["probability"] == pytest.approx(b["probability"], abs=1e-5)


def test_features_of_odd_names_and_of_a_model_without_a_head(tmp_path):
    bare = keras_vit.build(
        keras_vit.Variant(4, 16, 1, 2, 24), include_top=False, pooling="token", input_shape=(*SIZE, 3)
    )
    bare.save(tmp_path / "bare.keras")
    folder = write_images(tmp_path / "odd", map(os.fsdecode, ODD_NAMES))
    assert run(tmp_path / "bare.keras", folder).exit_code == 2
    result = run(tmp_path / "bare.keras", folder, "--features", tmp_path / "new" / "f.npz")
    assert result.exit_code == 0, result.output
    with np.load(tmp_path / "new" / "f.npz") as arrays:
        assert arrays["images"].tolist() == sorted(str(folder / os.fsdecode(name)) for name in ODD_NAMES)
        assert arrays["features"].shape == (len(ODD_NAMES), 16)
    assert len(result.stdout.splitlines()) == len(ODD_NAMES) and "%" not in result.stdout


def test_features_that_there_are_not_are_refused_and_no_file_is_left(photos, tmp_path):
    result = run(DIGITS, photos, "--features", tmp_path / "f.npz")
    assert result.exit_code == 2 and "--extra-output features" in result.stderr
    result = run(DIGITS.parent, photos, "--features", tmp_path / "f.csv")
    assert result.exit_code == 2 and "ends in .npz" in result.stderr
    assert run(DIGITS.parent, tmp_path / "empty", "--features", tmp_path / "f.npz").exit_code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "photos"]


# In Python


def test_python_reads_what_the_command_reads(photos):
    predictor = open_predictor(DIGITS)
    found = dict(iterate_predictions(predictor, ["photos/**/x.png", photos / "b"], top=1))
    assert list(found) == ["photos/a/deep/x.png", *(str(photos.parent / name) for name in IN_PHOTOS[1:4])]
    assert [list(found.values())[0]] == predict(DIGITS, ["photos/a"], top=1) == predict(DIGITS, "photos/a", top=1)
    with pytest.raises(ValueError, match=r"(?s)cannot be read.*empty: a folder without"):
        predict(DIGITS, [photos, "empty"])


# When it is stopped

PROGRAM = "from keras_vit_command import main; main(prog_name='keras-vit')"


def start(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(keras_vit.__path__[0]).parent)}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "predict", *map(str, arguments)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_ctrl_c_leaves_whole_lines(thousands):
    with start(DIGITS, "-", "--json") as process:
        for number in range(300):
            process.stdin.write(f"{thousands}/1/{1000 + number}.png\n".encode())
        process.stdin.flush()
        lines = [process.stdout.readline() for _ in range(10)]  # it waits for more paths after the fourth batch
        process.send_signal(signal.SIGINT)
        lines += process.stdout.readlines()  # not `communicate`, which loses what `readline` has buffered
        errors = process.stderr.read()
    assert process.returncode == 130 and b"Stopped by SIGINT" in errors and b"Traceback" not in errors
    assert [json.loads(line)["image"] for line in lines] == [
        f"{thousands}/1/{1000 + number}.png" for number in range(len(lines))
    ]
    assert lines[-1].endswith(b"\n")


def test_a_reader_that_has_read_enough_ends_it_quietly(thousands):
    process = start(DIGITS, "-", "--csv")
    process.stdout.close()
    process.stdin.write(b"".join(f"{thousands}/1/{1000 + number}.png\n".encode() for number in range(300)))
    process.stdin.close()
    errors = process.stderr.read()
    assert process.wait() == 1 and errors == b""
    process.stderr.close()
