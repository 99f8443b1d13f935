import hashlib
import logging
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_vit.data import listing as listing_module
from keras_vit.data.decoding import decode
from keras_vit.data.listing import SPLITS
from keras_vit.data.sources import open_source

pytestmark = pytest.mark.filterwarnings("error")


def class_folders(**counts) -> dict[str, int]:
    number = iter(range(10_000))
    return {f"{name}/{index:03d}.png": next(number) for name, count in counts.items() for index in range(count)}


def splits(source) -> dict[str, dict[str, int]]:
    """The splits as {split: {sha256 of a file: label}}; copies collapse."""
    result = {}
    for split in SPLITS:
        examples = getattr(source, split)
        assert len(examples.images) == len(examples.labels) == len(examples.names)
        assert examples.labels.dtype == np.int64
        digests = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in examples.images]
        result[split] = dict(zip(digests, examples.labels.tolist(), strict=True))
    return result


def sizes(source) -> list[int]:
    return [len(getattr(source, split).images) for split in SPLITS]


def per_class(examples, classes: int) -> list[int]:
    return np.bincount(examples.labels, minlength=classes).tolist()


def test_class_folders_are_split_class_by_class(write):
    root = write(class_folders(rose=30, aster=20, Zinnia=11))
    source = open_source(root)
    assert source.name == "flowers"
    assert source.class_names == ("Zinnia", "aster", "rose")  # sorted by code points
    assert per_class(source.test, 3) == [2, 4, 6]
    assert per_class(source.validation, 3) == [1, 2, 3]
    assert per_class(source.train, 3) == [8, 14, 21]
    for split in SPLITS:
        examples = getattr(source, split)
        for path, label, name in zip(examples.images, examples.labels, examples.names, strict=True):
            assert path == str(root / name)
            assert name.split("/")[0] == source.class_names[label]
        assert list(examples.names) == sorted(examples.names)
    assert source.bad == ()


def test_given_splits_are_kept_and_only_the_missing_one_is_drawn(write):
    files = {f"train/{name}": number for name, number in class_folders(a=20, b=10).items()}
    files |= {f"test/{name}": number + 100 for name, number in class_folders(a=3, b=2).items()}
    source = open_source(write(files), test=0.5)
    assert sizes(source) == [27, 3, 5]
    assert per_class(source.validation, 2) == [2, 1]
    assert all(name.startswith("test/") for name in source.test.names)
    assert all(name.startswith("train/") for name in source.train.names + source.validation.names)


@pytest.mark.parametrize("validation", ["validation", "val", "valid", "dev", "VAL"])
def test_names_of_the_validation_folder(write, validation):
    files = {
        f"{split}/{name}": number + start
        for split, start in (("Train", 0), (validation, 50))
        for name, number in class_folders(a=10, b=5).items()
    }
    source = open_source(write(files))
    assert sizes(source) == [12, 15, 3]
    assert all(name.startswith(validation + "/") for name in source.validation.names)
    assert per_class(source.test, 2) == [2, 1]


def test_train_alone_is_split(write):
    source = open_source(write({f"train/{name}": number for name, number in class_folders(a=10, b=10).items()}))
    assert source.class_names == ("a", "b")
    assert sizes(source) == [14, 2, 4]


def test_a_class_may_be_called_train(write):
    assert open_source(write(class_folders(train=5, car=5, bus=5))).class_names == ("bus", "car", "train")


def test_images_are_found_in_inner_folders_and_hidden_ones_are_not(write, image):
    root = write(
        {
            "a/inner/deeper/1.PNG": 1,
            "a/2.jpeg": image(2, "JPEG"),
            "a/.3.png": 3,
            "a/.hidden/4.png": 4,
            ".git/5.png": 5,
            "__MACOSX/a/6.png": 6,
            "a/notes.txt": b"hello",
            "b/7.webp": image(7, "WEBP"),
            "b/8.gif": image(8, "GIF"),
            "b/9.bmp": image(9, "BMP"),
        }
    )
    source = open_source(root, validation=0, test=0)
    assert source.train.names == ("a/2.jpeg", "a/inner/deeper/1.PNG", "b/7.webp", "b/8.gif", "b/9.bmp")
    assert source.class_names == ("a", "b")


def test_linked_folders_are_followed_and_circles_are_not(write):
    root = write({"a/1.png": 1, "b/2.png": 2})
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "3.png").write_bytes((root / "a/1.png").read_bytes())
    os.symlink(outside, root / "a/more")
    os.symlink(root / "b", root / "b/again")
    assert open_source(root, validation=0, test=0).train.names == ("a/1.png", "a/more/3.png", "b/2.png")


def test_the_split_depends_on_content_and_seed_alone(write, tmp_path, monkeypatch):
    files = class_folders(a=40, b=30)
    first = splits(open_source(write(files)))
    names = list(files)
    random.Random(0).shuffle(names)
    other = tmp_path / "elsewhere"
    for index, name in enumerate(names):  # other names, other order on disk, one folder deeper
        path = other / name[0] / "inner" / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((tmp_path / "flowers" / name).read_bytes())
    monkeypatch.setattr(listing_module, "THREADS", 1)
    monkeypatch.setattr(listing_module, "_AT_ONCE", 7)
    assert splits(open_source(other)) == first
    assert splits(open_source(other, seed=1)) != first
    assert splits(open_source(other, seed=1)) == splits(open_source(tmp_path / "flowers", seed=1))


def test_the_split_is_the_same_in_another_process(write):
    root = write(class_folders(a=20, b=20))
    code = f"from keras_vit.data.sources import open_source; print(*open_source({str(root)!r}).test.names)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=os.getcwd())
    assert tuple(run.stdout.split()) == open_source(root).test.names


def test_one_more_image_moves_few_others(write):
    before = splits(open_source(write(class_folders(a=50, b=50))))
    after = splits(open_source(write({"a/new.png": 999})))
    moved = sum(digest not in after[split] for split in SPLITS for digest in before[split])
    assert moved <= 2


@pytest.mark.parametrize("seed", range(5))
def test_copies_stay_in_one_split(write, seed):
    files = class_folders(a=20, b=20)
    files |= {f"a/copy {index}.png": index // 3 for index in range(30)}  # numbers 0 to 9 three times more
    source = open_source(write(files), seed=seed)
    result = splits(source)
    assert sum(len(result[split]) for split in SPLITS) == 40  # of 70 files; none is in two splits
    assert sum(sizes(source)) == 70


@pytest.mark.parametrize("seed", range(5))
def test_an_image_in_two_classes_stays_in_train(write, seed):
    files = class_folders(a=10, b=10) | {f"b/{index}.png": index for index in range(4)}
    source = open_source(write(files), seed=seed, validation=0.3, test=0.3)
    scored = set(source.validation.names + source.test.names)
    assert not scored & {f"a/{index:03d}.png" for index in range(4)}
    assert not scored & {f"b/{index}.png" for index in range(4)}
    assert min(per_class(source.train, 2)) >= 4


@pytest.mark.parametrize("count", [1, 2, 3])
def test_train_gets_an_image_of_every_class(write, count):
    source = open_source(write(class_folders(a=count, b=9)), validation=0.45, test=0.45)
    assert per_class(source.train, 2)[0] >= 1
    assert sum(sizes(source)) == count + 9


def test_copies_alone_leave_a_class_in_train(write):
    source = open_source(write({f"a/{index}.png": 1 for index in range(5)} | {"b/1.png": 2, "b/2.png": 3}))
    assert per_class(source.train, 2)[0] == 5


def test_nothing_held_out(write):
    source = open_source(write(class_folders(a=3, b=3)), validation=0, test=0)
    assert sizes(source) == [6, 0, 0]
    assert source.test.labels.dtype == np.int64


BAD = {
    "a/cut.jpg": b"\xff\xd8\xff\xe0 cut short",
    "a/empty.png": b"",
    "b/page.jpg": b"<!DOCTYPE html>",
    "b/scan.tif": b"II*\0 scan",
    "b/phone.heic": b"\0\0\0\x18ftypheic",
}


def test_unreadable_images_are_all_named_in_one_error(write):
    root = write(class_folders(a=5, b=5) | BAD)
    with pytest.raises(ValueError, match="5 images in .*flowers cannot be read") as caught:
        open_source(root)
    for name in BAD:
        assert name in str(caught.value)
    assert "a web page (HTML), not an image" in str(caught.value)
    assert "on_bad_image=skip" in str(caught.value)
    assert "more" not in str(caught.value)


def test_unreadable_images_can_be_skipped(write, caplog):
    source = open_source(write(class_folders(a=5, b=5) | BAD), on_bad_image="skip")
    assert sum(sizes(source)) == 10
    assert dict(source.bad).keys() == BAD.keys()
    assert dict(source.bad)["a/empty.png"] == "an empty file"
    assert "left out: 5 images" in caplog.text


def test_a_link_to_nowhere_is_a_bad_image(write):
    root = write(class_folders(a=3, b=3))
    os.symlink(root / "gone", root / "a/link.png")
    with pytest.raises(ValueError, match="a/link.png: no such file"):
        open_source(root)


def test_folders_that_are_too_deep_are_named(write):
    root = write(class_folders(a=2, b=2) | {f"a/{'x/' * 101}c.png": 7})
    with pytest.raises(ValueError, match=r"/x/x.* cannot be listed \(more than 100 folders deep\)"):
        open_source(root)


def test_a_long_list_of_bad_images_is_cut(write):
    root = write(class_folders(a=2, b=2) | {f"a/bad {index:02d}.png": b"" for index in range(27)})
    with pytest.raises(ValueError, match="27 images") as caught:
        open_source(root)
    assert str(caught.value).count("an empty file") == 5
    assert "and 22 more" in str(caught.value)


@pytest.mark.parametrize("split", ["", "train/", "test/"])
def test_a_class_of_bad_images_alone_is_refused_even_with_skip(write, split):
    files = {
        f"{part}{name}": number
        for part in ({"train/", "test/"} if split else {""})
        for name, number in class_folders(a=3, b=3).items()
        if part != split or name[0] != "b"
    }
    root = write(files | {f"{split}b/{index}.png": b"" for index in range(7)})
    with pytest.raises(ValueError, match=rf"(?s)no image can be read in: {split}b;.*\b7 images.*and 2 more") as caught:
        open_source(root, on_bad_image="skip")
    assert str(caught.value).count("an empty file") == 5


@pytest.mark.parametrize(
    "files, message",
    [
        ({}, "there is no image in it"),
        ({"a/notes.txt": b"", "b": None}, "there is no image in it"),
        ({"1.png": 1, "2.png": 2}, r"2 images outside any class folder; put each .*flowers/cat/1.png"),
        ({"train/1.png": 1, "test/2.png": 2}, "2 images outside any class folder"),
        ({"a/1.png": 1, "b/2.png": 2, "c": None, "d/x.txt": b""}, "class folders without an image: c, d;"),
        ({"a/1.png": 1}, "one class alone, 'a'"),
        ({"x/a/1.png": 1, "x/b/1.png": 2}, r"one class alone, 'x'.*Is .*flowers/x the folder you mean\?"),
        (
            {"test/a/1.png": 1, "test/b/1.png": 2, "val/a/1.png": 1, "val/b/1.png": 2},
            "no train/ folder next to",
        ),
        ({"test/a/1.png": 1, "test/b/1.png": 2}, "no train/ folder next to test/"),
        (
            {f"{s}/{c}/1.png": 1 for s in ("train", "val", "valid") for c in "ab"},
            "val/, valid/ are all names of",
        ),
    ],
)
def test_folders_that_are_not_as_described(write, files, message):
    with pytest.raises(ValueError, match=message) as caught:
        open_source(write(files))
    assert "flowers cannot be trained on:" in str(caught.value)


def test_classes_that_differ_between_splits_are_listed(write):
    root = write({f"train/{c}/1.png": ord(c) for c in "abc"} | {f"test/{c}/1.png": ord(c) for c in "bcd"})
    with pytest.raises(ValueError) as caught:
        open_source(root)
    assert "classes in train/ that test/ does not have: a" in str(caught.value)
    assert "classes in test/ that train/ does not have: d" in str(caught.value)


def test_all_that_is_wrong_comes_in_one_error(write):
    files = {f"{c}/{n}.png": 10 * len(c) + n for c in ("a", " b") for n in range(2)}
    with pytest.raises(ValueError) as caught:
        open_source(write(files | {"a/torn.png": b"", "c": None}), require_test=True)
    for part in (
        "class folders without an image: c;",
        "begin or end with a space: ' b'",
        "no image is left to test on: test=0.2 of 2 different images",
        "1 image in",
        "a/torn.png: an empty file",
    ):
        assert part in str(caught.value)


def test_what_lies_beside_the_class_folders_is_mentioned(write, caplog):
    files = {f"{split}/{c}/1.png": ord(c) for split in ("train", "test") for c in "ab"}
    open_source(write(files | {"cover.png": 1, "train/loose.png": 2, "extra/a/1.png": 3}))
    for name in ("cover.png", "train/loose.png", "extra/"):
        assert f"{name} is not used" in caplog.text


def test_nothing_of_that_name(tmp_path):
    (tmp_path / "flowers").mkdir()
    with pytest.raises(ValueError, match=r'"digits".*folder.*zip.*csv.*TFDS.*not exist.*Did you mean \'.*flowers\''):
        open_source(tmp_path / "flower")
    for wrong, right in {"digit": "digits", "fashion-mnist": "fashion_mnist", "cifar_10": "cifar10"}.items():
        with pytest.raises(ValueError, match=f"Did you mean '{right}'"):
            open_source(wrong)
    (tmp_path / "flowers.tar").write_bytes(b"")
    with pytest.raises(ValueError, match="which is a file; unpack it"):
        open_source(tmp_path / "flowers.tar")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"on_bad_image": "ignore"}, "on_bad_image='ignore'"),
        ({"validation": 1}, "validation=1"),
        ({"validation": -0.1}, "validation=-0.1"),
        ({"validation": "0.1"}, "validation='0.1'"),
        ({"validation": True}, "validation=True"),
        ({"test": float("nan")}, "test=nan"),
        ({"validation": 0.5, "test": 0.5}, "to be less than 1"),
    ],
)
def test_settings_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        open_source("digits", **options)


def test_long_readings_are_announced(write, monkeypatch, caplog):
    monkeypatch.setattr(listing_module, "_SECONDS_BETWEEN_NEWS", 0.0)
    monkeypatch.setattr(listing_module, "_AT_ONCE", 4)
    with caplog.at_level(logging.INFO, "keras_vit"):
        open_source(write(class_folders(a=5, b=5)))
    assert [record.getMessage() for record in caplog.records] == [f"{n} of 10 images read" for n in range(1, 11)]


def test_the_folder_is_left_as_it_was(write):
    root = write(class_folders(a=5, b=5) | BAD)

    def state():
        return {path: (path.stat().st_mtime_ns, path.is_dir() or path.read_bytes()) for path in root.rglob("*")}

    before = state()
    open_source(root, on_bad_image="skip")
    assert state() == before


def test_digits():
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    source = open_source("digits")
    assert (source.name, source.class_names) == ("digits", tuple("0123456789"))
    assert sizes(source) == [1292, 145, 360]
    digits = load_digits()
    held_out = train_test_split(np.arange(1797), test_size=0.2, random_state=0, stratify=digits.target)[1]
    assert sorted(held_out) == [int(name.removeprefix("digit ")) for name in source.test.names]
    everything = [name for split in SPLITS for name in getattr(source, split).names]
    assert sorted(everything) == [f"digit {index:04d}" for index in range(1797)]
    for split in SPLITS:
        examples = getattr(source, split)
        counts = per_class(examples, 10)
        assert max(counts) - min(counts) <= 0.1 * max(counts)  # the classes hold 174 to 183
        for image, label, name in list(zip(examples.images, examples.labels, examples.names, strict=True))[::50]:
            index = int(name.removeprefix("digit "))
            assert label == digits.target[index]
            expected = np.floor(digits.images[index] * 255 / 16 + 0.5)
            assert (decode(image) == expected[..., None]).all()
            assert decode(image).shape == (8, 8, 3)


def test_digits_do_not_depend_on_the_seed_and_validation_comes_from_train_alone():
    plain, other, none = (
        open_source("digits"),
        open_source("digits", seed=5),
        open_source("digits", validation=0),
    )
    for split in SPLITS:
        assert getattr(plain, split).names == getattr(other, split).names
    assert none.test.names == plain.test.names
    assert sizes(none) == [1437, 0, 360]
    with pytest.raises(ValueError, match="fixed test split"):
        open_source("digits", test=0.3)


def test_a_folder_is_checked_without_keras():
    code = "import sys, keras_vit_command, keras_vit.data.check as check; "
    code += "sys.exit(bool({'keras', 'tensorflow', 'sklearn'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)
