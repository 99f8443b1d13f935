"""The page of labels that are probably wrong: it shows all that it is given, and nothing from outside."""

import numpy as np

from keras_vit.report.labels_page import DoubtedLabel, write_labels_page

NASTY = '<script>alert("1")</script>&\'$title'


def image(seed, side=9):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def test_all_images_and_texts_are_on_the_page(tmp_path):
    near = {"cat": [image(1), image(2)], NASTY: [image(3)], "none": []}
    doubts = [
        DoubtedLabel(image(0), NASTY, "cat", NASTY, 0.987, near),
        DoubtedLabel(image(4), "b", "dog", "cat", 0.6, {}),
    ]
    write_labels_page(tmp_path / "new" / "page.html", doubts, NASTY, {"images": "1,234"}, [NASTY, "second"], listed=7)
    page = (tmp_path / "new" / "page.html").read_text("utf-8")
    assert "<script" not in page and page.count("&lt;script&gt;") >= 6
    assert (
        page.count("<img ") == 5 and page.count("data:image/png") == 5 and "http:" not in page and "https:" not in page
    )
    assert page.count("nearest: ") == 2 and "score 0.987" in page and "score 0.600" in page
    assert "5 more are in the table" in page and "<p>second</p>" in page and "1,234" in page


def test_an_empty_list_says_so(tmp_path):
    write_labels_page(tmp_path / "page.html", [], "Labels", {})
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "None." in page and "more are" not in page and "Notes" not in page
