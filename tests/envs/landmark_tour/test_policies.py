"""The shortest tours are those of all permutations, and their returns are known."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.base import jit
from mazejax.envs import episode
from mazejax.envs.landmark_tour.core import LandmarkTour
from mazejax.envs.landmark_tour.make import make_landmark_tour
from mazejax.envs.landmark_tour.policies import (
    NearestLandmarkPolicy,
    OptimalTourPolicy,
    shortest_tour,
)
from mazejax.errors import ConfigError

NUM, NUM_LANDMARKS = 32, 5
ENV = make_landmark_tour(size=8, num_landmarks=NUM_LANDMARKS, period=3)


@functools.cache
def play(policy):
    """First states [NUM], the shortest tours, the episodes; on the host."""

    def one(key):
        played = episode.play(ENV, policy, key, 70)
        first = jax.tree.map(lambda leaf: leaf[0], played.substeps[0].state.core)
        return first, shortest_tour(first), played

    return jax.device_get(jit(jax.vmap(one))(jax.random.split(random.key(0), NUM)))


def steps(one, other):
    return int(np.abs(np.subtract(one, other)).sum())


def cells_of(first, i):
    worker = (int(first.worker.row[i]), int(first.worker.column[i]))
    rows, columns = first.landmarks.row[i].tolist(), first.landmarks.column[i].tolist()
    return worker, list(zip(rows, columns, strict=True))


def shortest(worker, landmarks):
    return min(
        sum(itertools.starmap(steps, itertools.pairwise((worker, *order))))
        for order in itertools.permutations(landmarks)
    )


def test_the_shortest_tour_is_that_of_all_permutations():
    first, length, _ = play(OptimalTourPolicy())
    wanted = [shortest(*cells_of(first, i)) for i in range(NUM)]
    np.testing.assert_array_equal(length, wanted)
    assert length.dtype == np.int32


def test_the_shortest_rest_of_a_tour_leaves_out_what_is_visited():
    env = LandmarkTour(size=8, num_landmarks=4)
    rest = jax.jit(shortest_tour)
    state = jax.jit(env.reset)(random.key(7)).state
    worker = state.worker.at
    landmarks = [*zip(state.landmarks.row.tolist(), state.landmarks.column.tolist(), strict=True)]
    for visited in itertools.product([False, True], repeat=4):
        left = [cell for cell, was in zip(landmarks, visited, strict=True) if not was]
        assert int(rest(state.replace(visited=jnp.array(visited)))) == shortest(worker, left)


def test_the_optimal_policy_earns_the_best_return():
    _, length, played = play(OptimalTourPolicy())
    assert played.terminated.all()
    np.testing.assert_array_equal(played.length, length)
    returns = sum(substep.reward.sum(axis=1) for substep in played.substeps)
    np.testing.assert_allclose(returns, NUM_LANDMARKS - 0.01 * length, atol=1e-5)


def test_the_nearest_landmark_first_is_the_greedy_tour_and_is_longer():
    first, length, played = play(NearestLandmarkPolicy())
    assert played.terminated.all()
    for i in range(NUM):
        place, left = cells_of(first, i)
        total = 0
        while left:
            nearest = min(left, key=lambda cell: steps(place, cell))
            total, place = total + steps(place, nearest), nearest
            left.remove(nearest)
        # What is passed on the way is visited too, which may spare a detour.
        assert length[i] <= played.length[i] <= total
    assert played.length.sum() > length.sum()


def test_too_many_landmarks_for_the_exact_tour_are_refused():
    state = jax.eval_shape(lambda: LandmarkTour(num_landmarks=13).reset(random.key(0)).state)
    with pytest.raises(ConfigError, match="got 13 landmarks, expected at most 12; use Nearest"):
        jax.eval_shape(shortest_tour, state)


def test_a_single_landmark_is_a_tour():
    env = LandmarkTour(num_landmarks=1)
    state = jax.jit(env.reset)(random.key(0)).state
    goal = (int(state.landmarks.row[0]), int(state.landmarks.column[0]))
    assert int(jax.jit(shortest_tour)(state)) == steps(state.worker.at, goal)
