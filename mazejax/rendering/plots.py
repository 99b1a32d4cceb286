"""Learning curves as matplotlib figures.

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
    figure = _figure_class()(figsize=(7.0, 4.2), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for index, (label, curve) in enumerate(curves.items()):
        color = _COLORS[index % len(_COLORS)]
        style = _STYLES[index // len(_COLORS) % len(_STYLES)]
        dots = _isolated(curve.x, curve.y)
        marks = {"marker": "o", "markevery": dots} if len(dots) else {}
        axes.plot(curve.x, curve.y, style, color=color, linewidth=1.8, label=label, **marks)
        if curve.y_low is not None:
            axes.fill_between(
                curve.x, curve.y_low, curve.y_high, color=color, alpha=0.18, linewidth=0
            )
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    _polish(axes)
    return figure


def _polish(axes: Any) -> None:
    from matplotlib.ticker import EngFormatter

    axes.margins(x=0.02)
    if max(map(abs, axes.get_xlim())) >= 1e4:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))  # 200k, 1M
    axes.grid(color="#e4e6ea", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


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
def _figure_class() -> type:
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
