"""Distributions as matplotlib figures: bars of shares, histograms, violins.

A figure shows what was counted in bins and nothing else: no smoothing, and categories
that never occurred keep their place. Like learning curves they are made without pyplot.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mazejax.errors import ConfigError, did_you_mean
from mazejax.events.distribution import Distribution
from mazejax.rendering.plots import figure_class

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_WIDTH = 8.0
"""Width in inches to which figures grow with the number of what they show."""

_FILL, _DARK = "#56b4e9", "#0072b2"  # two blues of Okabe and Ito's palette
_MAX_TICKS = 30
_DPI = 80


def draw_distribution(distribution: Distribution, title: str = "") -> "Figure":
    """A matplotlib Figure of the distribution, as its `plot` asks for.

    `relative_bars` have a bar for every category, of a vector a row of shades for each
    entry; `binary_bars` a bar for every entry; `violin` one for every entry, as wide as
    its bins are full, with the mean as a dot and a line from the 5% to the 95% quantile.
    A `histogram` of a vector is drawn as violins. Of nothing the axes are empty.
    """
    counts = np.atleast_2d(np.asarray(distribution.counts, np.float64))
    edges = np.asarray(distribution.edges, np.float64)
    if counts.ndim != 2 or edges.shape != (counts.shape[1] + 1,):
        raise ConfigError(
            f"draw_distribution: got counts {np.shape(distribution.counts)} and edges "
            f"{edges.shape}, expected [bins] or [D, bins] and [bins + 1]"
        )
    kind = distribution.plot
    if kind not in _DRAWN:
        raise ConfigError(f"draw_distribution: unknown plot {kind!r}; {did_you_mean(kind, _DRAWN)}")
    if kind == "binary_bars" and counts.shape[1] != 2:
        raise ConfigError(
            f"draw_distribution: binary_bars need the two bins 0 and 1, got {counts.shape[1]}"
        )
    return _DRAWN[kind](counts, edges, title)


def _draw_bars(counts: np.ndarray, edges: np.ndarray, title: str) -> "Figure":
    """Share of every category, [1, bins]; of a vector [D, bins] as shades."""
    if len(counts) > 1:
        return _draw_shades(counts, edges, title)
    return _bars(_shares(counts)[0], _centers(edges), title, "category", "share")


def _draw_binary_bars(counts: np.ndarray, edges: np.ndarray, title: str) -> "Figure":
    """Share of ones for every entry, [D, 2]."""
    ones = _shares(counts)[:, 1]
    return _bars(ones, np.arange(len(ones)), title, "entry", "share of ones")


def _draw_histogram(counts: np.ndarray, edges: np.ndarray, title: str) -> "Figure":
    """Share of every bin, [1, bins]; of a vector [D, bins] as violins."""
    if len(counts) > 1:
        return _draw_violins(counts, edges, title)
    figure, axes = _new(6.0, title)
    shares = _shares(counts)[0]
    axes.stairs(shares, edges, fill=True, color=_FILL)
    axes.stairs(shares, edges, color=_DARK, linewidth=0.8)
    axes.set_xlim(*_occupied(counts, edges))
    axes.set_ylim(0.0, 1.08 * shares.max() or 1.0)
    axes.set(xlabel="value", ylabel="share")
    return figure


def _draw_violins(counts: np.ndarray, edges: np.ndarray, title: str) -> "Figure":
    """A symmetric outline for every entry, [D, bins]; all are equally wide at their fullest."""
    from matplotlib.collections import PolyCollection

    num = len(counts)
    figure, axes = _new(_width(num, 0.45), title)
    density = counts / np.diff(edges)
    half = 0.4 * density / np.maximum(density.max(axis=1, keepdims=True), 1e-300)
    outlines = [_outline(half[i], edges, i) for i in range(num) if counts[i].sum() > 0]
    axes.add_collection(
        PolyCollection(outlines, facecolor=_FILL, edgecolor=_DARK, linewidth=0.8, alpha=0.9),
        autolim=False,
    )
    there = np.flatnonzero(counts.sum(axis=1) > 0)
    spread = Distribution(counts[there], edges)
    axes.vlines(there, spread.quantile(0.05), spread.quantile(0.95), color=_DARK, linewidth=1.4)
    means = (_shares(counts) @ _centers(edges))[there]
    axes.plot(there, means, "o", color=_DARK, mfc="white", markersize=4.5)
    axes.set_xlim(-0.6, num - 0.4)
    axes.set_ylim(*_occupied(counts, edges))
    axes.set(xlabel="entry", ylabel="value")
    _whole_ticks(axes, np.arange(num))
    return figure


def _draw_shades(counts: np.ndarray, edges: np.ndarray, title: str) -> "Figure":
    """Share of every category as the shade of a cell, [D, bins], a row for each entry."""
    num, bins = counts.shape
    figure, axes = _new(
        _width(bins + 4, 0.22), title, height=min(1.6 + 0.25 * num, 9.0), right=0.95
    )
    shades = axes.pcolormesh(
        edges, np.arange(num + 1) - 0.5, _shares(counts), cmap="Blues", vmin=0.0, vmax=1.0
    )
    axes.grid(visible=False)
    axes.invert_yaxis()
    axes.set(xlabel="category", ylabel="entry")
    _whole_ticks(axes, _centers(edges))
    axes.set_yticks(_thinned(np.arange(num)))
    left, bottom, width, height = axes.get_position().bounds
    bar = figure.add_axes((left + width + 0.15 / figure.get_figwidth(), bottom, 0.02, height))
    figure.colorbar(shades, cax=bar, label="share")
    return figure


def _bars(
    heights: np.ndarray, places: np.ndarray, title: str, xlabel: str, ylabel: str
) -> "Figure":
    """Bars in [0, 1], one for every place."""
    from matplotlib.collections import PolyCollection

    figure, axes = _new(_width(len(heights), 0.22), title)
    # One collection and not `bar`, whose rectangles cost more than all else from some hundred on.
    corners = np.array([[-0.4, 0.0], [-0.4, 1.0], [0.4, 1.0], [0.4, 0.0]])
    shape = np.stack([np.ones_like(heights), heights], axis=-1)[:, None]
    offset = np.stack([places, np.zeros_like(heights)], axis=-1)[:, None]
    axes.add_collection(
        PolyCollection(corners * shape + offset, facecolor=_DARK, linewidth=0.0), autolim=False
    )
    axes.set_xlim(places[0] - 0.7, places[-1] + 0.7)
    axes.set_ylim(0.0, 1.0)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    _whole_ticks(axes, places)
    return figure


def _new(width: float, title: str, height: float = 3.2, right: float = 0.15) -> tuple[Any, Any]:
    """Figure and axes of a size in inches, with a margin on the right."""
    size = (max(width, 0.5 + 0.075 * len(title)), height)  # a character is 0.075 inches
    figure = figure_class()(figsize=size, dpi=_DPI)
    # Not a constrained layout, which draws all twice: figures are made while training waits.
    left, bottom, top = 0.8 / size[0], 0.5 / height, 0.35 / height
    axes = figure.add_axes((left, bottom, 1.0 - left - right / size[0], 1.0 - bottom - top))
    figure.suptitle(title, fontsize=9, y=1.0 - 0.08 / height, va="top")
    axes.grid(axis="y", color="#e4e6ea", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _width(num: int, each: float) -> float:
    return float(np.clip(1.2 + each * num, 3.6, MAX_WIDTH))


def _whole_ticks(axes: Any, places: np.ndarray) -> None:
    chosen = _thinned(places)
    axes.set_xticks(chosen, [f"{place:g}" for place in chosen])


def _thinned(places: np.ndarray) -> np.ndarray:
    """Every place, or every second, fifth, tenth, ... of many."""
    steps = (step * 10**power for power in range(9) for step in (1, 2, 5))
    return places[:: next(step for step in steps if len(places) <= step * _MAX_TICKS)]


def _shares(counts: np.ndarray) -> np.ndarray:
    """Counts [D, bins] over the sum of their row; 0 of an empty one."""
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-300)


def _centers(edges: np.ndarray) -> np.ndarray:
    return (edges[:-1] + edges[1:]) / 2


def _outline(half: np.ndarray, edges: np.ndarray, place: int) -> np.ndarray:
    """Corners [4 bins, 2] of a violin around its place: right side up, left side down."""
    full = np.flatnonzero(half)
    half, edges = half[full[0] : full[-1] + 1], edges[full[0] : full[-1] + 2]
    right, height = np.repeat(half, 2), np.repeat(edges, 2)[1:-1]
    sides = np.concatenate([place + right, place - right[::-1]])
    return np.stack([sides, np.concatenate([height, height[::-1]])], axis=-1)


def _occupied(counts: np.ndarray, edges: np.ndarray) -> tuple[float, float]:
    """Bounds of all bins that hold something, and a little space."""
    full = np.flatnonzero(counts.sum(axis=0))
    low, high = (edges[full[0]], edges[full[-1] + 1]) if len(full) else (edges[0], edges[-1])
    space = 0.04 * (high - low)
    return float(low - space), float(high + space)


_DRAWN: dict[str, Callable[[np.ndarray, np.ndarray, str], "Figure"]] = {
    "histogram": _draw_histogram,
    "relative_bars": _draw_bars,
    "binary_bars": _draw_binary_bars,
    "violin": _draw_violins,
}
