"""Learning curves and comparisons of them as matplotlib figures.

Figures are made without pyplot: no global state, no display, nothing to close; a notebook
shows them as the value of a cell, and `figure.savefig(path)` writes them. Which numbers are
plotted is for the caller to choose.
"""

import functools
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mazejax.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart by colour-blind readers; its yellow is too pale for lines.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
_STYLES = ("-", "--", ":", "-.")


class Curve(NamedTuple):
    """One curve, and the band around it if both edges are given; a plain tuple serves as well."""

    x: Any
    """[P] where it was measured."""
    y: Any
    """[P] what was measured; nan leaves a gap."""
    y_low: Any = None
    """[P] lower edge of the band, such as the lowest seed or the mean minus the deviation."""
    y_high: Any = None
    """[P] upper edge of the band."""


def plot_curves(
    series: Mapping[str, Curve | tuple],
    xlabel: str = "env steps",
    ylabel: str = "episode return",
    title: str = "",
) -> "Figure":
    """A matplotlib Figure with one labelled curve for each of the series.

    A series is `Curve(x, y)`, `Curve(x, y, y_low, y_high)` with a band, or a tuple of that
    order. A point between gaps is shown as a dot. For more, `figure.axes[0]` is the Axes.
    """
    if not series:
        raise ConfigError("plot_curves: got no series, expected {label: (x, y)} with one at least")
    curves = {label: _checked(label, curve) for label, curve in series.items()}
    figure = figure_class()(figsize=(7.0, 4.2), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    _draw_curves(axes, curves)
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    _polish(axes)
    axes.legend(frameon=False)
    return figure


def plot_comparison(
    series: Mapping[str, Curve | tuple],
    scores: Mapping[str, tuple[float, float, float]],
    xlabel: str = "env steps",
    ylabel: str = "episode return",
    score_label: str = "final return",
    title: str = "",
) -> "Figure":
    """A matplotlib Figure with the series as curves, and beside it the score of each.

    A score is (value, low, high), a dot on a bar; nan leaves it out. Its row bears the
    label, in the series' order from the top, and its colour and style are the curve's.
    """
    if not series or list(series) != list(scores):
        raise ConfigError(
            f"plot_comparison: got series {list(series)} and scores {list(scores)}, expected the "
            f"same labels, one at least"
        )
    curves = {label: _checked(label, curve) for label, curve in series.items()}
    # 0.08 inches are a character of the labels, 0.34 a row of them.
    width = 9.5 + 0.08 * max(map(len, series))
    height = max(4.2, 1.0 + 0.34 * len(series))
    figure = figure_class()(figsize=(width, height), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2.4, 1.0))
    _draw_curves(left, curves)
    for row, (label, (value, low, high)) in enumerate(scores.items()):
        color, style = _look(row)
        right.plot([low, high], [row, row], style, color=color, linewidth=2.2)
        inside = color if style == _STYLES[0] else "white"
        right.plot([value], [row], "o", color=color, mfc=inside, markersize=6, label=label)
    right.set_yticks(range(len(scores)), list(scores))
    right.set(xlabel=score_label, ylim=(len(scores) - 0.4, -0.6))
    right.yaxis.tick_right()
    right.tick_params(axis="y", length=0)
    left.set(xlabel=xlabel, ylabel=ylabel)
    figure.suptitle(title)
    _polish(left)
    _polish(right)
    right.margins(x=0.08)
    return figure


def _draw_curves(axes: Any, curves: Mapping[str, Curve]) -> None:
    for index, (label, curve) in enumerate(curves.items()):
        color, style = _look(index)
        dots = _isolated(curve.x, curve.y)
        marks = {"marker": "o", "markevery": dots} if len(dots) else {}
        axes.plot(curve.x, curve.y, style, color=color, linewidth=1.8, label=label, **marks)
        if curve.y_low is not None:
            axes.fill_between(
                curve.x, curve.y_low, curve.y_high, color=color, alpha=0.18, linewidth=0
            )


def _look(index: int) -> tuple[str, str]:
    """Colour and line style of the series with this index."""
    return _COLORS[index % len(_COLORS)], _STYLES[index // len(_COLORS) % len(_STYLES)]


def _polish(axes: Any) -> None:
    from matplotlib.ticker import EngFormatter

    axes.margins(x=0.02)
    if max(map(abs, axes.get_xlim())) >= 1e4:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 200k, 1M
    axes.grid(color="#e4e6ea", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _isolated(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Indices of the points without a neighbour to draw a line to."""
    here = np.pad(np.isfinite(x) & np.isfinite(y), 1)
    return np.flatnonzero(here[1:-1] & ~here[:-2] & ~here[2:])


def _checked(label: str, curve: Any) -> Curve:
    """The curve as float64 arrays of one length."""
    if len(curve) not in (2, 4):
        raise ConfigError(
            f"plot_curves: series {label!r} has {len(curve)} parts, expected (x, y) "
            f"or (x, y, y_low, y_high)"
        )
    if len(curve) == 4 and (curve[2] is None) != (curve[3] is None):
        raise ConfigError(
            f"plot_curves: series {label!r} has one edge of a band, expected both y_low and y_high"
        )
    arrays = [None if part is None else np.asarray(part, np.float64) for part in curve]
    shapes = [array.shape for array in arrays if array is not None]
    if len(shapes[0]) != 1 or len(set(shapes)) != 1:
        raise ConfigError(
            f"plot_curves: series {label!r} has parts of shapes {shapes}, expected vectors of "
            f"one length"
        )
    return Curve(*arrays)


@functools.cache
def figure_class() -> type:
    """Figure that notebooks can show: they know matplotlib's own only once pyplot is imported."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    class NotebookFigure(Figure):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            FigureCanvasAgg(self)

        def _repr_png_(self) -> bytes:
            file = io.BytesIO()
            self.savefig(file, format="png")
            return file.getvalue()

    return NotebookFigure
