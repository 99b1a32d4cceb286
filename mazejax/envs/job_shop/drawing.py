"""Gantt charts of job-shop schedules.

A row for every machine, a bar for every operation in its job's colour, and a mark where
no schedule can end earlier. Plain host arrays in, a `Scene` in time units out.
"""

import colorsys

import numpy as np

from mazejax.types import Scene, Shape

_Color = tuple[int, int, int]

_BACKGROUND = (252, 252, 250)
_INK = (45, 48, 54)
_GREY = (128, 133, 142)
_FAINT = (238, 240, 242)
_BOUND = (204, 77, 77)
_GOLDEN_RATIO = 0.618034  # hues that far apart never come close together


def draw_schedule(
    machines: np.ndarray, durations: np.ndarray, starts: np.ndarray, lower_bound: int
) -> Scene:
    """The schedule as far as it is built; all arrays [J, M], starts -1 where not dispatched.

    Times run to the right, and the width fits the makespan, at least 1.25 lower bounds.
    """
    num_jobs, num_machines = machines.shape
    ends = np.where(starts >= 0, starts + durations, 0)
    makespan = int(ends.max())
    width = max(1.25 * lower_bound, makespan)
    row = 0.5 * width / num_machines  # twice as wide as high
    top = num_machines * row
    shapes = [*_rows(num_machines, row, width), *_axis(width)]
    shapes.append(_line(_BOUND, 0.004 * width, (lower_bound, 0.0), (lower_bound, top)))
    for job, operation in np.argwhere(starts >= 0).tolist():
        left, right = int(starts[job, operation]), int(ends[job, operation])
        bottom = (num_machines - 1 - int(machines[job, operation])) * row
        shapes += _bar(left, right, bottom, row, job, num_jobs)
    shapes.append(_line(_INK, 0.004 * width, (makespan, 0.0), (makespan, top)))
    margin = 0.05 * width
    bounds = (-1.6 * margin, -2.0 * margin, width + margin, top + 2.0 * margin)
    dispatched = int((starts >= 0).sum())
    title = f"makespan {makespan}, lower bound {lower_bound}, operations {dispatched}/{starts.size}"
    return Scene(bounds, tuple(shapes), _BACKGROUND, title)


def job_color(job: int, num_jobs: int) -> _Color:
    """A colour for a job, unlike its neighbours'."""
    hue = (0.58 + job * _GOLDEN_RATIO) % 1.0
    red, green, blue = colorsys.hls_to_rgb(hue, 0.60 if job % 2 else 0.72, 0.55)
    return round(255 * red), round(255 * green), round(255 * blue)


def _rows(num_machines: int, row: float, width: float) -> list[Shape]:
    """A stripe and a name for every machine, the first on top."""
    shapes = []
    for machine in range(num_machines):
        bottom = (num_machines - 1 - machine) * row
        shapes.append(_box(_FAINT, 0.0, width, bottom + 0.06 * row, bottom + 0.94 * row))
        anchor = (-0.04 * width, bottom + 0.5 * row)
        shapes.append(_text(_GREY, f"M{machine}", anchor, min(0.5 * row, 0.03 * width)))
    return shapes


def _axis(width: float) -> list[Shape]:
    """Times below the chart, at round distances."""
    tick = 10.0 ** np.floor(np.log10(width))
    tick = next(float(t) for t in (tick, tick / 2, tick / 5, tick / 10) if width / t >= 5)
    size = 0.025 * width
    shapes = [_line(_GREY, 0.002 * width, (0.0, 0.0), (width, 0.0))]
    for index in range(int(width / tick) + 1):
        time = index * tick
        shapes.append(_line(_GREY, 0.002 * width, (time, 0.0), (time, -0.4 * size)))
        shapes.append(_text(_GREY, f"{time:g}", (time, -1.4 * size), size))
    return shapes


def _bar(left: int, right: int, bottom: float, row: float, job: int, num_jobs: int) -> list[Shape]:
    """An operation with the number of its job."""
    low, high = bottom + 0.1 * row, bottom + 0.9 * row
    size = min(0.45 * row, 0.9 * (right - left))
    middle = (0.5 * (left + right), 0.5 * (low + high))
    return [
        _box(job_color(job, num_jobs), left, right, low, high),
        _line(_BACKGROUND, 0.0, (right, low), (right, high)),
        _text(_INK, str(job), middle, size),
    ]


def _box(color: _Color, left: float, right: float, low: float, high: float) -> Shape:
    return Shape("polygon", ((left, low), (right, low), (right, high), (left, high)), color)


def _line(color: _Color, width: float, *points: tuple[float, float]) -> Shape:
    return Shape("line", points, color, width)


def _text(color: _Color, text: str, anchor: tuple[float, float], size: float) -> Shape:
    return Shape("text", (anchor,), color, size, text)
