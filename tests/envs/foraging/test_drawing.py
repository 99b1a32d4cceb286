"""Pictures of foragers show everyone where they are."""

import jax
import numpy as np

from mazejax import random
from mazejax.envs.foraging.drawing import agent_color, draw_foraging
from mazejax.envs.foraging.make import make_foraging
from mazejax.rendering.rasterizer import rasterize

WALL, LEAF, GREY = (88, 94, 104), (92, 168, 84), (168, 173, 182)
STATE = {
    "row": np.array([0, 0, 3, 2, -1]),
    "column": np.array([1, 1, 3, 0, -1]),
    "energy": np.array([7, 3, 12, 0, 0]),
    "walls": np.array([0, 2, 0, 0]),
    "food": np.array([8, 0, 0, 0]),
}


def centers(scene, color):
    return [s.points[0] for s in scene.shapes if s.kind == "circle" and s.color == color]


def test_everything_is_drawn_in_its_cell_row_0_on_top():
    scene = draw_foraging(**STATE)
    assert centers(scene, LEAF) == [(3.5, 3.5)]
    (wall,) = (s for s in scene.shapes if s.kind == "polygon")
    assert wall.color == WALL and np.mean(wall.points, axis=0).tolist() == [1.5, 2.5]
    assert centers(scene, agent_color(2, 5)) == [(3.5, 0.5)]
    assert centers(scene, GREY) == [(0.5, 1.5)]  # dropped out
    assert not centers(scene, agent_color(4, 5))  # an empty place
    assert [s.text for s in scene.shapes if s.kind == "text"] == ["7", "3", "12"]
    assert scene.title == "food 1, agents 3/4"


def test_agents_on_one_cell_stand_side_by_side():
    scene = draw_foraging(**STATE)
    (one,), (other,) = (centers(scene, agent_color(agent, 5)) for agent in (0, 1))
    assert one != other
    np.testing.assert_allclose(np.mean([one, other], axis=0), [1.5, 3.5])
    assert len({agent_color(agent, 32) for agent in range(32)}) == 32


def test_states_become_pictures():
    env = make_foraging()
    picture = rasterize(env.draw(jax.jit(env.reset_state)(random.key(0))), width=240)
    assert picture.shape[1] == 240
    for agent in range(8):
        assert (picture == agent_color(agent, 8)).all(axis=-1).any()
