"""The page of a search: it shows all that it is given, links to the images, and nothing from outside."""

import numpy as np

from keras_vit.report.search_page import NearestImages, ShownImage, write_search_page

NASTY = '<script>alert("1")</script>&\'$title'


def shown(seed, name="a.png", link="a.png"):
    return ShownImage(np.random.default_rng(seed).integers(0, 256, (9, 7, 3), np.uint8), name, link)


def test_all_queries_and_images_are_on_the_page(tmp_path):
    groups = [
        NearestImages(NASTY, None, [(shown(0, NASTY, "../x/ä \udce9#?.png"), 0.98765, 0.1234), (shown(1), -0.5, 2e-7)]),
        NearestImages("photos/boat.jpg", shown(2, "photos/boat.jpg"), [(shown(3), 1.0, None)]),
        NearestImages("alone.jpg", shown(4), []),
    ]
    write_search_page(tmp_path / "new" / "page.html", groups, 1234, {NASTY: NASTY, "model": "m"})
    page = (tmp_path / "new" / "page.html").read_text("utf-8")
    assert "<script" not in page and page.count("&lt;script&gt;") >= 4
    assert page.count("<img ") == page.count("data:image/png") == 5 and "http:" not in page and "https:" not in page
    assert all(f'href="{link}"' in page for link in ("../x/%C3%A4%20%E9%23%3F.png", "#query_1", "#query_3"))
    assert "Like boat.jpg" in page and "No other image." in page and "1,234" in page
    assert all(number in page for number in ("<b>0.988</b>", "<b>-0.500</b>", "<b>1.000</b>", " 0.12", " 2.0e-07"))
    assert page.count("probability 0") + page.count("probability 2") == 2


def test_one_query_is_the_heading(tmp_path):
    write_search_page(tmp_path / "page.html", [NearestImages("red boat", None, [(shown(0), 0.25, None)])], 1, {})
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "<h1>red boat</h1>" in page and page.count("red boat") == 2 and "0.250" in page
    assert "sigmoid" not in page
