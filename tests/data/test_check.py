import os
import shlex
import struct
import subprocess
import zipfile

import pytest

from keras_vit.data.check import check_folder
from keras_vit.data.listing import SPLITS
from keras_vit.data.sources import open_source

pytestmark = pytest.mark.filterwarnings("error")

EXIF = b"Exif\0\0II*\0" + struct.pack("<IHHHIHH", 8, 1, 0x0112, 3, 1, 6, 0) + bytes(4)


@pytest.fixture
def mixed(write, image):
    """A folder with one of everything that check reports."""
    files = {f"train/cat/{index}.png": index for index in range(12)}
    files |= {f"train/dog/{index}.png": 50 + index for index in range(6)}
    files |= {"test/cat/0.png": 100, "test/cat/1.png": 101, "test/dog/0.png": 102}
    files |= {
        "train/cat/turned.jpg": image(70, "JPEG", exif=EXIF),
        "train/cat/large.jpg": image(71, "JPEG", size=(31, 37)),
        "train/cat/small.gif": image(72, "GIF", size=(2, 3)),
        "train/cat/other name.jpg": 73,
        "train/cat/copy.png": 3,
        "train/dog/cat after all.png": 4,
        "test/dog/seen.png": 51,
        "train/dog/broken.png": b"",
        "train/dog/scan.tif": b"II*\0 scan",
        "train/dog/labels.csv": b"a,b",
        "train/loose.png": 80,
        "README.txt": b"hello",
        "extra/1.png": 81,
    }
    return write(files)


def test_everything_is_found(mixed):
    result = check_folder(mixed)
    assert result.folder == str(mixed)
    assert result.class_names == ("cat", "dog")
    assert result.drawn == ("validation",)
    assert result.counts["test"] == (2, 2)
    assert [sum(pair) for pair in zip(result.counts["train"], result.counts["validation"], strict=True)] == [
        17,
        7,
    ]
    assert result.imbalance == result.counts["train"][0] / result.counts["train"][1]
    assert dict(result.bad).keys() == {"train/dog/broken.png", "train/dog/scan.tif"}
    assert result.formats == {"PNG": 25, "JPEG": 2, "GIF": 1}
    assert result.modes == {"colour": 27, "palette": 1}
    assert result.misnamed == (("train/cat/other name.jpg", "PNG"),)
    assert result.rotated == ("train/cat/turned.jpg",)
    assert result.sizes == ((2, 3), (7, 5), (31, 37))
    assert set(result.not_images) == {"train/dog/labels.csv", "README.txt"}
    assert set(result.stray) == {"train/loose.png", "extra/"}
    assert result.copies == (("train/cat/3.png", "train/cat/copy.png"),)
    assert [set(group) for group in result.leaks] == [{"train/dog/1.png", "test/dog/seen.png"}]
    assert [set(group) for group in result.conflicts] == [{"train/cat/4.png", "train/dog/cat after all.png"}]
    assert result.problems == ()
    assert result.verdict.startswith("fit would accept this folder with on_bad_image=skip, without 2 images")


def test_text_names_all_of_it_and_ends_with_the_verdict_and_the_command(mixed):
    result = check_folder(mixed)
    text = result.text()
    for name in (*dict(result.bad), *result.rotated, *result.not_images, *result.stray):
        assert name in text
    for line in (
        "train/cat/3.png = train/cat/copy.png",
        "train/cat/other name.jpg is PNG",
        "formats: PNG 25, JPEG 2, GIF 1",
        "width x height: smallest 3 x 2, median 5 x 7, largest 37 x 31",
        "drawn from train, by content: validation",
        "train/dog/broken.png: an empty file",
    ):
        assert line in text
    assert text.splitlines()[-2:] == [result.verdict, f"keras-vit fit {mixed} on_bad_image=skip"]
    table = [line.split() for line in text.splitlines()]
    assert ["class", *SPLITS] in table
    assert ["dog", *(str(result.counts[split][1]) for split in SPLITS)] in table


def test_counts_are_those_that_training_would_use(mixed):
    result = check_folder(mixed, validation=0.3, seed=4)
    source = open_source(mixed, validation=0.3, seed=4, on_bad_image="skip")
    for split in SPLITS:
        labels = getattr(source, split).labels.tolist()
        assert result.counts[split] == (labels.count(0), labels.count(1))
    assert source.bad == result.bad


def test_a_folder_without_faults(write):
    root = write({f"{c}/{index}.png": 10 * ord(c) + index for c in "ab" for index in range(10)})
    result = check_folder(root)
    assert result.text().splitlines()[-2:] == ["fit would accept this folder as it is", f"keras-vit fit {root}"]
    assert result.counts == {"train": (7, 7), "validation": (1, 1), "test": (2, 2)}
    assert result.drawn == ("validation", "test")
    assert "cannot be read" not in result.text()


def test_all_problems_are_reported_at_once(write):
    files = {"train/a/1.png": 1, "train/b/1.png": b"", "train/c": None, "test/a/1.png": 2, "test/d/1.png": 3}
    result = check_folder(write(files))
    assert result.empty == ("train/c",)
    assert len(result.problems) == 4  # empty; only in train/; only in test/; nothing readable
    for part in ("without an image: train/c", "test/ does not have: b, c", "does not have: d", "train/b"):
        assert part in result.verdict
    assert result.verdict.startswith("fit would not accept this folder: ")
    assert len(result.bad) == 1
    assert result.imbalance == 0.0


def class_folders(*names, count=6):
    return {f"{name}/{n}.png": 100 * i + n for i, name in enumerate(names) for n in range(count)}


REFUSED = {
    "nothing": ({}, "there is no image in it"),
    "empty classes": ({"a": None, "b": None}, "there is no image in it"),
    "a zip inside": ({"a/in.zip": b"PK"}, "Archives inside it are not opened; unpack a/in.zip"),
    "loose": ({"1.png": 1, "2.png": 2}, "2 images outside any class folder"),
    "one class": (class_folders("a"), "one class alone, 'a'"),
    "unreadable": ({"a/1.png": b"", "b/1.png": b""}, "no image can be read in: a, b"),
    "an unreadable class": (class_folders("a", "b") | {"c/1.png": b"x"}, "no image can be read in: c"),
    "one image a class": (class_folders("a", "b", "c", count=1), "test=0.2 of 1 different images"),
    "two images a class": (class_folders("a", "b", count=2), "test=0.2 of 2 different images"),
    "copies": ({f"{c}/{n}.png": ord(c) for c in "ab" for n in range(5)}, "test=0.2 of 1 different images"),
    "the same images in both": ({f"{c}/{n}.png": n for c in "ab" for n in range(9)}, "test=0.2 of 0 different images"),
    "two after skipping": (class_folders("a", "b", count=2) | {"a/9.png": b""}, "test=0.2 of 2 different images"),
    "val/ lacks a class": (
        class_folders("train/a", "train/b", "val/a"),
        "classes in train/ that val/ does not have: b; add images",
    ),
    "test/ alone": (class_folders("test/a", "test/b"), "no train/ folder next to test/; add one"),
    "classes two folders down": (
        class_folders("north/cat", "north/dog", "south/cat", "south/dog"),
        "the folders north, south hold no images but folders of the same names, cat, dog. "
        "If cat, dog are the classes, set class_depth=2",
    ),
    "classes three folders down": (
        class_folders(*(f"{place}/{name}" for place in ("x/1", "x/2", "y/3", "y/4") for name in ("cat", "dog"))),
        "the folders 1, 2, 3, 4 hold no images but folders of the same names, cat, dog. "
        "If cat, dog are the classes, set class_depth=3",
    ),
    "classes two folders down in train/": (
        class_folders(*(f"train/{region}/{name}" for region in ("n", "s") for name in ("cat", "dog"))),
        "set class_depth=2",
    ),
    "splits inside classes": (class_folders("a/train", "a/test", "b/train", "b/test"), "splits inside classes"),
    "a line break": (class_folders("a\nb", "c"), r"with a line break: 'a\nb'"),
    "U+2028": (class_folders("a\u2028b", "c"), r"with a line break: 'a\u2028b'"),
    "U+0085": (class_folders("a\x85b", "c"), r"with a line break: 'a\x85b'"),
    "U+001C": (class_folders("a\x1cb", "c"), r"with a line break: 'a\x1cb'"),
    "a blank name": (class_folders(" ", "c"), "blank class names"),
    "a space at the end": (class_folders("b ", "c"), "begin or end with a space: 'b '"),
    "NFC and NFD": (class_folders("caf\u00e9", "cafe\u0301"), r"look the same: 'cafe\u0301', 'caf\xe9'"),
}


def zipped(root):
    path = root.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as file:
        for name in sorted(root.rglob("*")):
            file.write(name, name.relative_to(root))
    return path


@pytest.mark.parametrize("pack", [lambda root: root, zipped], ids=["folder", "zip"])
@pytest.mark.parametrize("files, problem", REFUSED.values(), ids=REFUSED)
def test_check_and_fit_refuse_the_same_for_the_same_reasons(write, files, problem, pack):
    root = pack(write(files))
    result = check_folder(root)
    assert problem in "; ".join(result.problems)
    assert result.text().splitlines()[-1].startswith("fit would not accept this folder: ")
    with pytest.raises(ValueError) as caught:
        open_source(root, on_bad_image="skip", require_test=True)
    heading, *lines = str(caught.value).splitlines()
    assert heading == f"{root} cannot be trained on:"
    assert [line for line in lines if line.startswith("  - ")] == [f"  - {problem}" for problem in result.problems]


TAKEN = {
    "three images a class": class_folders("a", "b", count=3),
    "train/ alone": class_folders("train/a", "train/b"),
    "loose images beside classes": class_folders("a", "b") | {"1.png": 1},
    "classes inside two folders": class_folders("a", "b"),
    "an unreadable image": class_folders("a", "b") | {"b/torn\nname.png": b"x"},
    "two views of each class": class_folders("a/1", "a/2", "b/3", "b/4"),
    "upper and lower case": class_folders("Cat", "cat"),
}


@pytest.mark.parametrize("pack", [lambda root: root, zipped], ids=["folder", "zip"])
@pytest.mark.parametrize("files", TAKEN.values(), ids=TAKEN)
def test_what_check_takes_fit_takes_with_the_words_of_the_command(write, files, pack):
    root = pack(write(files))
    result = check_folder(root)
    assert result.problems == ()
    assert result.text().splitlines()[-1] == result.command
    command, fit, data, *settings = shlex.split(result.command)
    assert (command, fit, data) == ("keras-vit", "fit", str(root))
    options = dict(setting.split("=") for setting in settings)
    assert options == ({"on_bad_image": "skip"} if result.bad else {})
    source = open_source(data, **options, require_test=True)
    assert {split: len(getattr(source, split).labels) for split in SPLITS} == {
        split: sum(counts) for split, counts in result.counts.items()
    }


def test_folders_of_classes_are_grouped_where_one_says_so(write):
    files = class_folders("north/cat", "north/dog", "south/cat", "south/bird") | {"north/loose.png": 900}
    del files["south/cat/0.png"]
    root = write(files)
    result = check_folder(root, class_depth=2)
    assert result.class_names == ("bird", "cat", "dog")
    assert [sum(counts) for counts in zip(*result.counts.values())] == [6, 11, 6]
    assert result.stray == ("north/loose.png",)
    assert result.command == f"keras-vit fit {root} class_depth=2"
    assert open_source(root, class_depth=2).class_names == result.class_names
    assert open_source(zipped(root), class_depth=2).digest == open_source(root, class_depth=2).digest
    assert check_folder(root, class_depth=1).class_names == ("north", "south")
    with pytest.raises(ValueError, match="set a smaller class_depth than 3"):
        open_source(root, class_depth=4 - 1)
    for wrong in (0, 1.5, "2", True):
        with pytest.raises(ValueError, match="class_depth to be an integer, 1 or more"):
            open_source(root, class_depth=wrong)


def test_folders_of_other_names_inside_each_class_are_worth_a_note(write):
    result = check_folder(write(class_folders("animal/cat", "animal/dog", "vehicle/car", "vehicle/bus")))
    assert result.class_names == ("animal", "vehicle") and not result.problems
    (note,) = result.notes
    assert "animal, vehicle" in note and "bus, car, cat, dog" in note and "class_depth=2" in note
    assert note in result.text()


def test_folders_whose_names_are_no_text_stay_apart(write):
    root = os.fsencode(write(class_folders("tea")))
    for n in range(12):
        for name in (b"caf\xe8", b"caf\xe9"):
            os.makedirs(root + b"/" + name, exist_ok=True)
            with open(root + b"/tea/0.png", "rb") as one, open(root + b"/%s/%d.png" % (name, n), "wb") as other:
                other.write(one.read() + name + bytes([n]))
    result, source = check_folder(os.fsdecode(root)), open_source(os.fsdecode(root))
    assert result.class_names == source.class_names == (r"caf\xe8", r"caf\xe9", "tea")
    assert [sum(counts) for counts in zip(*result.counts.values())] == [12, 12, 6]
    assert "not UTF-8" in result.notes[0] and result.notes[0] in result.text()
    result.text().encode("utf-8")


def test_a_name_that_is_written_like_another_is_refused(write):
    root = write(class_folders(r"caf\xe9", "tea"))
    os.mkdir(os.fsencode(root) + b"/caf\xe9")
    assert (
        r"flowers/caf\xe9 cannot be listed (another name in the folder is written alike; rename it)"
        in check_folder(root).verdict
    )


def test_a_path_that_is_no_text_is_refused(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xe9"
    os.mkdir(path)
    for command in (check_folder, open_source):
        with pytest.raises(ValueError, match=r"Expected a path in UTF-8. Received: .*\\xe9"):
            command(os.fsdecode(path))


def test_a_link_around_in_a_circle_is_no_image(write):
    root = write(class_folders("a", "b"))
    os.symlink("loop.png", root / "a/loop.png")
    os.symlink(root, root / "b/up")
    assert dict(check_folder(root).bad) == {"a/loop.png": "cannot be read (Too many levels of symbolic links)"}


@pytest.mark.parametrize("inner", ["b", ""])
def test_a_folder_that_cannot_be_listed_is_a_problem(write, monkeypatch, inner):
    root, scandir = write(class_folders("a", "b", "c")), os.scandir

    def refuse(path):
        if os.path.abspath(path) == os.path.abspath(root / inner):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert check_folder(root).problems[0] == f"{root / inner} cannot be listed (Permission denied)"
    assert len(check_folder(root).problems) == (1 if inner else 2)


def test_names_of_classes_that_may_be_meant_otherwise_are_worth_a_note(write):
    assert "Cat, cat" in check_folder(write(class_folders("Cat", "cat", "dog", "cat|dog"))).notes[0]
    (joint,) = check_folder(write({}), class_depth=1).notes[1:]
    assert joint.endswith("cat|dog")


def test_numbers_as_names_of_classes_are_worth_a_note(write):
    (note,) = check_folder(write(class_folders("0.5", "1.5"))).notes
    assert "not a quantity: 0.5, 1.5" in note


def test_sizes_below_image_size_are_told(write, image):
    files = {f"{c}/{n}.png": image(10 * ord(c) + n, size=(40, 90 if n else 30)) for c in "ab" for n in range(4)}
    root = write(files)
    assert (check_folder(root, image_size=32).smaller, check_folder(root, image_size=64).smaller) == (2, 8)
    assert "image_size=64 is larger than 8 of 8 images" in check_folder(root, image_size=64).text()
    assert "image_size=" not in check_folder(root, image_size=32).text()
    assert "image_size=" not in check_folder(root).text()


@pytest.mark.parametrize("name", ["my flowers", "it's", "-x", "a;b", "two\nlines"])
def test_the_command_names_a_folder_as_a_shell_reads_it(write, name, monkeypatch, tmp_path):
    write(class_folders("a", "b")).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    command = check_folder(name).command
    (data,) = subprocess.run(
        ["bash", "-c", f"printf %s {command.removeprefix('keras-vit fit ')}"], capture_output=True, check=True
    ).stdout.split(b"\0")
    assert os.path.samefile(data, tmp_path / name)


def test_the_name_of_a_data_set_is_none_of_ones_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("digits", "synthetic:3x4", "cifar10", "hf:owner/name"):
        with pytest.raises(ValueError, match=f"Received: '{name}', a prepared data set"):
            check_folder(name)
    (tmp_path / "table.tsv").write_text("path\tlabel\n")
    for command in (check_folder, open_source):
        with pytest.raises(ValueError, match="table.tsv', which is a file; save a table as .csv"):
            command("table.tsv")


def test_an_image_in_two_classes_and_two_splits_is_reported_as_both(write):
    result = check_folder(write({"train/a/1.png": 1, "train/b/1.png": 2, "test/a/1.png": 3, "test/b/1.png": 1}))
    assert len(result.leaks) == len(result.conflicts) == 1
    assert result.copies == ()


def test_long_lists_are_cut_in_the_text_only(write):
    files = {f"{c}/{index}.png": 10 * ord(c) + index for c in "ab" for index in range(3)}
    result = check_folder(write(files | {f"a/{index:02d}.txt": b"" for index in range(14)}))
    assert len(result.not_images) == 14
    assert "not images, not used: 14" in result.text()
    assert "  and 4 more" in result.text()
    assert "13.txt" not in result.text()


def test_modes_are_counted(write, image):
    import io

    from PIL import Image

    def encode(mode, format):
        file = io.BytesIO()
        Image.new(mode, (5, 3)).save(file, format)
        return file.getvalue()

    result = check_folder(
        write(
            {
                "a/1.png": encode("L", "PNG"),
                "a/2.png": encode("RGBA", "PNG"),
                "a/3.jpg": encode("CMYK", "JPEG"),
                "b/4.png": encode("I;16", "PNG"),
                "b/5.jpg": encode("RGB", "JPEG"),
            }
        )
    )
    expected = ("grey", "colour with transparency", "CMYK", "16-bit grey (0 to 65535)", "colour")
    assert result.modes == dict.fromkeys(expected, 1)


def test_sizes_are_ordered_by_area(write, image):
    shapes = [(2, 31), (13, 11), (29, 7)]  # rows, columns: 62, 143 and 203 pixels
    files = {f"{c}/{n}.png": image(n, size=shapes[n]) for n in range(3) for c in "ab"}
    assert check_folder(write(files)).sizes == tuple(shapes)


def test_not_a_folder(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        check_folder(tmp_path / "gone")
    with pytest.raises(ValueError, match="validation=2"):
        check_folder(tmp_path, validation=2)
