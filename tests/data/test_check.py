import struct

import pytest

from keras_vit.data.check import check
from keras_vit.data.listing import SPLITS
from keras_vit.data.sources import open_source

pytestmark = pytest.mark.filterwarnings("error")

EXIF = b"Exif\0\0II*\0" + struct.pack("<IHHHIHH", 8, 1, 0x0112, 3, 1, 6, 0) + bytes(4)


@pytest.fixture
def mixed(write, picture):
    """A folder with one of everything that check reports."""
    files = {f"train/cat/{index}.png": index for index in range(12)}
    files |= {f"train/dog/{index}.png": 50 + index for index in range(6)}
    files |= {"test/cat/0.png": 100, "test/cat/1.png": 101, "test/dog/0.png": 102}
    files |= {
        "train/cat/turned.jpg": picture(70, "JPEG", exif=EXIF),
        "train/cat/large.jpg": picture(71, "JPEG", size=(31, 37)),
        "train/cat/small.gif": picture(72, "GIF", size=(2, 3)),
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
    found = check(mixed)
    assert found.folder == str(mixed)
    assert found.class_names == ("cat", "dog")
    assert found.drawn == ("validation",)
    assert found.counts["test"] == (2, 2)
    assert [sum(pair) for pair in zip(found.counts["train"], found.counts["validation"], strict=True)] == [
        17,
        7,
    ]
    assert found.imbalance == found.counts["train"][0] / found.counts["train"][1]
    assert dict(found.bad).keys() == {"train/dog/broken.png", "train/dog/scan.tif"}
    assert found.formats == {"PNG": 25, "JPEG": 2, "GIF": 1}
    assert found.modes == {"colour": 27, "palette": 1}
    assert found.misnamed == (("train/cat/other name.jpg", "PNG"),)
    assert found.rotated == ("train/cat/turned.jpg",)
    assert found.sizes == ((2, 3), (7, 5), (31, 37))
    assert set(found.not_pictures) == {"train/dog/labels.csv", "README.txt"}
    assert set(found.stray) == {"train/loose.png", "extra/"}
    assert found.copies == (("train/cat/3.png", "train/cat/copy.png"),)
    assert [set(group) for group in found.leaks] == [{"train/dog/1.png", "test/dog/seen.png"}]
    assert [set(group) for group in found.conflicts] == [{"train/cat/4.png", "train/dog/cat after all.png"}]
    assert found.problems == ()
    assert found.verdict.startswith("fit would take this folder with on_bad_image=skip, leaving out 2")


def test_text_names_all_of_it_and_ends_with_the_verdict(mixed):
    found = check(mixed)
    text = found.text()
    for name in (*dict(found.bad), *found.rotated, *found.not_pictures, *found.stray):
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
    assert text.splitlines()[-1] == found.verdict
    table = [line.split() for line in text.splitlines()]
    assert ["class", *SPLITS] in table
    assert ["dog", *(str(found.counts[split][1]) for split in SPLITS)] in table


def test_counts_are_those_that_training_would_use(mixed):
    found = check(mixed, validation=0.3, seed=4)
    source = open_source(mixed, validation=0.3, seed=4, on_bad_image="skip")
    for split in SPLITS:
        labels = getattr(source, split).labels.tolist()
        assert found.counts[split] == (labels.count(0), labels.count(1))
    assert source.bad == found.bad


def test_a_folder_without_faults(write):
    found = check(write({f"{c}/{index}.png": 10 * ord(c) + index for c in "ab" for index in range(10)}))
    assert found.verdict == found.text().splitlines()[-1] == "fit would take this folder as it is"
    assert found.counts == {"train": (7, 7), "validation": (1, 1), "test": (2, 2)}
    assert found.drawn == ("validation", "test")
    assert "cannot be read" not in found.text()


def test_all_problems_are_reported_at_once(write):
    files = {"train/a/1.png": 1, "train/b/1.png": b"", "train/c": None, "test/a/1.png": 2, "test/d/1.png": 3}
    found = check(write(files))
    assert found.empty == ("train/c",)
    assert len(found.problems) == 4  # empty; only in train/; only in test/; nothing readable
    for part in ("without a picture: train/c", "test/ does not have: b, c", "does not have: d", "train/b"):
        assert part in found.verdict
    assert found.verdict.startswith("fit would not take this folder: ")
    assert len(found.bad) == 1
    assert found.imbalance == 0.0


@pytest.mark.parametrize("files", [{}, {"1.png": 1}, {"a/1.png": 1}, {"a/1.png": b"", "b/1.png": b""}])
def test_verdict_agrees_with_open_source_when_it_refuses(write, files):
    root = write(files)
    found = check(root)
    assert found.problems
    assert found.text().splitlines()[-1].startswith("fit would not take this folder")
    with pytest.raises(ValueError):
        open_source(root, on_bad_image="skip")


def test_a_picture_in_two_classes_and_two_splits_is_reported_as_both(write):
    found = check(write({"train/a/1.png": 1, "train/b/1.png": 2, "test/a/1.png": 3, "test/b/1.png": 1}))
    assert len(found.leaks) == len(found.conflicts) == 1
    assert found.copies == ()


def test_long_lists_are_cut_in_the_text_only(write):
    files = {f"{c}/{index}.png": 10 * ord(c) + index for c in "ab" for index in range(3)}
    found = check(write(files | {f"a/{index:02d}.txt": b"" for index in range(14)}))
    assert len(found.not_pictures) == 14
    assert "not pictures, not used: 14" in found.text()
    assert "  and 4 more" in found.text()
    assert "13.txt" not in found.text()


def test_modes_are_counted(write, picture):
    import io

    from PIL import Image

    def encode(mode, format):
        file = io.BytesIO()
        Image.new(mode, (5, 3)).save(file, format)
        return file.getvalue()

    found = check(
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
    expected = ("grey", "colour with transparency", "CMYK", "16-bit grey", "colour")
    assert found.modes == dict.fromkeys(expected, 1)


def test_sizes_are_ordered_by_area(write, picture):
    shapes = [(2, 31), (13, 11), (29, 7)]  # rows, columns: 62, 143 and 203 pixels
    files = {f"{c}/{n}.png": picture(n, size=shapes[n]) for n in range(3) for c in "ab"}
    assert check(write(files)).sizes == tuple(shapes)


def test_not_a_folder(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        check(tmp_path / "gone")
    with pytest.raises(ValueError, match="validation=2"):
        check(tmp_path, validation=2)
