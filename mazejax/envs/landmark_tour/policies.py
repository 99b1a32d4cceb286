"""Baselines for both levels: where to next, and how to walk there.

The worker is the same in all of them, for on an open grid every step that comes nearer
is a best one. The managers differ: the nearest landmark, or the shortest tour by the
dynamic program of Held and Karp (1962).
"""

import jax.numpy as jnp
import numpy as np

from mazejax.base import Pytree
from mazejax.envs.cells import DOWN, LEFT, RIGHT, UP, Cell
from mazejax.envs.landmark_tour.core import MANAGER, TourState, distance, subgoal_cell
from mazejax.errors import ConfigError
from mazejax.types import ActorID, Array, Key, PyTree

_FAR = np.int32(10**6)
_MOST_LANDMARKS = 12


class NearestLandmarkPolicy(Pytree):
    """The manager chooses the nearest landmark that is left; the worker walks straight there."""

    def __call__(self, key: Key, obs: PyTree, maze_state: TourState, actor: ActorID) -> Array:
        """A landmark or a direction, int32 []."""
        if actor != MANAGER:
            return _towards(maze_state)
        away = distance(maze_state.worker, maze_state.landmarks)
        return jnp.argmin(jnp.where(maze_state.visited, _FAR, away)).astype(jnp.int32)


class OptimalTourPolicy(Pytree):
    """The manager follows a shortest tour; the worker walks straight to its next landmark.

    Of up to 12 landmarks: time and memory grow as 2^R R^2.
    """

    def __call__(self, key: Key, obs: PyTree, maze_state: TourState, actor: ActorID) -> Array:
        """A landmark or a direction, int32 []."""
        if actor != MANAGER:
            return _towards(maze_state)
        return jnp.argmin(_tour_lengths(maze_state)).astype(jnp.int32)


def shortest_tour(state: TourState) -> Array:
    """Steps of the shortest tour of what is left to visit, int32 [].

    The best return from here is the number of landmarks left minus step_cost times it.
    """
    return jnp.where(state.visited.all(), 0, _tour_lengths(state).min())


def _tour_lengths(state: TourState) -> Array:
    """Length of the shortest rest of the tour by its next landmark, int32 [R].

    Where the next landmark is visited already: _FAR at least.
    """
    num = state.visited.shape[0]
    if num > _MOST_LANDMARKS:
        raise ConfigError(
            f"shortest tour: got {num} landmarks, expected at most {_MOST_LANDMARKS}; use "
            f"NearestLandmarkPolicy"
        )
    after = _lengths_by_set(_between(state.landmarks))
    visited = jnp.sum(state.visited * (1 << np.arange(num)), dtype=jnp.int32)
    return distance(state.worker, state.landmarks) + after[visited]


def _lengths_by_set(between: Array) -> Array:
    """Rest of the tour after its next landmark j, int32 [2^R, R], by the set visited before.

    rest(S, j) = min over k not in S + j of between(j, k) + rest(S + j, k), and 0 if there
    is no such k. Sets are binary numbers; j in S costs _FAR.
    """
    num = between.shape[0]
    sets, landmark = np.arange(2**num)[:, None], np.arange(num)[None]
    is_in = (sets >> landmark & 1).astype(bool)
    larger = sets | 1 << landmark  # S + j, [2^R, R]
    is_full = larger == 2**num - 1
    rest = jnp.where(is_in, _FAR, 0)
    for _ in range(num - 1):  # sets that lack one more landmark become right in each round
        onward = (between[None] + rest[:, None, :]).min(axis=-1)  # from j with S visited
        after = jnp.take_along_axis(onward, larger, axis=0)
        rest = jnp.where(is_in, _FAR, jnp.where(is_full, 0, after))
    return rest


def _between(landmarks: Cell) -> Array:
    """Steps between every two landmarks, int32 [R, R]."""
    here = Cell(landmarks.row[:, None], landmarks.column[:, None])
    there = Cell(landmarks.row[None], landmarks.column[None])
    return distance(here, there)


def _towards(state: TourState) -> Array:
    """A direction that comes nearer to the subgoal, along the rows first; int32 []."""
    goal = subgoal_cell(state)
    vertical = jnp.where(goal.row < state.worker.row, UP, DOWN)
    horizontal = jnp.where(goal.column < state.worker.column, LEFT, RIGHT)
    return jnp.where(goal.row == state.worker.row, horizontal, vertical).astype(jnp.int32)
