import re

from keras_vit.evaluation.robustness import Robustness, RobustnessRow
from keras_vit.report.robustness_page import render_robustness, write_robustness


def robustness(models=("mine", "R50 <x1>"), families=("drop", "shift", "corruptions")):
    rows = [RobustnessRow("clean", "clean", 0, model, 0.75, 1.0, 40) for model in models]
    curves = [("drop", "random", (0.1, 0.9)), ("drop", "salient", (0.1, 0.9)), ("shift", "pixels", (1, 2, 4))]
    curves += [("corruptions", name, (1, 2, 3, 4, 5)) for name in ("fog", "snow")]
    for place, (family, condition, levels) in enumerate(curves):
        for level in levels:
            for number, model in enumerate(models):
                accuracy = 0.6 - 0.1 * number - 0.02 * place
                rows += [RobustnessRow(family, condition, level, model, accuracy, 0.5, 40)] * (family in families)
    return Robustness(models, tuple(rows))


def test_a_section_a_family_and_the_figures():
    page = render_robustness(robustness(), "how robust")
    assert re.findall(r'<section id="(\w+)"', page) == ["drop", "shift", "corruptions"]
    assert "<dt>mine, clean</dt><dd>75.0\u00a0%</dd>" in page and "<dd>40</dd>" in page
    assert "R50 &lt;x1&gt;" in page and "R50 <x1>" not in page
    assert "relative to R50 &lt;x1&gt;, whose error is 100" in page
    assert page.count("<svg") == 4  # drops; shifts, twice; the mean of the corruptions
    assert re.findall(r"(random|salient), (mine|R50)", page)
    row = re.search(r'<th scope="row">snow</th><td>mine</td>(.*?)</tr>', page)[1]
    assert re.findall(r"<td>(.*?)</td>", row) == ["52.0\u00a0%"] * 5


def test_one_model_and_one_family(tmp_path):
    write_robustness(tmp_path / "page.html", robustness(("mine",), ("shift",)), "how robust")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert re.findall(r'<section id="(\w+)"', page) == ["shift"]
    assert "mean corruption error" not in page
    assert page == render_robustness(robustness(("mine",), ("shift",)), "how robust")
