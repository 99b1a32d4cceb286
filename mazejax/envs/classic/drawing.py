"""What the classic control environments look like.

Each function takes plain host floats and returns a `Scene` in the units of its problem, in
the geometry and colours that users of Gymnasium know; nothing here calls JAX. Pixels are
made of scenes in `mazejax.rendering`.
"""

import math

from mazejax.types import Scene, Shape

_Point = tuple[float, float]
_Color = tuple[int, int, int]

_BACKGROUND = (252, 252, 250)
_INK = (45, 48, 54)
_GREY = (128, 133, 142)
_FAINT = (224, 227, 231)


def draw_cartpole(x: float, theta: float, x_threshold: float = 2.4) -> Scene:
    """The cart on its track with the pole; theta in radians from upright, clockwise.

    Marks below the track show where an episode ends, at +-x_threshold.
    """
    half_width = max(1.125 * x_threshold, 1.5)
    track = -0.19
    axle = (x, 0.06)
    pole = (_polar(axle, theta, -0.05), _polar(axle, theta, 1.0))
    marks = [
        _line(_INK, 0.025, (end, track), (end, track - 0.1)) for end in (-x_threshold, x_threshold)
    ]
    wheels = [_disc(_GREY, 0.055, (x + side, -0.13)) for side in (-0.11, 0.11)]
    shapes = (
        _line(_INK, 0.015, (-half_width, track), (half_width, track)),
        *marks,
        *wheels,
        _polygon(_INK, *_box((x, 0.0), 0.4, 0.2, 0.0)),
        _line((202, 152, 101), 0.08, *pole),
        _disc((129, 132, 203), 0.03, axle),
    )
    bounds = (-half_width, -0.9, half_width, -0.9 + 4.0 / 3.0 * half_width)
    return Scene(bounds=bounds, shapes=shapes, background=_BACKGROUND)


def draw_pendulum(theta: float, torque: float, max_torque: float = 2.0) -> Scene:
    """The rod on its axle; theta in radians from upright, counter-clockwise.

    An arc around the axle shows the torque: it turns the way the torque does, and spans
    a third of a circle when the torque is largest.
    """
    tip = _polar((0.0, 0.0), -theta, 1.0)
    rod = (204, 77, 77)
    shapes = (
        *_torque_arrow(torque / max_torque),
        _disc(rod, 0.1, (0.0, 0.0)),
        _line(rod, 0.2, (0.0, 0.0), tip),
        _disc(rod, 0.1, tip),
        _disc(_INK, 0.05, (0.0, 0.0)),
    )
    return Scene(bounds=(-1.5, -1.5, 1.5, 1.5), shapes=shapes, background=_BACKGROUND)


def draw_mountain_car(
    position: float, goal_position: float, min_position: float, max_position: float
) -> Scene:
    """The car on the hill sin(3 x) 0.45 + 0.55, and the flag at the goal."""
    margin = 0.04 * (max_position - min_position)
    left, right = min_position - margin, max_position + margin
    ridge = [(x, _hill(x)) for x in (left + i * (right - left) / 120 for i in range(121))]
    pole_foot, pole_top = _hill(goal_position), _hill(goal_position) + 0.18
    cloth = [(goal_position + dx, pole_top + dy) for dx, dy in ((0, 0), (0.09, -0.03), (0, -0.06))]
    wall = _hill(min_position)
    shapes = (
        _polygon(_FAINT, (left, 0.0), *ridge, (right, 0.0)),
        _line(_INK, 0.008, *ridge),
        _line(_GREY, 0.008, (min_position, wall), (min_position, wall + 0.1)),
        _line(_INK, 0.01, (goal_position, pole_foot), (goal_position, pole_top)),
        _polygon((222, 184, 20), *cloth),
        *_car(position),
    )
    bounds = (left, 0.0, right, 2.0 / 3.0 * (right - left))
    return Scene(bounds=bounds, shapes=shapes, background=_BACKGROUND)


def draw_acrobot(theta1: float, theta2: float) -> Scene:
    """Two links and the line that the tip must reach, one link above the axle.

    theta1 in radians from hanging down, counter-clockwise; theta2 relative to the first link.
    """
    axle = (0.0, 0.0)
    elbow = _polar(axle, math.pi - theta1, 1.0)
    tip = _polar(elbow, math.pi - theta1 - theta2, 1.0)
    link, joint = (0, 178, 184), (222, 184, 20)
    shapes = (
        _line(_INK, 0.02, (-2.2, 1.0), (2.2, 1.0)),
        _line(link, 0.2, axle, elbow),
        _line(link, 0.2, elbow, tip),
        _disc(link, 0.1, tip),
        _disc(joint, 0.1, axle),
        _disc(joint, 0.1, elbow),
    )
    return Scene(bounds=(-2.2, -2.2, 2.2, 2.2), shapes=shapes, background=_BACKGROUND)


def draw_t_maze(position: int, side: int, cue: int, length: int) -> Scene:
    """A corridor of `length` cells and the two arms at its end, from above, y up.

    The agent is `position` cells from the left end, or in the arm of its side: 1 is up, -1
    down. In the first cell an arrow shows the cue, in the arm that it means lies the prize.
    """
    left, inner, right = -0.5, length - 0.5, length + 0.5
    upper = [(left, 0.5), (inner, 0.5), (inner, 1.5), (right, 1.5)]
    walls = [*upper, *((x, -y) for x, y in reversed(upper))]
    prize = (222, 184, 20)
    arrow = [(-0.28, -0.12 * cue), (0.28, -0.12 * cue), (0.0, 0.34 * cue)]
    shapes = (
        _polygon(_FAINT, *walls),
        *(_line(_BACKGROUND, 0.04, (x + 0.5, -0.5), (x + 0.5, 0.5)) for x in range(length)),
        *(_line(_BACKGROUND, 0.04, (inner, y), (right, y)) for y in (-0.5, 0.5)),
        _line(_INK, 0.08, (left, 0.0), *walls, (left, 0.0)),  # not from a corner: it would be open
        _disc((129, 132, 203), 0.36, (position, side)),
        _disc(prize, 0.2, (length, cue)),
        _polygon(prize, *arrow),
    )
    bounds = (-1.0, -1.9, length + 1.0, 1.9)
    return Scene(bounds=bounds, shapes=shapes, background=_BACKGROUND)


def _torque_arrow(share: float) -> tuple[Shape, ...]:
    """Arc from the top of the circle around the axle, share of the largest torque long."""
    sweep = -max(-1.0, min(1.0, share)) * 2.0 * math.pi / 3.0
    if abs(sweep) < 0.02:
        return ()
    center, radius = (0.0, 0.0), 1.3
    head = min(0.22, 0.75 * abs(sweep)) * math.copysign(1.0, sweep)
    arc = [_polar(center, (sweep - 0.5 * head) * i / 32, radius) for i in range(33)]
    tip = _polar(center, sweep, radius)
    base = [_polar(center, sweep - head, radius + side * 0.5 * abs(head)) for side in (-1, 1)]
    return _line(_GREY, 0.03, *arc), _polygon(_GREY, tip, *base)


def _car(position: float) -> tuple[Shape, ...]:
    """Chassis and cabin upon two wheels that touch the hill, tilted as the hill is."""
    slope = math.atan(1.35 * math.cos(3.0 * position))  # the derivative of _hill

    def place(along: float, above: float) -> _Point:
        ground = (position, _hill(position))
        forward = _polar(ground, 0.5 * math.pi - slope, along)
        return _polar(forward, -slope, above)

    cabin = ((-0.052, 0.06), (0.045, 0.06), (0.022, 0.096), (-0.04, 0.096))
    return (
        _polygon(_INK, *_box(place(0.0, 0.045), 0.15, 0.04, slope)),
        _polygon(_INK, *(place(along, above) for along, above in cabin)),
        *(_disc(_GREY, 0.022, place(side, 0.022)) for side in (-0.045, 0.045)),
    )


def _hill(x: float) -> float:
    return math.sin(3.0 * x) * 0.45 + 0.55


def _polar(origin: _Point, angle: float, radius: float) -> _Point:
    """Point at a distance, in the direction that is angle clockwise from upright."""
    return origin[0] + radius * math.sin(angle), origin[1] + radius * math.cos(angle)


def _box(center: _Point, width: float, height: float, tilt: float) -> list[_Point]:
    """Corners of a rectangle turned counter-clockwise by tilt."""
    cos, sin = math.cos(tilt), math.sin(tilt)
    halves = [(0.5 * w, 0.5 * h) for w, h in ((-width, -height), (width, -height))]
    corners = [*halves, *((-w, -h) for w, h in halves)]
    return [(center[0] + w * cos - h * sin, center[1] + w * sin + h * cos) for w, h in corners]


def _line(color: _Color, width: float, *points: _Point) -> Shape:
    return Shape(kind="line", points=points, color=color, width=width)


def _disc(color: _Color, radius: float, center: _Point) -> Shape:
    return Shape(kind="circle", points=(center,), color=color, width=radius)


def _polygon(color: _Color, *corners: _Point) -> Shape:
    return Shape(kind="polygon", points=corners, color=color)
