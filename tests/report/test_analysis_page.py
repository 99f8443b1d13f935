import base64
import json
import re

import numpy as np
import pytest

from keras_vit.analysis.geometry import ReceptiveField
from keras_vit.report import analysis_page
from keras_vit.report.analysis_page import Analysis, AnalyzedImage, render_analysis, write_analysis

BLOCKS, HEADS, GRID = 3, 2, (2, 5)
DRAW = np.random.default_rng(0)


def analyzed(name="cat & dog.jpg", **parts):
    whole = {
        "prediction": "a <b> 93 %",
        "attention_maps": DRAW.uniform(size=(BLOCKS, HEADS, *GRID)),
        "patch_attention": DRAW.uniform(size=(BLOCKS, 10, 10)),
        "rollout": DRAW.uniform(size=GRID),
        "relevance": DRAW.uniform(size=GRID),
        "token_colours": DRAW.uniform(size=(*GRID, 3)),
        "stage_maps": {"stage1, receptive field 19 pixels": DRAW.uniform(size=(4, 7, 3))},
        "neighbours": [("other.jpg", np.zeros((8, 8, 3), np.uint8), 0.875)],
    }
    return AnalyzedImage(DRAW.integers(0, 255, (8, 20, 3), dtype=np.uint8), name, **{**whole, **parts})


def analysis(looks, **parts):
    whole = {
        "summary": {"patches": "2 × 5"},
        "attention_of": "The class token.",
        "averaged_over": "7 images",
        "distances": DRAW.uniform(0, 20, (BLOCKS, HEADS)),
        "entropies": DRAW.uniform(0, 2, (BLOCKS, HEADS)),
        "tokens": 11,
        "receptive_fields": [ReceptiveField("stage1", 4, 19)],
        "filter_components": DRAW.normal(size=(4, 3, 3, 3)),
        "variance_shares": np.array([0.4, 0.2]),
        "position_similarity": DRAW.uniform(-1, 1, (*GRID, *GRID)),
        "facts": {"file": "model.keras"},
    }
    return Analysis("what <it> sees", images=looks, **{**whole, **parts})


def data(page):
    return json.loads(re.search(r'<script type="application/json" id="analysis-data">(.*?)</script>', page, re.S)[1])


def test_all_sections_are_there_and_names_are_escaped():
    page = render_analysis(analysis([analyzed(), analyzed("b.jpg")]))
    sections = ["attention", "maps", "heads", "filters", "positions", "stages", "neighbours", "model"]
    assert re.findall(r'<section id="(\w+)"', page) == sections
    assert "<it>" not in page and "a <b>" not in page and "cat & dog" not in page
    assert "what &lt;it&gt; sees" in page and "a &lt;b&gt; 93 %" in page
    assert "60\u00a0% of their variance" in page and "over 7 images" in page
    assert "$" not in re.sub(r"\$\{", "", page.split("<script>")[0])


def test_nothing_is_fetched():
    page = render_analysis(analysis([analyzed()]))
    addresses = re.findall(r'(?:src|href)="(.*?)"', page)
    assert addresses and all(address.startswith(("data:", "#")) for address in addresses)


def test_a_byte_a_value_each_map_from_its_minimum_to_its_maximum():
    """Head 0 is the mean of all heads."""
    shown = analyzed()
    content = data(render_analysis(analysis([shown])))
    maps = np.frombuffer(base64.b64decode(content["images"][0]["attention_maps"]), np.uint8).reshape(
        BLOCKS, HEADS + 1, *GRID
    )
    for place, values in [((1, 2), shown.attention_maps[1, 1]), ((2, 0), shown.attention_maps[2].mean(axis=0))]:
        expected = 255 * (values - values.min()) / (values.max() - values.min())
        np.testing.assert_allclose(maps[place], expected, atol=0.51)
    between = np.frombuffer(base64.b64decode(content["images"][0]["patch_attention"]), np.uint8).reshape(BLOCKS, 10, 10)
    assert between[2, 3].argmax() == shown.patch_attention[2, 3].argmax()
    assert content["shape"] | {"distances": 0, "entropies": 0} == {
        **{"blocks": BLOCKS, "heads": HEADS, "rows": 2, "columns": 5, "tokens": 11, "distances": 0, "entropies": 0}
    }
    assert len(content["colours"]) == 256


def test_patch_attention_is_left_out_beyond_a_size(monkeypatch):
    monkeypatch.setattr(analysis_page, "MAX_PATCH_ATTENTION", 2 * BLOCKS * 100)
    content = data(render_analysis(analysis([analyzed(), analyzed(), analyzed()])))
    assert [each["patch_attention"] is None for each in content["images"]] == [False, False, True]


def test_missing_parts_are_left_out():
    bare = AnalyzedImage(np.zeros((4, 4, 3), np.uint8), "a.jpg")
    page = render_analysis(Analysis("a model without attention", images=[bare]))
    assert re.findall(r'<section id="(\w+)"', page) == []
    assert 'getElementById("analysis-data")' not in page


def test_the_same_analysis_gives_the_same_bytes(tmp_path):
    one = analysis([analyzed()])
    write_analysis(tmp_path / "new" / "a.html", one)
    assert (tmp_path / "new" / "a.html").read_text("utf-8") == render_analysis(one)


@pytest.mark.parametrize("values", [np.ones(GRID), np.zeros(GRID)])
def test_a_map_of_one_value_is_no_division_by_0(values):
    assert (
        "nan"
        not in render_analysis(
            analysis([analyzed(rollout=values, attention_maps=np.zeros((BLOCKS, HEADS, *GRID)))])
        ).lower()
    )
