"""Pixels from scenes.

Every shape becomes a mask of sample points on a canvas three times too large, is painted in
drawing order, and the canvas is averaged down: edges are smooth, shapes that touch leave no
seam, and a point belongs to exactly one of two neighbours. What to draw is the environment's
business (`env.draw`), what becomes of the pixels that of `frames`.
"""

import functools
import itertools
import math
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from mazejax.errors import ConfigError, EnvError, did_you_mean
from mazejax.types import Scene, Shape

OVERSAMPLING = 3
"""Sample points per pixel and axis: 9 tell smooth edges, and 16 look no better."""

SMALLEST_TEXT = 10
"""Pixels of the smallest text drawn: the bundled font cannot be read below."""

Color = tuple[int, int, int]
"""Red, green and blue, each from 0 to 255."""

# Coordinates beyond are clipped, so that they fit the integers of pixel indices.
_FAR = 2.0**24


class _Canvas(NamedTuple):
    """Sample points of the visible world, and how the world maps to them."""

    samples: np.ndarray  # [rows, columns, 3] uint8
    scale: float  # samples per world unit
    left: float
    top: float

    def place(self, points: Any) -> np.ndarray:
        """World points as (column, row) in samples, [P, 2]; row 0 is the upper edge."""
        placed = (np.asarray(points, np.float64) - (self.left, self.top)) * (1.0, -1.0) * self.scale
        return np.clip(placed, -_FAR, _FAR)


def rasterize(scene: Scene, width: int = 600, height: int | None = None) -> np.ndarray:
    """The picture of a scene, [H, W, 3] uint8, the same bytes on every call.

    Without a height it follows from the width and the aspect ratio of the bounds. With one
    of another ratio the world keeps its proportions, is centred and framed by background.
    Lines are never thinner than a pixel; text and title never smaller than can be read.
    """
    from PIL import Image

    left, bottom, right, top = _checked_bounds(scene)
    aspect = (top - bottom) / (right - left)
    height = max(1, round(width * aspect)) if height is None else height
    if width < 1 or height < 1:
        raise ConfigError(f"rasterize: got width={width}, height={height}, expected 1 or more")
    scale = min(width / (right - left), height / (top - bottom))
    inner = (_fit((right - left) * scale, width), _fit((top - bottom) * scale, height))

    background = tuple(_checked_color(scene.background, "scene.background"))
    size = (inner[0] * OVERSAMPLING, inner[1] * OVERSAMPLING)
    samples = np.array(Image.new("RGB", size, background))
    canvas = _Canvas(samples, scale * OVERSAMPLING, left, top)
    for index, shape in enumerate(scene.shapes):
        _draw(canvas, shape, f"scene.shapes[{index}]")
    if scene.title:
        _draw_title(canvas, scene)

    picture = Image.fromarray(samples).reduce(OVERSAMPLING)
    if inner != (width, height):
        framed = Image.new("RGB", (width, height), background)
        framed.paste(picture, ((width - inner[0]) // 2, (height - inner[1]) // 2))
        picture = framed
    return np.array(picture)


def _fit(length: float, limit: int) -> int:
    return min(limit, max(1, round(length)))


def _draw(canvas: _Canvas, shape: Shape, where: str) -> None:
    draw, fewest_points = _DRAWERS.get(shape.kind, (None, 0))
    if draw is None:
        raise EnvError(f"{where}.kind: got {shape.kind!r}; {did_you_mean(shape.kind, _DRAWERS)}")
    points = np.asarray(shape.points, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < fewest_points:
        raise EnvError(
            f"{where}.points: got shape {points.shape}, expected ({fewest_points} or more, 2) "
            f"for a {shape.kind}; points are (x, y) pairs"
        )
    if not (np.isfinite(points).all() and math.isfinite(shape.width) and shape.width >= 0):
        raise EnvError(
            f"{where}: a {shape.kind} got points {points.tolist()[:4]}, width {shape.width}, "
            f"expected finite numbers and a width of at least 0; did the state diverge?"
        )
    _checked_color(shape.color, f"{where}.color")
    draw(canvas, shape, canvas.place(points))


def _draw_polygon(canvas: _Canvas, shape: Shape, corners: np.ndarray) -> None:
    _fill(canvas, corners, shape.color)


def _draw_line(canvas: _Canvas, shape: Shape, points: np.ndarray) -> None:
    width = max(shape.width * canvas.scale, OVERSAMPLING)
    for start, end in itertools.pairwise(points):
        length = math.dist(start, end)
        if length > 0.0:
            across = (end - start)[::-1] * (1.0, -1.0) * (0.5 * width / length)
            _fill(
                canvas,
                np.stack([start + across, end + across, end - across, start - across]),
                shape.color,
            )
    for joint in points[1:-1]:
        _fill_disc(canvas, joint, 0.5 * width, shape.color)


def _draw_circle(canvas: _Canvas, shape: Shape, points: np.ndarray) -> None:
    for center in points:
        _fill_disc(canvas, center, shape.width * canvas.scale, shape.color)


def _draw_text(canvas: _Canvas, shape: Shape, points: np.ndarray) -> None:
    for anchor in points:
        _write(canvas, shape.text, anchor, shape.width * canvas.scale, shape.color)


_DRAWERS: dict[str, tuple[Callable[[_Canvas, Shape, np.ndarray], None], int]] = {
    "polygon": (_draw_polygon, 3),
    "line": (_draw_line, 2),
    "circle": (_draw_circle, 1),
    "text": (_draw_text, 1),
}
"""How each kind is drawn, and the fewest points that it needs."""


def _draw_title(canvas: _Canvas, scene: Scene) -> None:
    rows, columns, _ = canvas.samples.shape
    size = max(rows / 20, SMALLEST_TEXT * OVERSAMPLING)
    font = _font(round(size), scene.title.isascii())
    length = max(font.getlength(line) for line in scene.title.split("\n"))
    size *= min(1.0, 0.96 * columns / length) if length else 1.0
    dark = np.dot(scene.background, (0.299, 0.587, 0.114)) < 128  # luma of ITU-R BT.601
    color = (255, 255, 255) if dark else (0, 0, 0)
    _write(canvas, scene.title, np.array([0.5 * columns, 0.75 * size]), size, color)


def _fill(canvas: _Canvas, corners: np.ndarray, color: Color) -> None:
    """Paint the sample points within a polygon, by the even-odd rule.

    A scan over rows toggles inside and outside at every edge that it crosses. Half-open:
    of two polygons that share an edge exactly one gets a point that lies on it.
    """
    rows, columns = _window(canvas, corners.min(axis=0), corners.max(axis=0))
    y = np.arange(rows.start, rows.stop) + 0.5
    start, end = corners, np.roll(corners, -1, axis=0)  # [E, 2] each
    edge, row = np.nonzero((start[:, 1:] <= y) != (end[:, 1:] <= y))
    (start_x, start_y), (end_x, end_y) = start[edge].T, end[edge].T
    crossing = start_x + (y[row] - start_y) * (end_x - start_x) / (end_y - start_y)
    column = np.clip(np.ceil(crossing - 0.5), columns.start, columns.stop).astype(int)
    toggles = np.zeros((len(y), columns.stop - columns.start + 1), np.uint8)
    np.bitwise_xor.at(toggles, (row, column - columns.start), 1)
    inside = np.bitwise_xor.accumulate(toggles, axis=1)[:, :-1]
    canvas.samples[rows, columns][inside.view(bool)] = color


def _fill_disc(canvas: _Canvas, center: np.ndarray, radius: float, color: Color) -> None:
    rows, columns = _window(canvas, center - radius, center + radius)
    x = np.arange(columns.start, columns.stop) + 0.5 - center[0]
    y = np.arange(rows.start, rows.stop)[:, None] + 0.5 - center[1]
    canvas.samples[rows, columns][x * x + y * y <= radius * radius] = color


def _write(canvas: _Canvas, text: str, center: np.ndarray, size: float, color: Color) -> None:
    from PIL import Image, ImageDraw

    # A text taller than the canvas shows nothing, but would take gigabytes to draw.
    size = min(max(size, SMALLEST_TEXT * OVERSAMPLING), max(canvas.samples.shape))
    style = {"font": _font(round(size), text.isascii()), "anchor": "mm", "align": "center"}
    box = ImageDraw.Draw(Image.new("L", (1, 1))).textbbox((0, 0), text, **style)
    left, upper = math.floor(box[0]), math.floor(box[1])
    letters = Image.new("L", (math.ceil(box[2]) - left, math.ceil(box[3]) - upper))
    ImageDraw.Draw(letters).text((-left, -upper), text, fill=255, **style)

    column, row = np.round(center).astype(int) + (left, upper)
    rows, columns = _window(canvas, (column, row), (column + letters.width, row + letters.height))
    inside = np.asarray(letters)[
        rows.start - row : rows.stop - row, columns.start - column : columns.stop - column
    ]
    canvas.samples[rows, columns][inside > 127] = color


@functools.lru_cache(maxsize=32)
def _font(size: int, ascii_only: bool) -> Any:
    from PIL import ImageFont

    if ascii_only:
        return ImageFont.load_default(size)
    import matplotlib

    # Pillow's bundled font has no accents, Greek or arrows; matplotlib's has.
    path = pathlib.Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


def _window(canvas: _Canvas, low: Any, high: Any) -> tuple[slice, slice]:
    """Rows and columns of the sample points, whose centres are at halves, within a box."""
    rows, columns, _ = canvas.samples.shape
    first = [math.ceil(value - 0.5) for value in low]
    last = [math.ceil(value - 0.5) for value in high]
    return (
        slice(min(max(first[1], 0), rows), min(max(last[1], 0), rows)),
        slice(min(max(first[0], 0), columns), min(max(last[0], 0), columns)),
    )


def _checked_bounds(scene: Scene) -> tuple[float, float, float, float]:
    left, bottom, right, top = scene.bounds
    if not (left < right and bottom < top and all(map(math.isfinite, scene.bounds))):
        raise EnvError(
            f"scene.bounds: got {scene.bounds}, expected finite (left, bottom, right, top) "
            f"with left < right and bottom < top"
        )
    return left, bottom, right, top


def _checked_color(color: Color, where: str) -> Color:
    if len(color) != 3 or not all(0 <= channel <= 255 for channel in color):
        raise EnvError(f"{where}: got {color}, expected (red, green, blue), each from 0 to 255")
    return color
