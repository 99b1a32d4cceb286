"""Curves become figures without a display and without pyplot."""

import subprocess
import sys

import numpy as np
import pytest

from mazejax.errors import ConfigError
from mazejax.rendering.plots import Curve, plot_curves


def test_a_figure_holds_the_curves_their_bands_and_their_labels():
    x = np.arange(5.0)
    figure = plot_curves(
        {"ppo": Curve(x, x * x, x * x - 1, x * x + 1), "a2c": (x, -x)},
        xlabel="updates", ylabel="return", title="CartPole-v1",
    )  # fmt: skip
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == (
        "updates",
        "return",
        "CartPole-v1",
    )
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), x * x)
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), -x)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["ppo", "a2c"]
    (band,) = axes.collections
    edges = band.get_paths()[0].vertices
    assert edges[:, 1].min() == -1.0 and edges[:, 1].max() == 17.0


def test_a_figure_is_a_png_for_notebooks_and_for_files(tmp_path):
    figure = plot_curves({"ppo": ([0, 1], [0, 1])})
    figure.savefig(tmp_path / "a.png")
    for png in (figure._repr_png_(), (tmp_path / "a.png").read_bytes()):
        assert png.startswith(b"\x89PNG")


def test_points_between_gaps_are_shown_as_dots():
    y = [1.0, np.nan, 2.0, 3.0, np.nan, 4.0]
    figure = plot_curves({"gaps": (range(6), y), "one": ([3], [4]), "line": (range(6), range(6))})
    gaps, one, line = figure.axes[0].lines
    assert list(gaps.get_markevery()) == [0, 5] and gaps.get_marker() == "o"
    assert list(one.get_markevery()) == [0]
    assert line.get_marker() == "None"


def test_large_step_counts_are_written_short():
    def labels(last):
        figure = plot_curves({"a": (np.linspace(0, last, 3), [1, 2, 3])})
        figure.draw_without_rendering()
        return [label.get_text() for label in figure.axes[0].get_xticklabels()]

    assert "1M" in labels(1e6)
    assert "100" in labels(100.0)


def test_curves_beyond_the_palette_differ_in_style():
    figure = plot_curves({str(i): ([0, 1], [i, i]) for i in range(20)})
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}
    assert len(looks) == 20


def test_no_data_yet_is_an_empty_figure():
    assert plot_curves({"ppo": ([], [])})._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("series", "message"),
    [
        ({}, "no series"),
        ({"a": ([0, 1], [0, 1, 2])}, r"series 'a' has parts of shapes \[\(2,\), \(3,\)\]"),
        ({"a": ([[0, 1]], [[0, 1]])}, "vectors of one length"),
        ({"a": ([0, 1],)}, "has 1 parts"),
        ({"a": ([0, 1], [0, 1], [0, 1])}, "has 3 parts"),
        ({"a": Curve([0, 1], [0, 1], [0, 1])}, "expected both y_low and y_high"),
    ],
)
def test_bad_series_are_errors_of_one_line(series, message):
    with pytest.raises(ConfigError, match=message) as caught:
        plot_curves(series)
    assert "\n" not in str(caught.value)


def test_neither_pyplot_nor_a_display_is_touched():
    program = (
        "import sys, mazejax.rendering as r; assert 'matplotlib' not in sys.modules;"
        "assert 'PIL' not in sys.modules; r.plot_curves({'a': ([0, 1], [0, 1])})._repr_png_();"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.strip() == "False"
