"""Labels that a table corrects: what is read, and what is refused."""

import json

import numpy as np
import pytest
from PIL import Image

from keras_vit.data import check_folder, open_source

NAMES = [f"{name}/{i}.png" for name in ("cat", "dog") for i in range(4)]


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    for name in NAMES:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (12, 12, 3), np.uint8)).save(path)
    return tmp_path / "photos"


def labels_of(source):
    splits = (source.train, source.validation, source.test)
    return {
        name: source.class_names[label] if np.ndim(label) == 0 else [*np.array(source.class_names)[label > 0]]
        for split in splits
        for name, label in zip(split.names, split.labels)
    }


def table(folder, *lines):
    path = folder.parent / "corrections.csv"
    path.write_text("\n".join(lines), "utf-8-sig")  # as a spreadsheet saves it
    return path


def test_labels_of_a_folder_are_corrected_and_images_left_out(folder):
    before = labels_of(open_source(folder))
    path = table(
        folder,
        "path,label,likelier,score,keep",
        "cat/1.png,dog,dog,0.98,yes",
        "dog/2.png, cat ,cat,0.9,",
        "dog/0.png,dog,cat,0.8,No",
        "dog/1.png,dog,cat,0.7,yes",
    )
    source = open_source(folder, corrections=path)
    after = labels_of(source)
    assert after == {name: label for name, label in before.items() if name != "dog/0.png"} | {
        "cat/1.png": "dog",
        "dog/2.png": "cat",
    }
    assert source.class_names == ("cat", "dog") and source.digest != open_source(folder).digest
    report = check_folder(folder, corrections=path)
    assert sum(map(sum, report.counts.values())) == 7 and f"corrections={path}" in report.command
    assert sorted(str(file.relative_to(folder)) for file in folder.glob("*/*")) == NAMES


def test_labels_are_corrected_as_a_set(folder):
    (folder / "labels.json").write_text(json.dumps({name: ["wet", "dark"][: i % 3] for i, name in enumerate(NAMES)}))
    path = table(folder, "path,label", "cat/0.png,dark|wet", "cat/1.png,", "dog/3.png,dark")
    after = labels_of(open_source(folder, learns="labels", corrections=path))
    assert after["cat/0.png"] == ["dark", "wet"] and after["cat/1.png"] == [] and after["dog/3.png"] == ["dark"]
    assert len(after) == len(NAMES)


def test_all_faults_are_in_one_message(folder):
    path = table(
        folder,
        *("path,label,keep", "cat/9.png,dog,yes", "cat/1.png,dgo,yes", "cat/2.png,dog,maybe", "cat/3.png,dog,yes"),
        *("cat/3.png,cat,yes", "dog/1.png,anything,no"),
    )
    with pytest.raises(ValueError) as error:
        open_source(folder, corrections=path)
    lines = str(error.value).splitlines()
    assert len(lines) == 5
    for line, number, words in zip(lines[1:], (2, 3, 4, 6), ("is no image", "nearest: 'dog'", "yes or no", "again")):
        assert f"line {number}: " in line and words in line


@pytest.mark.parametrize(
    "lines, words",
    [
        (("path;label", "cat/1.png;dog"), "path;label"),
        (("cat/1.png,dog",), "without path and label"),
        ((), "nothing in its first line"),
    ],
)
def test_another_form_is_refused(folder, lines, words):
    with pytest.raises(ValueError, match="path, label and optionally keep") as error:
        open_source(folder, corrections=table(folder, *lines))
    assert words in str(error.value)


def test_a_missing_table_is_named(folder):
    with pytest.raises(ValueError, match="nowhere.csv"):
        open_source(folder, corrections="nowhere.csv")


def test_a_class_that_loses_all_images_is_a_problem(folder):
    path = table(folder, "path,label", *(f"dog/{i}.png,cat" for i in range(4)))
    assert "classes without an image after the corrections: dog" in check_folder(folder, corrections=path).problems


def test_numbers_are_not_corrected(folder):
    (folder / "ages.csv").write_text("path,age\ncat/1.png,3\ncat/2.png,5\n")
    with pytest.raises(ValueError, match="whose images have numbers"):
        open_source(folder / "ages.csv", learns="numbers", target="age", corrections=table(folder, "path,label"))
