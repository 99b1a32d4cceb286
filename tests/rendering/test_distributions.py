"""Tests of mazejax.rendering.distributions."""

import io

import numpy as np
import pytest

from mazejax.errors import ConfigError
from mazejax.events.distribution import Distribution
from mazejax.rendering.distributions import MAX_WIDTH, draw_distribution


def categories(num):
    return np.arange(num + 1) - 0.5


def polygons(axes):
    """Bounds (left, right, bottom, top) of the filled outlines."""
    paths = axes.collections[0].get_paths()
    boxes = [path.vertices for path in paths]
    return [(*np.sort([v[:, 0].min(), v[:, 0].max()]), v[:, 1].min(), v[:, 1].max()) for v in boxes]


def drawn(counts, edges, plot, title="train_A/b/c"):
    figure = draw_distribution(Distribution(np.asarray(counts), np.asarray(edges), plot), title)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    assert picture.getvalue().startswith(b"\x89PNG")
    return figure, figure.axes[0]


def test_bars_are_shares_of_all_categories_also_of_those_never_chosen():
    _, axes = drawn([3.0, 0.0, 1.0], categories(3), "relative_bars")
    bars = polygons(axes)
    assert [round(top, 6) for *_, top in bars] == [0.75, 0.0, 0.25]
    assert [(left + right) / 2 for left, right, *_ in bars] == pytest.approx([0.0, 1.0, 2.0])
    assert axes.get_ylim() == (0.0, 1.0)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "2"]


def test_figures_of_bars_grow_with_the_categories_up_to_a_limit():
    widths = []
    for num in (5, 20, 30, 1000):
        figure, axes = drawn(np.ones(num), categories(num), "relative_bars", "a")
        widths.append(figure.get_size_inches()[0])
        assert len(axes.get_xticks()) <= 30
    assert widths[0] < widths[1] < widths[2] < widths[3] == MAX_WIDTH


def test_of_a_vector_categories_are_shades_from_none_to_all():
    counts = np.array([[1.0, 3.0, 0.0], [0.0, 0.0, 5.0]])
    _, axes = drawn(counts, categories(3), "relative_bars")
    (shades,) = axes.collections
    np.testing.assert_allclose(shades.get_array(), [[0.25, 0.75, 0.0], [0.0, 0.0, 1.0]])
    assert shades.get_clim() == (0.0, 1.0)


def test_binary_bars_are_the_share_of_ones_of_every_entry():
    _, axes = drawn([[1.0, 3.0], [2.0, 0.0], [0.0, 0.0]], categories(2), "binary_bars")
    assert [top for *_, top in polygons(axes)] == pytest.approx([0.75, 0.0, 0.0])
    assert axes.get_ylim() == (0.0, 1.0)


def test_histograms_show_the_share_of_every_bin_where_there_is_something():
    _, axes = drawn([0.0, 1.0, 3.0, 0.0], [0.0, 1.0, 2.0, 4.0, 8.0], "histogram")
    values, edges, _ = axes.patches[0].get_data()
    np.testing.assert_array_equal(values, [0.0, 0.25, 0.75, 0.0])
    np.testing.assert_array_equal(edges, [0.0, 1.0, 2.0, 4.0, 8.0])
    low, high = axes.get_xlim()
    assert 0.8 < low < 1.0 and 4.0 < high < 4.2


def test_violins_are_as_wide_as_their_bins_are_full_with_the_mean_marked():
    counts = [[2.0, 2.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 3.0]]
    _, axes = drawn(counts, [0.0, 1.0, 3.0, 4.0], "violin")
    first, last = polygons(axes)  # nothing is drawn of the entry without values
    assert first == pytest.approx((-0.4, 0.4, 0.0, 3.0))
    assert last == pytest.approx((1.6, 2.4, 1.0, 4.0))
    corners = axes.collections[0].get_paths()[0].vertices
    # As many values in a bin of twice the height: half as wide there, on both sides.
    upper = corners[corners[:, 1] > 1.0]
    assert sorted({*upper[:, 0].round(6).tolist()}) == [-0.2, 0.2]
    (means,) = (line for line in axes.lines if line.get_marker() == "o")
    np.testing.assert_allclose(means.get_xydata(), [[0.0, 1.25], [2.0, 3.125]])
    (spread,) = (c for c in axes.collections if type(c).__name__ == "LineCollection")
    np.testing.assert_allclose(spread.get_segments()[0][:, 1], [0.1, 2.8])


def test_a_vector_of_histograms_is_drawn_as_violins_and_one_violin_stands_alone():
    _, axes = drawn([[1.0, 0.0], [0.0, 1.0]], [0.0, 1.0, 2.0], "histogram")
    assert len(polygons(axes)) == 2
    _, axes = drawn([1.0, 2.0], [0.0, 1.0, 2.0], "violin")
    assert len(polygons(axes)) == 1


@pytest.mark.parametrize("plot", ["relative_bars", "binary_bars", "violin", "histogram"])
def test_of_nothing_the_axes_are_empty(plot):
    for counts in (np.zeros(2), np.zeros((3, 2))):
        figure, _ = drawn(counts, categories(2), plot)
        assert figure.get_suptitle() == "train_A/b/c"


def test_figures_leave_pyplot_alone():
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    figure, _ = drawn([1.0, 2.0], categories(2), "histogram")
    assert plt.get_fignums() == before and figure._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("counts", "edges", "plot", "message"),
    [
        ([1.0], [0.0, 1.0], "pie", "unknown plot 'pie'"),
        ([1.0, 2.0], [0.0, 1.0], "histogram", r"got counts \(2,\) and edges \(2,\)"),
        (np.zeros((2, 2, 2)), [0.0, 1.0, 2.0], "violin", r"expected \[bins\] or \[D, bins\]"),
        ([1.0, 2.0, 3.0], categories(3), "binary_bars", "the two bins 0 and 1, got 3"),
    ],
)
def test_what_cannot_be_drawn_is_refused(counts, edges, plot, message):
    with pytest.raises(ConfigError, match=message):
        draw_distribution(Distribution(np.asarray(counts), np.asarray(edges), plot))
