"""The shortest way is as long as a breadth-first search says, and its return is known."""

import collections

import jax
import numpy as np

from mazejax import random
from mazejax.base import jit
from mazejax.envs import cells, episode
from mazejax.envs.grid_maze.make import make_grid_maze
from mazejax.envs.grid_maze.policies import ShortestPathPolicy, distance_to_goal

ENV = make_grid_maze(size=9)
NUM = 64


def search(walls, start, goal):
    """Steps of a shortest way by breadth-first search."""
    distance, queue = {start: 0}, collections.deque([start])
    while goal not in distance:
        row, column = queue.popleft()
        for near in ((row - 1, column), (row, column + 1), (row + 1, column), (row, column - 1)):
            if not walls[near] and near not in distance:
                distance[near] = distance[row, column] + 1
                queue.append(near)
    return distance[goal]


def test_the_policy_takes_the_shortest_way_and_earns_the_best_return():
    def one(key):
        played = episode.play(ENV, ShortestPathPolicy(), key, 40)
        first = jax.tree.map(lambda leaf: leaf[0], played.substeps[0].state.core)
        return first, distance_to_goal(first), played

    keys = jax.random.split(random.key(0), NUM)
    first, distance, played = jax.device_get(jit(jax.vmap(one))(keys))
    walls = np.asarray(jax.vmap(lambda w: cells.unpack(w, 9))(first.walls))
    wanted = [
        search(walls[i], *((int(c.row[i]), int(c.column[i])) for c in (first.agent, first.goal)))
        for i in range(NUM)
    ]
    np.testing.assert_array_equal(distance, wanted)
    np.testing.assert_array_equal(played.length, wanted)
    assert played.terminated.all()
    returns = np.sum(played.substeps[0].reward, axis=1)
    np.testing.assert_allclose(returns, 1 - 0.01 * np.array(wanted), atol=1e-6)
    assert len(set(wanted)) > 10
    assert distance.dtype == np.int32
