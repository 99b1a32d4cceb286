"""LandmarkTour: a manager decides which landmark is next, a worker walks there.

    schedule     manager, worker: one sub-step each in every flat step
    observation  manager: all landmarks as seen from the worker, and a mask of those to visit
                 worker: the offset to its subgoal, nothing else
    action       manager: Discrete(R), a landmark; worker: Discrete(4), up, right, down, left
    reward       1 for every landmark visited, minus 0.01 for every flat step
    terminated   when all landmarks are visited
    reset        the worker and R landmarks on distinct random cells of an open grid

The manager is asked in every `period`-th flat step from the first on, and in the flat
step after the worker reached its subgoal; else it is inactive and its action has no
effect. A landmark is visited when the worker steps on it, be it the subgoal or on the
way. The best return is R - 0.01 L, where L is the length of the shortest tour.
"""

import jax
import jax.numpy as jnp
import numpy as np

from mazejax import random
from mazejax.base import Pytree, static
from mazejax.envs import cells
from mazejax.envs.base import flag
from mazejax.envs.cells import Cell
from mazejax.envs.core import CoreEnv, CoreReset, CoreStep
from mazejax.envs.landmark_tour.drawing import draw_landmark_tour
from mazejax.envs.landmark_tour.events import TourEvents, TourKPIs
from mazejax.errors import ConfigError
from mazejax.events.log import EventLog
from mazejax.types import ActorID, Array, Key, Scene

MANAGER, WORKER = ActorID("manager", 0), ActorID("worker", 0)
"""The actors, in the order of their sub-steps."""

_LARGEST = 64


class TourState(Pytree):
    """Where the worker is, where it goes, and what is left: 3 R + 5 bytes."""

    worker: Cell
    landmarks: Cell
    """[R] of them."""
    visited: Array
    """bool [R]."""
    subgoal: Array
    """Landmark that the worker is sent to, int8 []; 0 before the first choice."""
    countdown: Array
    """Flat steps until the manager is asked in any case, int8 []; 0: in this one."""
    approach: Array
    """Cells by which the last walk came nearer to its subgoal: -1, 0 or 1, int8 []."""


class LandmarkTour(CoreEnv):
    """R landmarks on an open grid of `size` x `size` cells, each to be visited once.

    The manager's maze action is a landmark, the worker's a direction. A choice of a
    visited landmark is answered with the first one that is left. Out of the grid the
    worker does not move, and the step is paid for.

    Statistics count the reward above, which the worker's sub-step returns. Learners get
    as credit: the manager that reward, for what it decides is the length of the tour;
    the worker 1 for reaching its subgoal, `progress_reward` times the cells by which it
    came nearer (negative where it went away), minus the step cost. So landmarks that
    were not its subgoal and the rest of the tour are not the worker's matter.
    """

    step_cost: float = 0.01
    """What every flat step costs."""
    progress_reward: float = 0.1
    """What the worker gets for every cell that it comes nearer to its subgoal."""
    size: int = static(default=10)
    """Rows and columns of the grid, from 2 to 64."""
    num_landmarks: int = static(default=5)
    """R."""
    period: int = static(default=8)
    """Flat steps after which the manager is asked again, from 1 to 127."""

    def validate(self) -> None:
        """Raise ConfigError for sizes that do not fit each other or the state's int8."""
        limits = {
            "size": (2, _LARGEST),
            "num_landmarks": (1, min(127, self.size**2 - 1)),
            "period": (1, 127),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ConfigError(
                    f"LandmarkTour.{name}: got {value!r}, expected an integer from {low} to {high}"
                )

    @property
    def actors(self) -> tuple[ActorID, ...]:
        """The manager, then the worker."""
        return MANAGER, WORKER

    def reset(self, key: Key) -> CoreReset:
        """Worker and landmarks on distinct cells; the manager is to be asked."""
        drawn = jnp.arange(self.num_landmarks + 1)
        places = random.permutation_indices(random.stream(key, "cells"), drawn, self.size**2)
        nothing = jnp.zeros((), jnp.int8)
        state = TourState(
            worker=cells.cell_of_index(places[0], self.size),
            landmarks=cells.cell_of_index(places[1:], self.size),
            visited=jnp.zeros(self.num_landmarks, bool),
            subgoal=nothing,
            countdown=nothing,
            approach=nothing,
        )
        return CoreReset(state)

    def step(self, key: Key, state: TourState, maze_action: Array, actor: ActorID) -> CoreStep:
        """The manager's choice of a subgoal, or one cell of the worker's way."""
        if actor == MANAGER:
            return self._set_subgoal(state, maze_action)
        return self._walk(state, maze_action)

    def actor_active(self, state: TourState, actor: ActorID) -> Array:
        """The manager is active when it is asked, the worker always."""
        return self._is_asked(state) if actor == MANAGER else flag(True)

    def actor_rewards(self, state: TourState, rewards: tuple[Array, ...]) -> tuple[Array, ...]:
        """Credit of (manager, worker): the flat reward, and the worker's own progress."""
        # Before the walk the subgoal was not visited, for the manager's sub-step sees to that.
        reached = _at(state.visited, state.subgoal)
        progress = state.approach.astype(jnp.float32) * self.progress_reward
        own = reached.astype(jnp.float32) + progress - self.step_cost
        return rewards[0] + rewards[1], own.astype(jnp.float32)

    def kpi_calculator(self) -> TourKPIs:
        """Landmarks, steps for each of them, and decisions."""
        return TourKPIs()

    def draw(self, state: TourState) -> Scene:
        """The grid from above."""
        rows, columns = np.asarray(state.landmarks.row), np.asarray(state.landmarks.column)
        return draw_landmark_tour(
            self.size,
            state.worker.at,
            list(zip(rows.tolist(), columns.tolist(), strict=True)),
            np.asarray(state.visited).tolist(),
            int(state.subgoal),
        )

    def _is_asked(self, state: TourState) -> Array:
        return (state.countdown == 0) | _at(state.visited, state.subgoal)

    def _set_subgoal(self, state: TourState, choice: Array) -> CoreStep:
        asked = self._is_asked(state)
        refused = _at(state.visited, choice)
        first_left = jnp.argmin(state.visited)
        wanted = jnp.where(refused, first_left, choice).astype(jnp.int8)
        subgoal = jnp.where(asked, wanted, state.subgoal)
        log = EventLog.empty(TourEvents)
        log = log.fire(TourEvents.subgoal_set, asked, landmark=subgoal)
        log = log.fire(TourEvents.choice_refused, asked & refused)
        new = state.replace(subgoal=subgoal)
        return CoreStep(new, jnp.zeros((), jnp.float32), flag(), flag(), log)

    def _walk(self, state: TourState, direction: Array) -> CoreStep:
        target = cells.neighbor(state.worker, direction)
        last = np.int8(self.size - 1)
        worker = jax.tree.map(lambda place: jnp.clip(place, np.int8(0), last), target)
        goal = subgoal_cell(state)
        here = cells.same_cell(worker, state.landmarks)
        new_here = here & ~state.visited
        came = new_here.any()
        new = state.replace(
            worker=worker,
            visited=state.visited | here,
            countdown=jnp.where(state.countdown == 0, np.int8(self.period), state.countdown) - 1,
            approach=(distance(state.worker, goal) - distance(worker, goal)).astype(jnp.int8),
        )
        reward = (came.astype(jnp.float32) - self.step_cost).astype(jnp.float32)
        log = EventLog.empty(TourEvents)
        log = log.fire(TourEvents.landmark_visited, came, landmark=jnp.argmax(new_here))
        log = log.fire(TourEvents.subgoal_reached, _at(new_here, state.subgoal))
        return CoreStep(new, reward, new.visited.all(), flag(), log)


def subgoal_cell(state: TourState) -> Cell:
    """Where the worker is sent to."""
    chosen = jnp.arange(state.visited.shape[0], dtype=jnp.int8) == state.subgoal
    return jax.tree.map(
        lambda places: jnp.sum(jnp.where(chosen, places, 0), dtype=jnp.int8), state.landmarks
    )


def distance(one: Cell, other: Cell) -> Array:
    """Steps between cells of an open grid, int32 [...]: the sum of both offsets."""
    rows = one.row.astype(jnp.int32) - other.row.astype(jnp.int32)
    columns = one.column.astype(jnp.int32) - other.column.astype(jnp.int32)
    return jnp.abs(rows) + jnp.abs(columns)


def _at(marks: Array, index: Array) -> Array:
    """The entry of marks [R] at an index, bool []."""
    return (marks & (jnp.arange(marks.shape[0]) == index)).any()
