"""The classic environments look as their states say."""

import math

import numpy as np
import pytest

from mazejax.envs.classic.drawing import (
    draw_acrobot,
    draw_cartpole,
    draw_mountain_car,
    draw_pendulum,
    draw_t_maze,
)
from mazejax.rendering.rasterizer import rasterize

ROD, LINK, POLE = (204, 77, 77), (0, 178, 184), (202, 152, 101)
INK, GREY, FLAG = (45, 48, 54), (128, 133, 142), (222, 184, 20)
AGENT = (129, 132, 203)
CAR = (-1.2, 0.6)


def centre(scene, color, width=300):
    """Mean world point of the pixels of one colour."""
    picture = rasterize(scene, width=width)
    rows, columns = np.nonzero((picture == color).all(axis=-1))
    left, _, right, top = scene.bounds
    scale = (right - left) / width
    return left + (columns.mean() + 0.5) * scale, top - (rows.mean() + 0.5) * scale


def joints(scene, color):
    """Ends of the lines of one colour."""
    return [shape.points for shape in scene.shapes if shape.kind == "line" and shape.color == color]


@pytest.mark.parametrize("x", [-1.5, 0.0, 2.0])
@pytest.mark.parametrize("theta", [-0.2, 0.0, 0.2])
def test_the_pole_stands_on_the_cart_and_leans_right_for_positive_angles(x, theta):
    scene = draw_cartpole(x, theta)
    ((foot, tip),) = joints(scene, POLE)
    assert math.atan2(tip[0] - foot[0], tip[1] - foot[1]) == pytest.approx(theta)
    assert centre(scene, POLE)[0] == pytest.approx(x + 0.5 * math.sin(theta), abs=0.03)


def test_the_cart_is_visible_at_its_limit_however_wide_the_track_is():
    for threshold in (1.0, 2.4, 5.0):
        left, bottom, right, top = draw_cartpole(0.0, 0.0, threshold).bounds
        assert left < -threshold - 0.2 < threshold + 0.2 < right
        assert bottom < -0.3 and top > 1.06
    assert rasterize(draw_cartpole(0.0, 0.0)).shape == (400, 600, 3)  # Gymnasium's


@pytest.mark.parametrize("theta", [0.0, 0.5, math.pi / 2, 3.0, -2.0])
def test_the_pendulum_is_up_at_zero_and_turns_counter_clockwise(theta):
    scene = draw_pendulum(theta, 0.0)
    x, y = centre(scene, ROD)
    assert math.hypot(x, y) == pytest.approx(0.5, abs=0.03)
    assert x / 0.5 == pytest.approx(-math.sin(theta), abs=0.06)
    assert y / 0.5 == pytest.approx(math.cos(theta), abs=0.06)


def test_the_torque_arrow_turns_with_the_torque_and_grows_with_it():
    def head(torque):
        return centre(draw_pendulum(math.pi, torque), GREY)[0]

    assert head(2.0) < head(0.5) < 0.0 < head(-0.5) < head(-2.0)
    assert head(1.0) == pytest.approx(-head(-1.0), abs=0.02)
    assert draw_pendulum(0.0, 9.0) == draw_pendulum(0.0, 2.0)
    assert draw_pendulum(0.0, 4.0, max_torque=8.0) == draw_pendulum(0.0, 1.0)
    assert len(draw_pendulum(0.0, 0.0).shapes) == len(draw_pendulum(0.0, 1.0).shapes) - 2


@pytest.mark.parametrize("position", [-1.2, -0.5236, 0.0, 0.5])
def test_the_wheels_of_the_car_touch_the_hill_from_above(position):
    scene = draw_mountain_car(position, 0.5, *CAR)
    wheels = [shape for shape in scene.shapes if shape.kind == "circle"]
    assert len(wheels) == 2
    for wheel in wheels:
        ((x, y),) = wheel.points
        assert abs(x - position) < 0.06
        slope = 1.35 * math.cos(3 * x)
        above = (y - math.sin(3 * x) * 0.45 - 0.55) / math.hypot(1.0, slope)
        assert above == pytest.approx(wheel.width, abs=0.006)


def test_the_flag_marks_the_goal_and_the_hill_fills_the_ground():
    for goal in (0.45, 0.5):
        scene = draw_mountain_car(-0.5, goal, *CAR)
        x, y = centre(scene, FLAG)
        assert goal < x < goal + 0.06 and y > math.sin(3 * goal) * 0.45 + 0.55 + 0.1
    picture = rasterize(scene)
    assert (picture[-1] == picture[-1, 0]).all() and (picture[-1] != picture[0]).any()


def test_the_acrobot_hangs_at_zero_and_adds_its_angles():
    hanging = joints(draw_acrobot(0.0, 0.0), LINK)
    np.testing.assert_allclose(hanging, [[(0, 0), (0, -1)], [(0, -1), (0, -2)]], atol=1e-12)
    bent = joints(draw_acrobot(math.pi / 2, math.pi / 2), LINK)
    np.testing.assert_allclose(bent, [[(0, 0), (1, 0)], [(1, 0), (1, 1)]], atol=1e-12)


def test_the_acrobots_line_is_its_goal():
    ((left, right),) = joints(draw_acrobot(0.0, 0.0), INK)
    assert left[1] == right[1] == 1.0  # -cos(theta1) - cos(theta1 + theta2) > 1


@pytest.mark.parametrize("cue", [1, -1])
def test_the_agent_of_the_t_maze_is_where_its_state_says_and_so_is_the_prize(cue):
    for position, side in ((1, 0), (4, 0), (4, -cue)):
        scene = draw_t_maze(position, side, cue, length=4)
        assert centre(scene, AGENT) == pytest.approx((position, side), abs=0.02)
        (prize,) = [shape for shape in scene.shapes if shape.color == FLAG and shape.width]
        assert prize.points == ((4, cue),)
    found = draw_t_maze(4, cue, cue, length=4)
    assert found.shapes.index(prize) > [shape.color for shape in found.shapes].index(AGENT)


def test_an_arrow_in_the_first_cell_of_the_t_maze_points_to_the_prize():
    for cue in (1, -1):
        scene = draw_t_maze(2, 0, cue, length=4)
        (arrow,) = [s for s in scene.shapes if s.kind == "polygon" and s.color == FLAG]
        height = {x: y for x, y in arrow.points}
        assert sorted(height) == [-0.28, 0.0, 0.28]
        assert (height[0.0] - height[0.28]) * cue > 0
    for length in (1, 10):
        left, bottom, right, top = draw_t_maze(0, 0, 1, length).bounds
        assert left < -0.5 and right > length + 0.5 and bottom < -1.5 and top > 1.5


def test_drawings_are_equal_by_value_and_hashable():
    assert draw_cartpole(0.1, 0.2) == draw_cartpole(0.1, 0.2)
    assert hash(draw_acrobot(0.1, 0.2)) == hash(draw_acrobot(0.1, 0.2))
