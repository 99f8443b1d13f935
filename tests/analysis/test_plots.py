import xml.etree.ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from keras_vit.analysis import plots
from keras_vit.analysis.geometry import ReceptiveField

DRAW = np.random.default_rng(0)
FIGURES = {
    "distance": lambda: plots.distance_by_depth(DRAW.uniform(0, 90, (3, 2)), [ReceptiveField("stage1", 4, 19)]),
    "entropy": lambda: plots.entropy_by_depth(DRAW.uniform(0, 3, (3, 2)), 16),
    "filters": lambda: plots.filters(DRAW.normal(size=(5, 4, 4, 3)), columns=3),
    "positions": lambda: plots.positions(DRAW.uniform(-1, 1, (3, 5, 3, 5))),
    "curves": lambda: plots.curves(
        {"fog": {"a": ([1, 5], [0.9, 0.3]), "b": ([1, 5], [0.5, 0.2])}}, "severity", "right"
    ),
    "image": lambda: plots.over_image(np.zeros((8, 12, 3), np.uint8), np.ones((2, 3))),
}


@pytest.mark.parametrize("figure", FIGURES.values(), ids=FIGURES)
def test_every_figure_is_matplotlibs_and_goes_on_a_page(figure):
    drawn = figure()
    assert isinstance(drawn, Figure)
    text = plots.svg(drawn)
    root = xml.etree.ElementTree.fromstring(text.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))
    assert root.tag.endswith("svg") and set(root.attrib) == {"viewBox"}
    assert plots.INK not in text and plots.SOFT not in text  # the page's own colours, light and dark
    assert not [node for node in root.iter() if node.tag.endswith("}g") and "id" in node.attrib]
    assert plots.svg(drawn) == text


def test_a_dot_a_head_and_their_mean():
    values = np.array([[1.0, 3.0], [2.0, 6.0]])
    (axes,) = plots.distance_by_depth(values).axes
    dots = [tuple(dots.get_offsets()[i]) for dots in axes.collections for i in range(2)]
    assert dots == [(1, 1), (2, 2), (1, 3), (2, 6)]
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [2, 4])


def test_grids_lie_where_their_positions_do():
    similarity = np.zeros((2, 3, 2, 3))
    similarity[1, 2] = 0.5
    (axes,) = plots.positions(similarity).axes
    sheet = np.ma.filled(axes.images[0].get_array(), np.nan)
    assert sheet.shape == (5, 11)
    np.testing.assert_array_equal(sheet[3:, 8:], np.full((2, 3), 0.5))
    assert np.isnan(sheet[2]).all() and np.nansum(sheet) == 3


def test_of_a_large_grid_some_places_are_shown():
    (axes,) = plots.positions(np.zeros((20, 5, 20, 5)), most=4).axes
    assert axes.images[0].get_array().shape == (4 * 21 - 1, 4 * 6 - 1)


def test_a_colour_a_condition_and_dashes_for_other_models():
    lines = {"fog": {"a": ([1], [0.9]), "b": ([1], [0.5])}, "snow": {"a": ([1], [0.1]), "b": ([1], [0.2])}}
    (axes,) = plots.curves(lines, "severity", "right").axes
    described = [(line.get_label(), line.get_color(), line.get_linestyle(), line.get_ydata()[0]) for line in axes.lines]
    one, other = plots.COLOURS[:2]
    assert described == [
        ("fog, a", one, "-", 90),
        ("fog, b", one, "--", 50),
        ("snow, a", other, "-", 10),
        ("snow, b", other, "--", 20),
    ]


def test_filters_are_shown_around_grey():
    components = np.zeros((2, 3, 3, 1))
    components[0, 0, 0], components[1, 1, 1] = 2, -4
    (axes,) = plots.filters(components, columns=2).axes
    sheet = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(sheet[0, 0], [1, 1, 1, 1])
    np.testing.assert_allclose(sheet[1, 5], [0, 0, 0, 1])
    np.testing.assert_allclose(sheet[2, 2], [0.5, 0.5, 0.5, 1])
    assert sheet[0, 3, 3] == 0  # the gap


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"the extra \[plots\]: pip install matplotlib"):
        plots.entropy_by_depth(np.ones((1, 1)), 4)
