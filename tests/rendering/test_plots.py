"""Curves become figures without a display and without pyplot."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from mazejax.errors import ConfigError
from mazejax.rendering.plots import Curve, plot_comparison, plot_curves


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


# --- comparisons --------------------------------------------------------------------------


def test_a_comparison_shows_curves_and_beside_them_the_score_of_each():
    x = np.arange(4.0)
    figure = plot_comparison(
        {"fast": Curve(x, x * 2, x, x * 3), "slow": (x, x)},
        {"fast": (6.0, 5.0, 7.0), "slow": (3.0, 2.5, 3.0)},
        score_label="final", title="two",
    )  # fmt: skip
    left, right = figure.axes
    assert [line.get_label() for line in left.lines] == ["fast", "slow"]
    assert len(left.collections) == 1 and left.get_ylabel() == "episode return"
    bars, dots = right.lines[0::2], right.lines[1::2]
    assert [list(bar.get_xdata()) for bar in bars] == [[5.0, 7.0], [2.5, 3.0]]
    assert [list(dot.get_xdata()) for dot in dots] == [[6.0], [3.0]]
    assert [text.get_text() for text in right.get_yticklabels()] == ["fast", "slow"]
    bottom, top = right.get_ylim()
    assert bottom > top, "the first is on top"
    for line, bar, dot in zip(left.lines, bars, dots, strict=True):
        assert line.get_color() == bar.get_color() == dot.get_color()
    assert right.get_xlabel() == "final" and figure.get_suptitle() == "two"
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_many_long_labels_of_a_comparison_are_all_within_the_figure_and_apart():
    labels = [
        f"learning_rate={i / 1000}, ent_coef=0.01, network.hidden=(64, 64)" for i in range(20)
    ]
    figure = plot_comparison(
        {label: ([0, 1], [0, i]) for i, label in enumerate(labels)},
        {label: (i, i - 1, i + 1) for i, label in enumerate(labels)},
    )
    figure.draw_without_rendering()
    left, right = figure.axes
    boxes = [text.get_window_extent() for text in right.get_yticklabels()]
    assert all(box.x1 <= figure.bbox.x1 for box in boxes)
    assert all(low.y1 <= high.y0 for high, low in itertools.pairwise(boxes))
    assert left.get_window_extent().width > figure.bbox.width / 4
    looks = {
        (bar.get_color(), bar.get_linestyle(), dot.get_markerfacecolor() == "white")
        for bar, dot in zip(right.lines[0::2], right.lines[1::2], strict=True)
    }
    assert len(looks) == 20


def test_scores_that_are_nan_leave_their_row_empty():
    nan = float("nan")
    figure = plot_comparison(
        {"a": ([0], [nan]), "b": ([0], [nan])}, dict.fromkeys("ab", (nan,) * 3)
    )
    assert figure._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize("scores", [{}, {"b": (1, 0, 2)}, {"a": (1, 0, 2), "b": (1, 0, 2)}])
def test_scores_of_other_series_are_refused(scores):
    with pytest.raises(ConfigError, match="expected the same labels, one at least"):
        plot_comparison({"a": ([0, 1], [0, 1])}, scores)
