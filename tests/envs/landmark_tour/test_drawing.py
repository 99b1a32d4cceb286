"""The tour is drawn with row 0 at the top, and a line leads to the subgoal."""

import numpy as np

from mazejax.envs.landmark_tour.drawing import draw_landmark_tour

YELLOW, PALE, RED = (222, 184, 20), (236, 226, 190), (204, 77, 77)


def squares(scene, color):
    return [
        tuple(np.mean(shape.points, axis=0).round(6))
        for shape in scene.shapes
        if shape.kind == "polygon" and shape.color == color
    ]


def test_landmarks_are_left_visited_or_the_subgoal():
    scene = draw_landmark_tour(4, (3, 0), [(0, 0), (0, 3), (2, 1)], [False, True, False], 2)
    assert squares(scene, YELLOW) == [(0.5, 3.5), (1.5, 1.5)]
    assert squares(scene, PALE) == [(3.5, 3.5)]
    assert squares(scene, RED) == [(1.5, 1.5)]
    (way,) = [s for s in scene.shapes if s.kind == "line" and s.color == RED]
    assert way.points == ((0.5, 0.5), (1.5, 1.5))


def test_no_line_leads_to_a_subgoal_that_is_reached():
    scene = draw_landmark_tour(4, (0, 3), [(0, 0), (0, 3)], [False, True], 1)
    assert not [s for s in scene.shapes if s.color == RED]
