"""Mazes are spanning trees, of the distribution that the documentation states."""

import collections
import functools

import jax
import numpy as np
import pytest
import scipy.sparse.csgraph

from mazejax import random
from mazejax.base import jit
from mazejax.envs import cells
from mazejax.envs.grid_maze import levels


@functools.cache
def mazes(size, num):
    """Walls bool [num, size, size], starts and goals [num, 2]."""

    def one(key):
        walls = levels.random_maze(random.stream(key, "maze"), size)
        start, goal = levels.random_start_and_goal(random.stream(key, "cells"), walls)
        return cells.unpack(walls, size), (start.row, start.column), (goal.row, goal.column)

    keys = jax.random.split(random.key(size), num)
    walls, start, goal = jax.device_get(jit(jax.vmap(one))(keys))
    return walls, np.stack(start, axis=1), np.stack(goal, axis=1)


def num_reached(walls):
    """Open cells that a search from the first room reaches."""
    found, frontier = {(1, 1)}, [(1, 1)]
    while frontier:
        row, column = frontier.pop()
        for near in ((row - 1, column), (row, column + 1), (row + 1, column), (row, column - 1)):
            if not walls[near] and near not in found:
                found.add(near)
                frontier.append(near)
    return len(found)


@pytest.mark.parametrize(("size", "num"), [(5, 64), (11, 256), (13, 64), (31, 8)])
def test_every_maze_is_a_spanning_tree_of_its_rooms(size, num):
    rooms = ((size - 1) // 2) ** 2
    for walls in mazes(size, num)[0]:
        assert walls[[0, -1]].all() and walls[:, [0, -1]].all()
        assert not walls[1::2, 1::2].any(), "rooms are open"
        assert walls[::2, ::2].all(), "pillars are walls"
        # Connected with one opening less than rooms: a tree.
        assert (~walls).sum() == 2 * rooms - 1
        assert num_reached(walls) == 2 * rooms - 1


def test_mazes_of_different_keys_differ():
    walls = mazes(11, 256)[0]
    assert len({one.tobytes() for one in walls}) == len(walls)


def test_the_tree_is_the_lightest_of_the_drawn_weights():
    rooms = 4

    @jax.jit
    def drawn(seed):
        weights = levels._edge_weights(random.key(seed), rooms)
        return weights, levels._lightest_tree(weights)

    for seed in range(20):
        weights, tree = jax.device_get(drawn(seed))
        weights = weights.astype(np.float64)
        graph = np.zeros((rooms**2, rooms**2))
        for row, column in np.ndindex(rooms, rooms):
            here = row * rooms + column
            if column + 1 < rooms:
                graph[here, here + 1] = weights[0, row, column]
            if row + 1 < rooms:
                graph[here, here + rooms] = weights[1, row, column]
        lightest = scipy.sparse.csgraph.minimum_spanning_tree(graph).toarray()
        assert lightest.sum() == weights[tree].sum()
        assert tree.sum() == rooms**2 - 1


def test_all_trees_of_nine_rooms_occur_as_often_as_the_weights_make_them():
    num = 20_000
    got = collections.Counter(one.tobytes() for one in mazes(7, num)[0])
    share = np.array(sorted(got.values())) / num
    assert len(got) == 192
    # 0.00351 to 0.00685 by enumeration; a standard error is below 0.0006.
    assert 0.002 < share[0] < 0.0042 and 0.0061 < share[-1] < 0.009
    dead_ends = np.mean([_num_dead_ends(one) for one in mazes(7, num)[0][:4000]])
    assert dead_ends == pytest.approx(3.548, abs=0.06)


def _num_dead_ends(walls):
    openings = ~walls
    sides = (openings[:-2, 1:-1], openings[2:, 1:-1], openings[1:-1, :-2], openings[1:-1, 2:])
    return (sum(side.astype(int) for side in sides)[::2, ::2] == 1).sum()


def test_start_and_goal_are_distinct_open_cells_and_all_pairs_occur():
    walls, start, goal = mazes(5, 4000)
    env = np.arange(len(walls))
    assert not walls[env, start[:, 0], start[:, 1]].any()
    assert not walls[env, goal[:, 0], goal[:, 1]].any()
    assert (start != goal).any(axis=1).all()
    # One of the four mazes of 2 x 2 rooms, with 7 open cells: 42 ordered pairs.
    first = (walls == walls[0]).all(axis=(1, 2))
    assert first.mean() == pytest.approx(0.25, abs=0.04)
    pairs = collections.Counter(
        (*map(int, s), *map(int, g)) for s, g in zip(start[first], goal[first], strict=True)
    )
    assert len(pairs) == 42
    assert max(pairs.values()) < 3 * first.sum() / 42
