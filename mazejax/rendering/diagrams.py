"""Diagrams of boxes, lines and short texts, as SVG or as PNG.

A diagram is plain data in pixels, y downwards, on a background of its own, so that it reads
the same in light and dark. Texts are of one width for every character: what surrounds them
can be sized without asking a font.
"""

import io
import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple
from xml.sax.saxutils import escape, quoteattr

_FONTS = "'DejaVu Sans Mono', Menlo, Consolas, monospace"
# Menlo and DejaVu have 0.602, SF Mono has 0.618 of the size.
_CHARACTER = 0.62
_INK = "#1f2933"
_LINE = "#5b6b7b"
BACKGROUND = "#ffffff"


class Box(NamedTuple):
    """A rectangle with texts around its middle, one a line."""

    x: float
    y: float
    width: float
    height: float
    texts: tuple[tuple[str, float, bool], ...] = ()
    """(text, size, whether it is bold)."""
    radius: float = 5.0
    fill: str = BACKGROUND
    stroke: str = ""
    is_double: bool = False
    """Whether a second outline runs inside the first."""


class Curve(NamedTuple):
    """A line from above to below, upright at both ends."""

    x0: float
    y0: float
    x1: float
    y1: float


class Arrow(NamedTuple):
    """A head that points down to (x, y), 8 high."""

    x: float
    y: float


class Diagram(NamedTuple):
    """What is drawn, the first lowest."""

    width: float
    height: float
    title: str
    shapes: Sequence[Box | Curve | Arrow]


def text_width(text: str, size: float) -> float:
    """Width that suffices for a text."""
    return _CHARACTER * size * sum(_cells(character) for character in printable(text))


def printable(text: str) -> str:
    """The text with what no document can hold replaced."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def to_svg(diagram: Diagram) -> str:
    """A document of its own, SVG 1.1."""
    width, height = _number(diagram.width), _number(diagram.height)
    body = "\n".join(_svg_shape(shape) for shape in diagram.shapes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" version="1.1" width="{width}" '
        f'height="{height}" viewBox="0 0 {width} {height}" font-family={quoteattr(_FONTS)} '
        f'fill="{_INK}" text-anchor="middle">\n'
        f"<title>{escape(printable(diagram.title))}</title>\n"
        f'<rect width="{width}" height="{height}" rx="8" fill="{BACKGROUND}"/>\n'
        f"{body}\n</svg>\n"
    )


def to_png(diagram: Diagram) -> bytes:
    """The picture at twice the size, in which screens show it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # A unit is 1/96 inch, as in SVG; 2**16 pixels are the most that matplotlib draws.
    dpi = min(192.0, 96 * 2.0**15 / max(diagram.width, diagram.height))
    figure = Figure(figsize=(diagram.width / 96, diagram.height / 96), dpi=dpi)
    FigureCanvasAgg(figure)
    figure.patch.set_facecolor(BACKGROUND)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0, diagram.width), ylim=(diagram.height, 0))
    axes.set_axis_off()
    for order, shape in enumerate(diagram.shapes):
        _plot_shape(axes, shape, order)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _svg_shape(shape: Box | Curve | Arrow) -> str:
    if isinstance(shape, Curve):
        begin, *rest = (f"{_number(x)},{_number(y)}" for x, y in _bezier(shape))
        path = f"M{begin} C{' '.join(rest)}"
        stroke = f'stroke="{_LINE}" stroke-width="1.3" stroke-linecap="round"'
        return f'<path d="{path}" fill="none" {stroke}/>'
    if isinstance(shape, Arrow):
        path = " L".join(f"{_number(x)},{_number(y)}" for x, y in _head(shape))
        return f'<path d="M{path} Z" fill="{_LINE}"/>'
    parts = [
        f'<rect x="{_number(x)}" y="{_number(y)}" width="{_number(width)}" '
        f'height="{_number(height)}" rx="{_number(radius)}" fill="{shape.fill}"'
        + (f' stroke="{shape.stroke}" stroke-width="1.3"/>' if shape.stroke else "/>")
        for x, y, width, height, radius in _outlines(shape)
    ]
    for text, size, is_bold, x, y in _texts(shape):
        weight = ' font-weight="bold"' if is_bold else ""
        parts.append(
            f'<text x="{_number(x)}" y="{_number(y)}" font-size="{_number(size)}"{weight}>'
            f"{escape(printable(text))}</text>"
        )
    return "<g>" + "".join(parts) + "</g>"


def _plot_shape(axes: Any, shape: Box | Curve | Arrow, order: int) -> None:
    from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon
    from matplotlib.path import Path

    stroke = {"linewidth": 1.3 * 0.75, "zorder": order}
    if isinstance(shape, Curve):
        codes = [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
        path = Path(_bezier(shape), codes)
        axes.add_patch(PathPatch(path, fill=False, edgecolor=_LINE, capstyle="round", **stroke))
        return
    if isinstance(shape, Arrow):
        axes.add_patch(Polygon(_head(shape), facecolor=_LINE, edgecolor="none", zorder=order))
        return
    for x, y, width, height, radius in _outlines(shape):
        style = f"round,pad=0,rounding_size={radius}"
        edge = shape.stroke or "none"
        axes.add_patch(
            FancyBboxPatch(
                (x, y), width, height, style, facecolor=shape.fill, edgecolor=edge, **stroke
            )
        )
    for text, size, is_bold, x, y in _texts(shape):
        axes.text(
            x, y, printable(text), family="DejaVu Sans Mono", fontsize=0.75 * size, color=_INK,
            weight="bold" if is_bold else "normal", ha="center", va="baseline", zorder=order,
            parse_math=False,
        )  # fmt: skip


def _outlines(box: Box) -> list[tuple[float, float, float, float, float]]:
    """(x, y, width, height, radius) of its rectangles."""
    outlines = [(box.x, box.y, box.width, box.height, box.radius)]
    if box.is_double:
        x, y, width, height, radius = outlines[0]
        outlines.append((x + 3, y + 3, width - 6, height - 6, max(radius - 2, 0.0)))
    return outlines


def _texts(box: Box) -> list[tuple[str, float, bool, float, float]]:
    """(text, size, is bold, x of the middle, y of the baseline) of its texts."""
    spacing = 1.3
    y = box.y + (box.height - sum(spacing * size for _, size, _ in box.texts)) / 2
    placed = []
    for text, size, is_bold in box.texts:
        # Digits and capitals reach 0.73 of the size above the baseline.
        placed.append((text, size, is_bold, box.x + box.width / 2, y + (spacing + 0.73) / 2 * size))
        y += spacing * size
    return placed


def _bezier(curve: Curve) -> list[tuple[float, float]]:
    x0, y0, x1, y1 = curve
    middle = (y0 + y1) / 2
    return [(x0, y0), (x0, middle), (x1, middle), (x1, y1)]


def _head(arrow: Arrow) -> list[tuple[float, float]]:
    return [(arrow.x - 4, arrow.y - 8), (arrow.x + 4, arrow.y - 8), (arrow.x, arrow.y)]


def _cells(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
