"""A maze is drawn with row 0 at the top, walls side by side as one rectangle."""

import numpy as np

from mazejax.envs.grid_maze.drawing import draw_grid_maze


def test_walls_side_by_side_are_one_rectangle():
    walls = np.array([[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]], bool)
    scene = draw_grid_maze(walls, (1, 1), (1, 2))
    *rectangles, goal, agent = scene.shapes
    assert scene.bounds == (0, 0, 4, 3)
    assert [one.points[0] + one.points[2] for one in rectangles] == [
        (0, 2, 4, 3),
        (0, 1, 1, 2),
        (3, 1, 4, 2),
        (0, 0, 4, 1),
    ]
    assert agent.kind == "circle" and agent.points == ((1.5, 1.5),)
    np.testing.assert_allclose(np.mean(goal.points, axis=0), (2.5, 1.5))
