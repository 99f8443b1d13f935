"""The page of an analysis in headless Chromium: sliders, clicks, and that it is as wide as the screen."""

import base64
import json
import re

import numpy as np
import pytest

from keras_vit.report.analysis_page import Analysis, AnalyzedImage, write_analysis

BLOCKS, HEADS, GRID = 3, 2, (3, 5)
PATCH = (1, 3)


@pytest.fixture(scope="module")
def shown(tmp_path_factory, in_browser, serve):
    """What the browser found, and the bytes that the page was made of."""
    folder, draw = tmp_path_factory.mktemp("page"), np.random.default_rng(0)
    looks = [
        AnalyzedImage(
            draw.integers(0, 255, (30, 50, 3), dtype=np.uint8),
            f"{i}.png",
            attention_maps=draw.uniform(size=(BLOCKS, HEADS, *GRID)),
            patch_attention=draw.uniform(size=(BLOCKS, 15, 15)),
        )
        for i in range(2)
    ]
    distances, entropies = np.arange(6.0).reshape(3, 2) * 10, np.arange(6.0).reshape(3, 2) / 4
    analysis = Analysis(
        "a", images=looks, distances=distances, entropies=entropies, tokens=16, attention_of="The class token."
    )
    write_analysis(folder / "page.html", analysis)
    result = in_browser("analysis.mjs", url=f"{serve(folder)}page.html", patch=PATCH, grid=GRID)
    page = (folder / "page.html").read_text("utf-8")
    described = json.loads(re.search(r'id="analysis-data">(.*?)</script>', page, re.S)[1])
    first = {name: np.frombuffer(base64.b64decode(text), np.uint8) for name, text in described["images"][0].items()}
    return result, first, np.array(described["colours"], float)


def assert_shown(state, values, colours):
    """To a level: a canvas keeps colours with their alpha multiplied in."""
    np.testing.assert_allclose(np.reshape(state["pixels"], (-1, 4)), colours[values.reshape(-1)], atol=1.01)


def test_it_begins_with_the_last_block_and_the_mean_of_its_heads(shown):
    result, first, colours = shown
    maps = first["attention_maps"].reshape(BLOCKS, HEADS + 1, 15)
    assert_shown(result["shown"][0], maps[2, 0], colours)
    assert (result["shown"][0]["block"], result["shown"][0]["head"]) == ("3 of 3", "mean of all")
    assert result["shown"][0]["statistics"] == "mean attention distance 45 pixels, entropy 1.13 of at most 2.77 nats"


def test_the_sliders_choose_block_and_head(shown):
    result, first, colours = shown
    assert_shown(result["shown"][1], first["attention_maps"].reshape(BLOCKS, HEADS + 1, 15)[0, 2], colours)
    assert (result["shown"][1]["block"], result["shown"][1]["head"]) == ("1 of 3", "2 of 2")
    assert result["shown"][1]["statistics"].startswith("mean attention distance 10 pixels, entropy 0.25")


def test_a_click_shows_what_that_patch_looks_at_and_another_goes_back(shown):
    result, first, colours = shown
    between = first["patch_attention"].reshape(BLOCKS, 15, 15)
    assert_shown(result["shown"][2], between[0, PATCH[0] * GRID[1] + PATCH[1]], colours)
    assert result["shown"][2]["marked"] and not result["shown"][3]["marked"]
    assert result["shown"][3]["pixels"] == result["shown"][1]["pixels"]


def test_nothing_else_is_asked_for_and_nothing_sticks_out(shown):
    result, _, _ = shown
    assert [
        line for line in result["console"] if not line.startswith("Canvas2D: ")
    ] == []  # a hint for this test itself
    fetched = [address for address in result["requests"] if not address.startswith("data:")]
    assert [address.rpartition("/")[2] for address in fetched] == ["page.html"]
    assert result["wide"] == {"390": 390, "1200": 1200}
