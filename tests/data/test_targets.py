"""Several labels and numbers of an image: from tables, labels.json, Hugging Face and TFDS to arrays and splits."""

import json
import zipfile

import numpy as np
import pytest

from keras_vit.data.check import check_folder
from keras_vit.data.pipeline import evaluation_batches, training_batches, validation_batches
from keras_vit.data.sources import open_source

SPLITS = ("train", "validation", "test")


@pytest.fixture
def table(write):
    """Writes numbered images and a table of them; returns the table's path."""

    def table(lines, count):
        path = write({f"photos/{index}.png": index for index in range(count)}) / "table.csv"
        path.write_text("\n".join(lines) + "\n")
        return path

    return table


def labelled(source):
    """Returns {name: labels} of all images of a source."""
    return {
        name: {source.class_names[i] for i in np.flatnonzero(row)}
        for split in SPLITS
        for name, row in zip(getattr(source, split).names, getattr(source, split).labels, strict=True)
    }


CHOICES = [{"dark", "wet"}, {"dark"}, {"wet"}, set(), {"old", "wet"}]
EXPECTED = {f"photos/{i}.png": CHOICES[i % 5] for i in range(40)}
NAMES = ("dark", "old", "wet")


def test_labels_in_one_cell(table):
    lines = ["path,label", *(f"{name}, {' | '.join(sorted(labels))}" for name, labels in EXPECTED.items())]
    source = open_source(table(lines, 40), learns="labels")
    assert (source.learns, source.class_names, labelled(source)) == ("labels", NAMES, EXPECTED)
    assert source.train.labels.dtype == np.float32 and source.train.labels.shape[1:] == (3,)


@pytest.mark.parametrize("no, yes", ["01", ("0.0", "1.0"), ("False", "True")])
def test_a_column_for_each_label(table, no, yes):
    rows = (",".join([name, *((no, yes)[label in labels] for label in NAMES)]) for name, labels in EXPECTED.items())
    source = open_source(table(["path,dark,old,wet", *rows], 40), learns="labels")
    assert (source.class_names, labelled(source)) == (NAMES, EXPECTED)


@pytest.mark.parametrize("names", ["{}", "train/{}"])
def test_labels_in_labels_json(write, names, caplog):
    folder = write({names.format(f"{index}.png"): index for index in range(41)})
    content = {names.format(f"{i}.png"): sorted(labels) for i, labels in enumerate(EXPECTED.values())}
    (folder / "labels.json").write_text(json.dumps(content))
    source = open_source(folder, learns="labels")
    assert labelled(source) == {name: {*labels} for name, labels in content.items()}
    assert names.format("40.png") in caplog.text  # is not in labels.json
    with pytest.raises(ValueError, match="objective=labels"):
        open_source(folder)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("top", ["", "photos/", "deep/photos/"])
def test_labels_json_in_a_zip(write, tmp_path, top, method):
    content = {f"{'ab'[i % 2]}/p{i}_1.png": sorted(labels) for i, labels in enumerate(EXPECTED.values())}
    folder = write({name: index for index, name in enumerate(content)})
    (folder / "labels.json").write_text(json.dumps(content))
    path = tmp_path / "flowers.zip"
    with zipfile.ZipFile(path, "w", method) as file:
        for name in (*content, "labels.json"):
            file.write(folder / name, top + name)
    sources = [open_source(data, learns="labels", groups="[ab]/(.+)_1") for data in (folder, path)]
    assert sources[0].digest == sources[1].digest
    assert labelled(sources[1]) == {name: {*labels} for name, labels in content.items()}


def test_images_that_labels_json_names_and_a_zip_lacks(tmp_path, image):
    path, content = tmp_path / "flowers.zip", {f"{index}.png": ["dark"] for index in range(9)}
    with zipfile.ZipFile(path, "w") as file:
        for index, name in enumerate(content):
            file.writestr(name, image(index))
        file.writestr("labels.json", json.dumps(content | {"gone/1.png": ["wet"], "./2.png": ["wet"], "../x": []}))
    with pytest.raises(ValueError, match=r"(?s)2 images.*gone/1\.png: no such file.*\.\./x: no such file"):
        open_source(path, learns="labels")


@pytest.mark.parametrize("tops", [("",), ("train/", "val/", "test/")])
def test_groups_of_images_with_a_labels_json(write, tops):
    names = [f"{top}p{top[:-1]}{i % 8}_{i}.png" for top in tops for i in range(40)]
    folder = write({name: index for index, name in enumerate(names)})
    (folder / "labels.json").write_text(json.dumps({name: ["a", "b"][: 1 + i % 2] for i, name in enumerate(names)}))
    source = open_source(folder, learns="labels", groups="(.+)_[0-9]+", validation=0.2)
    groups = [{name.split("/")[-1].split("_")[0] for name in getattr(source, split).names} for split in SPLITS]
    assert all(groups) and sum(map(len, groups)) == len(set.union(*groups)) == 8 * len(tops)


def test_splits_of_labels_json(write):
    names = {"train/0.png": ["a"], "train/1.png": ["b"], "val/2.png": ["a", "b"], "test/3.png": []}
    folder = write({name: index for index, name in enumerate(names)})
    (folder / "labels.json").write_text(json.dumps(names))
    source = open_source(folder, learns="labels")
    assert [getattr(source, split).names for split in SPLITS] == [
        ("train/0.png", "train/1.png"),
        ("val/2.png",),
        ("test/3.png",),
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[", "cannot be read"),
        ("[1]", "a list"),
        ('{"0.png": "a"}', r"0\.png: expected a list of labels"),
        ('{"0.png": ["a", "a"]}', "a label twice"),
    ],
)
def test_a_labels_json_of_another_form_is_refused(write, content, words):
    folder = write({"0.png": 0})
    (folder / "labels.json").write_text(content)
    with pytest.raises(ValueError, match=words):
        open_source(folder, learns="labels")


def test_images_of_one_class_are_images_of_one_label():
    source = open_source("synthetic:3x8", learns="labels")
    assert source.learns == "labels" and (source.train.labels.sum(axis=1) == 1).all()
    (image,) = {len(row) for row in source.test.labels}
    assert image == 3 == len(source.class_names)


def test_labels_joined_in_a_table_are_asked_about(table):
    rows = [f"photos/{i}.png,{['wet|dark', 'wet', 'dark'][i % 3]}" for i in range(30)]
    path = table(["path,label", *rows], 30)
    with pytest.raises(ValueError, match=r"wet\|dark.*objective=labels.*objective=classes"):
        open_source(path)
    assert open_source(path, learns="classes").class_names == ("dark", "wet", "wet|dark")
    assert open_source(path, learns="labels").class_names == ("dark", "wet")


def test_a_class_name_with_a_bar_that_joins_no_others_stays_a_class(table):
    rows = [f"photos/{i}.png,{['A|B switch', 'socket'][i % 2]}" for i in range(20)]
    assert open_source(table(["path,label", *rows], 20)).class_names == ("A|B switch", "socket")


@pytest.mark.parametrize(
    ("lines", "options", "words"),
    [
        (["path,label", "photos/0.png,a||b"], {"learns": "labels"}, r"line 2: expected different labels.*'a\|\|b'"),
        (["path,label", "photos/0.png,a|a"], {"learns": "labels"}, "expected different labels"),
        (["path,a,b", "photos/0.png,1,2"], {"learns": "labels"}, "expected b to be 0 or 1. Received: '2'"),
        (["path,a,b", "photos/0.png,1,0"], {}, "unknown column 'a'.*objective=labels.*target=b"),
        (["path,labels", "photos/0.png,a|b"], {"learns": "labels"}, "Change 'labels' to 'label'"),
        (["path,age", "photos/0.png,old"], {"learns": "numbers", "target": ["age"]}, "expected age to be a number"),
        (["path,age", "photos/0.png,inf"], {"learns": "numbers", "target": ["age"]}, "Received: 'inf'"),
        (["path,age", "photos/0.png,1"], {"learns": "numbers", "target": ["size"]}, "no column 'size'"),
        (["path,age", "photos/0.png,1"], {"learns": "numbers"}, "Expected target, columns of numbers"),
        (["path,age", "photos/0.png,1"], {"target": ["age"]}, "Expected target, columns of numbers"),
    ],
)
def test_tables_that_cannot_be_learned_from_say_what_to_do(table, lines, options, words):
    with pytest.raises(ValueError, match=words):
        open_source(table(lines, 1), **options)


def test_numbers_stay_in_their_units(table, caplog):
    rows = [f"photos/{i}.png,{i / 4},{1000 - i},{'ab'[i % 2]}" for i in range(60)]
    source = open_source(table(["path,age,size,label", *rows], 60), learns="numbers", target=["size", "age"])
    assert (source.learns, source.class_names) == ("numbers", ("size", "age"))
    for split in SPLITS:
        examples = getattr(source, split)
        index = np.array([int(name.removeprefix("photos/").removesuffix(".png")) for name in examples.names])
        np.testing.assert_array_equal(examples.labels, np.stack([1000 - index, index / 4], axis=1))
    assert "columns that are not used" in caplog.text and "label" in caplog.text


def test_a_number_that_is_always_the_same_is_refused(table):
    rows = [f"photos/{i}.png,7" for i in range(20)]
    with pytest.raises(ValueError, match="same in all training images: age"):
        open_source(table(["path,age", *rows], 20), learns="numbers", target="age")


def test_every_split_has_its_share_of_rare_labels_and_of_large_numbers(table):
    count = 400
    choices = [("rare",) if i % 20 == 0 else ("often", "some")[: 1 + i % 2] for i in range(count)]
    numbers = [1000.0 if i % 20 == 0 else float(i % 7) for i in range(count)]
    rows = [f"photos/{i}.png,{'|'.join(choices[i])}" for i in range(count)]
    labels = open_source(table(["path,label", *rows], count), learns="labels")
    rare = labels.class_names.index("rare")
    counts = [int(getattr(labels, split).labels[:, rare].sum()) for split in SPLITS]
    assert counts == [14, 2, 4]
    rows = [f"photos/{i}.png,{numbers[i]}" for i in range(count)]
    sizes = open_source(table(["path,size", *rows], count), learns="numbers", target="size")
    large = [int((getattr(sizes, split).labels[:, 0] > 100).sum()) for split in SPLITS]
    assert sum(large) == 20 and all(abs(n - 20 * share) <= 3 for n, share in zip(large, (0.7, 0.1, 0.2)))


def test_labels_of_other_splits_that_are_not_trained_on_are_refused(table):
    lines = ["path,label,split", "photos/0.png,a,train", "photos/1.png,a|b,test"]
    with pytest.raises(ValueError, match="labels without an image to train on: b"):
        open_source(table(lines, 2), learns="labels")


def test_batches_have_the_labels_and_the_numbers(table):
    rows = [f"photos/{i}.png,{i},{-i}" for i in range(12)]
    lines = ["path,up,down,split", *(f"{row},{'test' if i > 9 else 'train'}" for i, row in enumerate(rows))]
    source = open_source(table(lines, 12), learns="numbers", target=["up", "down"], validation=0)
    size = (8, 8)
    (_, targets, weights), *_ = training_batches(source.train, size, 2, batch_size=4, steps=1).as_numpy_iterator()
    assert targets.dtype == np.float32 and (targets[:, 0] == -targets[:, 1]).all() and len({*targets[:, 0]}) == 4
    (_, targets, weights), *_ = validation_batches(source.train, size, 2, batch_size=16).as_numpy_iterator()
    assert targets[:10, 0].tolist() == [*range(10)] and weights.sum() == 10
    (_, labels), *_ = evaluation_batches(source.test, size).as_numpy_iterator()
    assert labels.tolist() == [[10, -10], [11, -11]]


def test_check_counts_each_label_and_names_the_command(table):
    lines = ["path,label", *(f"{name},{'|'.join(sorted(labels))}" for name, labels in EXPECTED.items())]
    path = table(lines, 40)
    report = check_folder(path, learns="labels")
    assert sum(map(sum, report.counts.values())) == sum(map(len, EXPECTED.values()))
    assert sum(report.totals.values()) == 40 and report.command.endswith("objective=labels")
    with pytest.raises(ValueError, match="no label(.|\n)*objective=labels"):
        check_folder(path)


def test_lists_of_class_labels_of_hugging_face(tmp_path):
    datasets = pytest.importorskip("datasets")
    from PIL import Image

    images = [Image.new("RGB", (8, 8), (index * 20, 0, 0)) for index in range(10)]
    numbers = [[0, 2], [1], [], [2], [0], [1, 2], [0], [1], [2], [0, 1, 2]]
    features = datasets.Features(
        {"image": datasets.Image(), "tags": datasets.List(datasets.ClassLabel(names=["x", "y", "z"]))}
    )
    datasets.Dataset.from_dict({"image": images, "tags": numbers}, features=features).save_to_disk(tmp_path / "saved")
    source = open_source(tmp_path / "saved", learns="labels", validation=0, test=0)
    assert source.class_names == ("x", "y", "z")
    assert [np.flatnonzero(row).tolist() for row in source.train.labels] == numbers
    with pytest.raises(ValueError, match="objective=labels for the lists of labels in tags"):
        open_source(tmp_path / "saved")
