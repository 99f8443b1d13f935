"""The page is read back with a parser, its images with Pillow: it must show all of the report."""

import base64
import io
import math
import os
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_vit.evaluation.accuracy import Scores
from keras_vit.evaluation.calibration import calibration
from keras_vit.evaluation.verdict import Baseline, Verdict
from keras_vit.report import charts, reliability_diagram
from keras_vit.report.run_page import (
    AttentionExample,
    Mistake,
    Reconstruction,
    Report,
    render_report,
    replace_page_exports,
    write_report,
)

VOID = {"meta", "link", "img", "br", "hr", "input"}
NASTY = '<script>alert("1")</script>&\'$title'


class Page(HTMLParser):
    """Keeps a page's tags, attributes and text, and fails on a tag that is not closed where it should be."""

    def __init__(self, source):
        super().__init__()
        self.open, self.tags, self.words, self.cells = [], [], [], []
        self.feed(source)
        self.close()
        assert self.open == []
        self.text = " ".join(self.words)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data):
        if self.open and self.open[-1] != "style" and data.strip():
            self.words.append(data.strip())
            self.cells += [data.strip()] if self.open[-1] in ("td", "th", "b", "dd", "span") else []

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def sections(self):
        return [attributes["id"] for attributes in self.all("section")]


def noisy(rows, columns, seed=0):
    waves = 120 + 90 * np.sin(np.linspace(0, 7, rows))[:, None] * np.cos(np.linspace(0, 5, columns))
    grain = np.random.default_rng(seed).normal(0, 6, (rows, columns, 3))
    return np.clip(waves[..., None] + grain, 0, 255).astype("uint8")


def full():
    history = [
        {
            "epoch": k,
            "loss": 2 / k,
            "accuracy": 1 - 0.7 / k,
            "val_loss": 2.1 / k + 0.1,
            "val_accuracy": 1 - 0.8 / k,
        }
        | {"learning_rate": 0.00123 / k, "seconds": 7.25 + k}
        for k in range(1, 6)
    ]
    return Report(
        title="Three birds",
        summary={"Test accuracy": "91.7 %", "Parameters": "5,717,416"},
        history=history,
        class_names=["wren", "tit", "owl"],
        confusion_matrix=np.array([[17, 2, 0], [3, 23, 5], [0, 0, 0]]),
        mistakes=[Mistake(noisy(7, 11), "a/1.png", "wren", "tit", 0.97, 0.013)],
        attention=[AttentionExample(noisy(13, 19), np.arange(15.0).reshape(5, 3), "owl, 88 %", "a/2.png")],
        reconstructions=[Reconstruction(noisy(9, 5), noisy(9, 5, 1), noisy(9, 5, 2), "a/3.png")],
        exports=[{"File": "birds.tflite", "Latency": 8.41}, {"File": "saved_model", "Size": "23.4 MB"}],
        settings={"batch_size": "128 images"},
        bad_images=[("a/broken.jpg", "ends early")],
    )


def many(classes):
    counts = np.diag(np.arange(20, 20 + classes))
    counts[0, 1] = 13
    return replace(full(), class_names=[f"class {k}" for k in range(classes)], confusion_matrix=counts)


def decoded(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.split("base64,", 1)[1])))


def coordinates(source):
    """Returns every (x, y) in the charts; text begins and lines turn at these."""
    result = []
    for svg in re.findall(r'<figure class="chart">.*?</figure>', source, re.DOTALL):
        for points in re.findall(r'points="([^"]*)"', svg):
            result += [tuple(map(float, pair.split(","))) for pair in points.split()]
        result += [(float(x), float(y)) for x, y in re.findall(r'cx="([^"]*)" cy="([^"]*)"', svg)]
        result += [(float(x), float(y)) for x, y in re.findall(r'<text[^>]* x="([^"]*)" y="([^"]*)"', svg)]
        result += [(float(x), float(y)) for x, y in re.findall(r'd="M([^ ]*) ([^H]*)H', svg)]
    return result


def test_page_is_whole_and_needs_nothing_else():
    source = render_report(full())
    page = Page(source)
    assert (
        page.sections()
        == "reconstructions training matrix classes mistakes attention exports left_out settings".split()
    )
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert max(Counter(ids).values()) == 1
    for tag, attributes in page.tags:
        for link in (attributes[key] for key in ("src", "href") if key in attributes):
            assert link.startswith("data:image/") or link.removeprefix("#") in ids, (tag, link)
        assert attributes.get("aria-labelledby", ids[0]) in ids
    words = re.sub(r"base64,[^\"]*", "", source)
    assert not re.search(r"https?:|//[a-z]|url\(|@import|<script|<link", words)
    assert not re.search(r"\$[a-z]", source)
    assert all(image["alt"] for image in page.all("img"))
    assert all(svg["aria-label"] for svg in page.all("svg"))
    assert all(head["scope"] in ("row", "col") for head in page.all("th"))


def test_every_number_is_shown():
    report = full()
    page = Page(render_report(report))
    for row in report.history:
        assert all(charts.number_text(value) in page.cells for value in row.values())
    shown = ["91.7 %", "5,717,416", "17", "2", "3", "23", "5", "8.41", "23.4 MB", "128 images", "ends early"]
    shown += ["true wren, predicted tit (97\u00a0%)", "1\u00a0% for wren", "owl, 88 %"]
    shown += [
        "89.5\u00a0%",
        "85.0\u00a0%",
        "74.2\u00a0%",
        "92.0\u00a0%",
    ]  # recall and precision of wren and tit
    assert set(shown) <= set(page.cells), set(shown) - set(page.cells)
    for name in (
        "Accuracy over 5 epochs: train ends at 86.0\u00a0%, validation ends at 84.0\u00a0%",
        "Loss over 5 ",
    ):
        assert any(svg["aria-label"].startswith(name) for svg in page.all("svg"))


def test_words_are_escaped_everywhere():
    plain, n = full(), NASTY
    nasty = Report(
        title=n,
        summary={n: n},
        history=[row | {n: 1.0} for row in plain.history],
        class_names=[n, n, n],
        confusion_matrix=plain.confusion_matrix,
        mistakes=[replace(plain.mistakes[0], name=n, true=n, predicted=n)],
        attention=[replace(plain.attention[0], label=n, name=n)],
        reconstructions=[replace(plain.reconstructions[0], name=n)],
        exports=[{n: n}],
        settings={n: n},
        bad_images=[(n, n)],
    )
    page = Page(render_report(nasty))
    assert page.all("script") == []
    assert {key for _, attributes in page.tags for key in attributes} == {
        key for _, attributes in Page(render_report(plain)).tags for key in attributes
    }
    # title and heading, a figure, a history column, matrix and bars, mistake, attention, reconstruction, three tables
    assert page.text.count(NASTY) == 2 + 2 + 1 + 9 + 4 + 2 + 1 + 2 + 2 + 2
    assert {NASTY, f"{NASTY}, masked"} <= {image["alt"] for image in page.all("img")}


def test_a_name_of_broken_bytes_can_be_written(tmp_path):
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    write_report(tmp_path / "new" / "page.html", replace(full(), bad_images=[(name, "é")]))
    source = (tmp_path / "new" / "page.html").read_text(encoding="utf-8")
    assert "caf\\udce9.jpg" in source and "é" in source


@pytest.mark.parametrize("part", ["write", "replace", "check"])
def test_a_failure_leaves_the_old_file(tmp_path, monkeypatch, part):
    path, report = tmp_path / "page.html", full()
    path.write_text("old")

    def fail_half_way(self, content):
        with open(self, "wb") as file:
            file.write(content[:100])
        raise OSError("no space left")

    def fail(*_):
        raise OSError("busy")

    if part == "write":
        monkeypatch.setattr(Path, "write_bytes", fail_half_way)
    elif part == "replace":
        monkeypatch.setattr(os, "replace", fail)
    else:
        report = replace(report, confusion_matrix=np.zeros((2, 3), int))
    with pytest.raises((OSError, ValueError)):
        write_report(path, report)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["page.html"]


def test_the_same_report_gives_the_same_bytes_over_an_old_file(tmp_path):
    for name in ("a.html", "b.html"):
        (tmp_path / name).write_text("old")
        write_report(tmp_path / name, full())
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.html", "b.html"]


@pytest.mark.parametrize(
    "field, empty, sections",
    [
        ("history", [], ["training"]),
        ("confusion_matrix", None, ["matrix", "classes"]),
        ("confusion_matrix", np.zeros((3, 3), int), ["matrix", "classes"]),
        ("mistakes", [], ["mistakes"]),
        ("attention", [], ["attention"]),
        ("reconstructions", [], ["reconstructions"]),
        ("exports", [], ["exports"]),
        ("settings", {}, ["settings"]),
        ("bad_images", [], ["left_out"]),
    ],
)
def test_a_section_without_data_is_left_out(field, empty, sections):
    everything = Page(render_report(full())).sections()
    page = Page(render_report(replace(full(), **{field: empty})))
    assert page.sections() == [name for name in everything if name not in sections]
    assert [link["href"] for link in page.all("a")] == [f"#{name}" for name in page.sections()]


def test_a_report_of_a_title_alone():
    page = Page(render_report(Report(title="Nothing yet")))
    assert page.sections() == [] and page.all("nav") == [] and page.all("dl") == []
    assert page.words == ["Nothing yet", "Nothing yet"]


@pytest.mark.parametrize("classes", [2, 10, 30])
def test_few_classes_are_a_matrix(classes):
    source = render_report(many(classes))
    table = Page(re.search(r'<table class="matrix.*?</table>', source)[0])
    assert len(table.all("td")) == classes**2 + 1  # and the corner
    assert [head["scope"] for head in table.all("th")].count("row") == classes
    titles = [cell["title"] for cell in table.all("td") if cell.get("class") == "miss"]
    assert titles == ["true class 0, predicted class 1: 13 of 33"]
    assert len([cell for cell in table.all("td") if cell.get("class") == "hit"]) == classes
    assert {str(count) for count in [13, *range(20, 20 + classes)]} <= set(table.cells)


def test_many_classes_are_the_most_confused_pairs():
    report = many(100)
    report.confusion_matrix[41, 42] = 19
    page = Page(render_report(report))
    assert page.sections()[2:4] == ["pairs", "classes"]
    at = page.words.index("Share") + 1
    assert page.words[at : at + 8] == [
        *("class 41", "class 42", "19", "23.8\u00a0%"),  # 19 of 61 + 19
        *("class 0", "class 1", "13", "39.4\u00a0%"),
    ]
    weakest = page.words.index("Precision") + 1
    assert page.words[weakest] == "class 0"
    assert all(f"class {k}" in page.words[weakest:] for k in range(100))
    right = Page(render_report(replace(report, confusion_matrix=np.eye(100, dtype=int))))
    assert "All images are classified correctly." in right.text


def test_a_class_without_images_or_predictions_has_no_share():
    confusion = np.array([[5, 0, 0], [4, 0, 0], [0, 0, 0]])
    page = Page(render_report(replace(full(), confusion_matrix=confusion)))
    at = page.words.index("Precision") + 1
    assert page.words[at : at + 12] == [
        *("wren", "5", "100.0\u00a0%", "55.6\u00a0%"),
        *("tit", "4", "0.0\u00a0%", "–"),
        *("owl", "0", "–", "–"),
    ]


def constant(value, epochs):
    return [{"epoch": k + 1, "loss": value, "accuracy": value, "val_accuracy": value} for k in range(epochs)]


@pytest.mark.parametrize(
    "history",
    [
        full().history,
        constant(0.0, 7),
        constant(1.0, 7),
        constant(0.5, 1),
        [{"loss": 3e38}, {"loss": -2.0}, {"loss": 1e-320}],
        [{"loss": 1e-9, "val_loss": 1e-9}] * 3,
        [{"epoch": 7 + k, "accuracy": 0.97 + 1e-9 * k} for k in range(300)],
        [{"accuracy": 0.5}, {"accuracy": math.nan, "val_accuracy": 0.1}, {"accuracy": 0.25}],
    ],
)
def test_charts_stay_inside(history):
    source = render_report(replace(full(), history=history))
    points = coordinates(source)
    assert len(points) > 8
    assert np.isfinite(points).all()
    assert (np.array(points) >= 0).all() and (np.array(points) <= (charts.WIDTH, charts.HEIGHT)).all()
    Page(source)


def test_better_is_drawn_higher_and_later_to_the_right():
    figure = charts.svg_curves("Accuracy", full().history, {"train": "accuracy"}, as_percent=True)
    line = re.search(r'polyline class="train" points="([^"]*)"', figure)[1]
    points = np.array([pair.split(",") for pair in line.split()], float)
    assert points.shape == (5, 2)
    np.testing.assert_allclose(np.diff(points[:, 0]), np.diff(points[:, 0])[0], atol=0.11)
    assert (np.diff(points[:, 0]) > 0).all() and (np.diff(points[:, 1]) < 0).all()
    ticks = [(float(y), text) for y, text in re.findall(r'tick-y"[^>]* y="([^"]*)"[^>]*>(\d+)', figure)]
    values = np.interp(points[:, 1], [y for y, _ in ticks][::-1], [float(text) for _, text in ticks][::-1])
    np.testing.assert_allclose(values, [100 * row["accuracy"] for row in full().history], atol=0.1)


def test_end_labels_do_not_cover_each_other():
    figure = charts.svg_curves("Loss", constant(0.5, 4), {"train": "loss", "validation": "val_accuracy"})
    heights = sorted(float(y) for y in re.findall(r'class="end[^>]* y="([^"]*)"', figure))
    assert len(heights) == 4 and min(np.diff(heights)) >= 14


def test_a_loss_that_is_not_a_number_breaks_the_line_and_is_reported():
    history = [dict(row) for row in full().history]
    history[2]["loss"], history[4]["val_loss"] = math.nan, math.inf
    source = render_report(replace(full(), history=history))
    page = Page(source)
    loss = re.search(r"<figcaption>Loss.*?</figure>", source)[0]
    assert len(re.findall(r'<polyline class="train"', loss)) == 2
    assert "loss is NaN or infinite in 1 of 5 epochs, first in epoch 3." in page.words
    assert "val_loss is NaN or infinite in 1 of 5 epochs, first in epoch 5." in page.words
    assert "NaN" in page.cells and "infinite" in page.cells
    lost = Page(render_report(replace(full(), history=[{"loss": math.nan}] * 3)))
    assert "loss is NaN or infinite in 3 of 3 epochs, first in epoch 1." in lost.words


def test_tiny_images_are_exact_and_large_ones_are_shrunk():
    image = Page(render_report(replace(full(), reconstructions=[]))).all("img")[0]
    np.testing.assert_array_equal(np.asarray(decoded(image["src"])), noisy(7, 11))
    assert image["class"] == "crisp" and (image["width"], image["height"]) == ("11", "7")
    large = replace(full(), reconstructions=[], mistakes=[replace(full().mistakes[0], image=noisy(300, 601))])
    image = Page(render_report(large)).all("img")[0]
    assert decoded(image["src"]).size == (256, 128) and "class" not in image


def test_a_reconstruction_is_the_image_the_masked_and_the_reconstructed_image():
    shown = {image["alt"]: np.asarray(decoded(image["src"])) for image in Page(render_report(full())).all("img")}
    for seed, name in enumerate(("a/3.png", "a/3.png, masked", "a/3.png, reconstructed")):
        np.testing.assert_array_equal(shown[name], noisy(9, 5, seed))


def test_a_page_of_photographs_stays_small():
    mistakes = [replace(full().mistakes[0], image=noisy(224, 224, k)) for k in range(10)]
    attention = [
        replace(full().attention[0], image=noisy(224, 224, k), rollout=noisy(14, 14)[..., 0]) for k in range(10)
    ]
    assert len(render_report(replace(full(), mistakes=mistakes, attention=attention)).encode()) < 1_000_000


def test_the_heat_is_brightest_where_the_map_is_largest():
    page = Page(render_report(full()))
    image, heat = page.all("image")
    assert (heat["width"], heat["height"]) == (image["width"], image["height"]) == ("19", "13")
    pixels = np.asarray(decoded(heat["href"])).astype(float)
    rows, columns = pixels.shape[:2]
    assert pixels.shape[2] == 4 and rows * 3 == columns * 5
    light = pixels[..., :3].sum(axis=-1)
    assert light[-1, -1] == light.max() and light[0, 0] == light.min()
    assert light[-1, 0] > light[0, -1]  # rows count more than columns in arange(15).reshape(5, 3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (61, 2)])
def test_a_flat_map_of_any_grid_can_be_drawn(shape):
    pixels = np.asarray(decoded(charts.heat_uri(np.full(shape, 0.2))))
    assert (pixels == (0, 0, 4, 140)).all()  # the ramp's dark end, at its least alpha


def test_a_map_that_is_not_finite_is_reported():
    broken = replace(full().attention[0], rollout=np.array([[0.5, np.nan, 0.1]]))
    page = Page(render_report(replace(full(), attention=[broken])))
    assert "This map contains NaN or infinite values." in page.words and len(page.all("image")) == 1


def test_the_key_has_the_colours_of_the_heat():
    colours = re.search(r"linear-gradient\(90deg, (.*)\);", render_report(full()))[1]
    np.testing.assert_array_equal(np.array(re.findall(r"\d+", colours), float).reshape(-1, 3), charts.HEAT_RAMP)


def test_all_wrong_arrays_are_named_at_once():
    report = replace(
        full(),
        confusion_matrix=np.zeros((2, 3), int),
        mistakes=[replace(full().mistakes[0], image=np.zeros((8, 8, 3)))],
        attention=[replace(full().attention[0], image=np.zeros((8, 8), "uint8"), rollout=np.zeros(4))],
        reconstructions=[replace(full().reconstructions[0], masked=np.zeros((8, 8), "uint8"))],
    )
    with pytest.raises(ValueError) as error:
        render_report(report)
    for name in ("confusion_matrix=int64 (2, 3), expected (3, 3)", "mistakes[0].image=float64 (8, 8, 3)"):
        assert name in str(error.value)
    assert "attention[0].image=uint8 (8, 8)" in str(error.value)
    assert "attention[0].rollout=(4,)" in str(error.value)
    assert "reconstructions[0].masked=uint8 (8, 8)" in str(error.value)
    for counts in (np.eye(3) / 2, -np.eye(3, dtype=int)):
        with pytest.raises(ValueError, match="confusion_matrix="):
            render_report(replace(full(), confusion_matrix=counts))


def test_a_long_list_of_left_out_images_is_cut_and_says_so():
    page = Page(render_report(replace(full(), bad_images=[(f"{k}.jpg", "empty") for k in range(1234)])))
    assert page.words.count("empty") == 200 and "1,034 more are not" in page.text


@pytest.mark.parametrize(
    "written, expected",
    [
        (charts.text(None), "–"),
        (charts.text(True), "yes"),
        (charts.text(np.int64(12345678)), "12,345,678"),
        (charts.text(np.float32(0.0000316)), "3.16e-05"),
        (charts.text(1234.56), "1,234.6"),
        (charts.percent(0.98765), "98.8\u00a0%"),
        (charts.percent(math.nan), "–"),
        (charts.probability(0.97), "97\u00a0%"),
        (charts.probability(0.996), "99.6\u00a0%"),
        (charts.probability(0.99996), ">\u202f99.9\u00a0%"),
        (charts.probability(1.0), "100\u00a0%"),
        (charts.probability(1e-5), "<\u202f0.1\u00a0%"),
        (charts.probability(0.0), "0\u00a0%"),
    ],
)
def test_numbers_as_text(written, expected):
    assert written == expected


def calibrated():
    """Nine predictions in bins of 0.2: of 0.3 one, wrong; of 0.7 four, all correct; of 0.9 four, three correct."""
    sure = np.array([0.3, 0.7, 0.7, 0.7, 0.7, 0.9, 0.9, 0.9, 0.9])
    probabilities = np.stack([sure, (1 - sure) / 2, (1 - sure) / 2], axis=1)
    probabilities[0] = [0.3, 0.38, 0.32]
    return calibration(probabilities, np.array([0, 0, 0, 0, 0, 0, 0, 0, 1]), bins=5)


def rectangles(figure, kind):
    result = re.findall(rf'rect class="{kind}" x="([^"]*)" y="([^"]*)" width="([^"]*)" height="([^"]*)"', figure)
    return np.array(result, float)


def test_the_reliability_diagram_shows_each_bin_at_its_place():
    figure = reliability_diagram.reliability_diagram(calibrated())
    ticks = [(float(y), float(text) / 100) for y, text in re.findall(r'tick-y"[^>]* y="([^"]*)"[^>]*>(\d+)', figure)]
    heights = np.array(sorted(ticks))

    def value(y):
        return np.interp(y, heights[:, 0], heights[:, 1])

    right, over, under = (rectangles(figure, kind) for kind in ("right", "over", "under"))
    # x, from the ticks below
    places = np.array(sorted((float(x), float(t)) for x, t in re.findall(r'tick-x" x="([^"]*)"[^>]*>(\d+)', figure)))
    np.testing.assert_allclose(np.interp(right[:, 0], *places.T), [20, 60, 80], atol=0.5)
    np.testing.assert_allclose(value(right[:, 1]), [0, 0.7, 0.75], atol=0.002)
    np.testing.assert_allclose(value(over[:, 1]), [0.38, 0.9], atol=0.002)  # up to the confidence
    np.testing.assert_allclose(value(over[:, 1] + over[:, 3]), [0, 0.75], atol=0.002)  # from the accuracy
    np.testing.assert_allclose(value(under[:, 1]), [1.0], atol=0.002)
    counts = rectangles(figure, "count")[:, 3]
    np.testing.assert_allclose(counts / counts.max(), [1 / 4, 1, 1], atol=0.01)
    tooltips = re.findall("<title>(.*?)</title>", figure)
    assert tooltips[1] == "confidence 60\u00a0% to 80\u00a0%: 4 images, accuracy 100.0\u00a0%"
    assert "9 images" in figure and "error 0.2422, largest gap 0.3800" in figure  # (0.38 + 4 * 0.3 + 4 * 0.15) / 9


@pytest.mark.parametrize("bins", [1, 15, 100])
def test_the_reliability_diagram_stays_inside(bins):
    sure = np.linspace(0.5, 1, 97)
    result = calibration(np.stack([sure, 1 - sure], axis=1), np.arange(97) % 2, bins)
    figure = reliability_diagram.reliability_diagram(result)
    drawn = np.concatenate([rectangles(figure, kind) for kind in ("right", "over", "under", "count") if kind in figure])
    drawn = drawn[np.isfinite(drawn).all(axis=1)]
    assert len(drawn) >= 3 * np.count_nonzero(result.counts) and (drawn >= 0).all()
    assert (drawn[:, 0] + drawn[:, 2] <= reliability_diagram.WIDTH).all()
    assert (drawn[:, 1] + drawn[:, 3] <= reliability_diagram.HEIGHT).all()


def test_a_page_with_calibration_has_it_before_the_mistakes():
    page = Page(render_report(replace(full(), calibration=calibrated())))
    assert page.sections()[3:6] == ["classes", "calibration", "mistakes"]
    assert any("Accuracy over confidence" in svg["aria-label"] for svg in page.all("svg"))


EXPORTS = {
    "exports": [{"file": "a.tflite", "size": "7 MB"}, {"file": NASTY, "size": "$exports"}],
    "export_details": [{"file": "a.tflite", "operators": "3 ADD"}],
    "export_notes": {"size": f"What it weighs {NASTY}", "operators": "What it is made of", "other": "no such column"},
}


def test_columns_are_explained_where_they_stand():
    page = Page(render_report(replace(full(), **EXPORTS)))
    assert page.text.index("What it weighs") < page.text.index("3 ADD") < page.text.index("What it is made of")
    assert "no such column" not in page.text and page.all("script") == []


@pytest.mark.parametrize(
    "others", [{}, {"settings": {}, "history": [], "bad_images": []}, {"title": "<!-- exports -->\n"}]
)
def test_the_exports_of_a_page_are_replaced_alone(others):
    before = render_report(replace(full(), **others))
    without = render_report(replace(full(), exports=[], **others))
    after = render_report(replace(full(), **EXPORTS, **others))
    assert replace_page_exports(before, **EXPORTS) == after
    assert replace_page_exports(without, **EXPORTS) == after
    assert replace_page_exports(after, []) == without
    assert replace_page_exports(after, full().exports) == before


def test_the_exports_of_an_empty_page_bring_their_link():
    page = Page(replace_page_exports(render_report(Report(title="Nothing yet")), **EXPORTS))
    assert [link["href"] for link in page.all("a")] == ["#exports"]
    assert Page(replace_page_exports(render_report(Report(title="Nothing yet")), [])).all("nav") == []


def test_a_page_of_something_else_is_refused():
    with pytest.raises(ValueError, match="Expected a report"):
        replace_page_exports("<html></html>", **EXPORTS)


def test_the_page_opens_with_the_verdict():
    scores = Scores(np.arange(40) % 2, np.eye(2)[np.where(np.arange(40) < 30, np.arange(40) % 2, 0)])
    verdict = Verdict(
        scores,
        (NASTY, "owl"),
        Baseline("logistic regression", Scores(np.arange(40) % 2, np.eye(2)[np.zeros(40, int)]), 16, 90),
        ("none", "The curves are level."),
        "Train longer.",
        f"keras-vit fit {NASTY}/run.json epochs=9",
    )
    source = render_report(replace(full(), verdict=verdict))
    page = Page(source)
    assert NASTY not in source and page.words.index("this model") < page.words.index("Test accuracy")
    for words in ("87.5\u00a0%", "73.9 to 94.5\u00a0%", f"always {NASTY}", "The curves are level.", "Train longer."):
        assert words in page.words, words
    assert f"keras-vit fit {NASTY}/run.json epochs=9" in page.words
    bands = [
        tuple(map(float, re.findall(r"[\d.]+", attributes["style"]))) for attributes in page.all("u") if attributes
    ]
    assert bands[0] == pytest.approx((73.9, 20.7)) and len(page.all("s")) == 3
    warned = Page(render_report(replace(full(), verdict=replace(verdict, start="It began with random weights.")))).words
    assert warned.index("It began with random weights.") < warned.index("this model")
    assert "Next" not in Page(render_report(replace(full(), verdict=replace(verdict, next_step="")))).words
