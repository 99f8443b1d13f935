"""The page is read back with a parser, its images with Pillow: it must show all arguments."""

import base64
import io
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from keras_vit.report.preview_page import target_words, write_preview

NASTY = '<script>alert("1")</script>&\'$title'


class Page(HTMLParser):
    """Keeps the words in each tag, and the attributes of images."""

    def __init__(self, source):
        super().__init__()
        self.words, self.images, self.tags, self.open = {}, [], [], []
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attributes))
        elif tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.words.setdefault(self.open[-1], []).append(data.strip())


def tiny(seed):
    return np.random.default_rng(seed).integers(0, 256, (11, 7, 3), np.uint8)


def pixels(attributes):
    form, encoded = attributes["src"].removeprefix("data:image/").split(";base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded)), formats=[form.upper()]))


ROWS = [("Step 0", [(tiny(0), "cat"), (tiny(1), "dog 0.7, cat 0.3")]), ("Step 1", [(tiny(2), NASTY)])]


def test_all_arguments_are_on_the_page(tmp_path):
    path = tmp_path / "new" / "preview.html"
    write_preview(path, ROWS, NASTY, {"RandAugment": "(2, 15)", "mixup": 0.2, NASTY: True})
    source = path.read_text("utf-8")
    page = Page(source)
    assert page.open == [] and "script" not in page.tags
    assert page.words["h1"] == page.words["title"] == [NASTY]
    assert page.words["h2"] == ["Step 0", "Step 1"]
    assert page.words["b"] == ["cat", "dog 0.7, cat 0.3", NASTY]
    assert page.words["dt"] == ["RandAugment", "mixup", NASTY]
    assert page.words["dd"] == ["(2, 15)", "0.2", "yes"]
    for number, attributes in enumerate(page.images):
        np.testing.assert_array_equal(pixels(attributes), tiny(number))
        assert (attributes["width"], attributes["height"], attributes["class"]) == ("7", "11", "crisp")
    assert len(page.images) == 3
    assert "http" not in source.replace("http-equiv", "")  # nothing is fetched
    assert [file.name for file in path.parent.iterdir()] == ["preview.html"]


def test_a_photograph_is_shown_smooth(tmp_path):
    path = tmp_path / "preview.html"
    write_preview(path, [("Step 0", [(np.full((224, 331, 3), 100, np.uint8), "cat")])], "Preview", {})
    page = Page(path.read_text("utf-8"))
    (attributes,) = page.images
    assert "class" not in attributes and "dl" not in page.tags
    assert pixels(attributes).shape == (173, 256, 3)
    assert np.abs(pixels(attributes).astype(int) - 100).max() <= 1


def test_the_same_arguments_give_the_same_bytes(tmp_path):
    for name in ("a.html", "b.html"):
        write_preview(tmp_path / name, ROWS, "Preview", {"mixup": 0.2})
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_name_that_is_no_utf8(tmp_path):
    write_preview(tmp_path / "a.html", [("Step 0", [(tiny(0), "gr\udcfcn")])], "Preview", {})
    assert "gr\\udcfcn" in (tmp_path / "a.html").read_text("utf-8")


def test_wrong_images_are_all_named_and_the_old_page_stands(tmp_path):
    path = tmp_path / "preview.html"
    path.write_text("old")
    wrong = [("Step 0", [(tiny(0), "a"), (tiny(1) / 255, "b")]), ("Step 1", [(tiny(0)[..., 0], "c")])]
    with pytest.raises(ValueError, match=r"rows\[0\], image 1: float64 \(11, 7, 3\); rows\[1\], image 0: uint8 \(11"):
        write_preview(path, wrong, "Preview", {})
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    "target, words",
    [
        ([0, 1, 0], "dog"),
        ([0.3, 0.7, 0], "dog 0.7, cat 0.3"),
        ([0.5, 0, 0.5], "cat 0.5, fox 0.5"),
        ([0.125, 0.251, 0.624], "fox 0.62, dog 0.25, cat 0.12"),
        ([0.001, 0.999, 0], "dog"),
        ([0.006, 0.994, 0], "dog 0.99, cat 0.01"),
        ([0.9, 0, 0], "cat 0.9"),
    ],
)
def test_targets_in_words(target, words):
    assert target_words(np.array(target, np.float32), ["cat", "dog", "fox"]) == words
