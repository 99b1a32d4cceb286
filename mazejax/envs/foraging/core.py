"""Foraging: agents collect food on a grid, all moving at once, until they starve.

Every step costs energy and food gives it, so who finds too little drops out for good and
the others go on. How little an agent sees stands in `conversions`; nothing here depends on
the order of the agents.
"""

from typing import Literal

import jax.numpy as jnp
import numpy as np

from mazejax import random
from mazejax.base import Pytree, is_concrete, static
from mazejax.envs.base import flag
from mazejax.envs.core import CoreEnv, CoreReset, CoreStep
from mazejax.envs.foraging import cells
from mazejax.envs.foraging.drawing import draw_foraging
from mazejax.envs.foraging.events import ForagingEvents, ForagingKPIs
from mazejax.errors import ConfigError, did_you_mean
from mazejax.events.log import EventLog
from mazejax.types import ActorID, Array, Key, Scene

STAY, UP, RIGHT, DOWN, LEFT = range(5)
"""Actions; row 0 is the top."""

_MOST_ENERGY = 2**15 - 1  # int16


class ForagingState(Pytree):
    """Agents and grid: 4 A + 8 H bytes; 128 for 8 agents on 12 x 12 cells."""

    row: Array
    """[A] int8; -1 of places that stand empty in this episode."""
    column: Array
    """[A] int8; -1 of places that stand empty in this episode."""
    energy: Array
    """[A] int16; 0 of agents that dropped out and of empty places."""
    walls: Array
    """[H] uint32: bit c of word r is the cell of row r and column c."""
    food: Array
    """[H] uint32, alike."""

    @property
    def active(self) -> Array:
        """Agents that act: present and not starved, bool [A]."""
        return self.energy > 0

    @property
    def food_left(self) -> Array:
        """Food that is not collected, int32 []."""
        return cells.count(self.food)


class Foraging(CoreEnv):
    """A agents on a square grid, who act at once as ActorID("agent", None).

        maze action  [A] int32: 0 stays, 1 to 4 go up, right, down, left
        move         to the next cell unless it is a wall or outside; then the agent stays.
                     Agents do not block each other: several may stand on one cell
        food         on a cell with agents is collected. k agents that reach it in one step
                     share it: 1/k reward and food_energy // k energy each
        energy       then falls by 1, whether an agent moved or stayed, and is at most
                     max_energy. At 0 the agent drops out for the rest of the episode: it
                     does nothing, earns nothing and is seen by nobody
        reward       [A] float32. `individual`: the agent's shares. `team`: the food that all
                     collected in the step / A, to every agent that acted in it
        terminated   no food is left, or no agent
        reset        food and agents on distinct random cells, energy initial_energy. Walls
                     stand, each with probability wall_density, on cells of odd row and
                     column, where neither food nor agents begin: so every cell can be
                     reached. From min_agents to A agents are present, all numbers equally
                     likely; the last places stand empty

    Agents are alike: if they are reordered, what happens to them is reordered.
    """

    num_agents: int = static(default=8)
    """A: places for agents."""
    min_agents: int | None = static(default=None)
    """Fewest agents that an episode begins with; None: all."""
    size: int = static(default=12)
    """Rows and columns of the grid."""
    num_food: int = static(default=16)
    """Food at the start."""
    reward: Literal["individual", "team"] = static(default="individual")
    """Who earns what is collected."""
    initial_energy: Array | int = 12
    """Steps that an agent can do without food."""
    food_energy: Array | int = 6
    """Energy that food gives."""
    max_energy: Array | int = 20
    """More is not stored."""
    wall_density: float = 0.5
    """Probability of a wall on each cell of odd row and odd column."""

    def validate(self) -> None:
        """Raise ConfigError for numbers that do not fit each other or the state."""
        if self.reward not in ("individual", "team"):
            hint = did_you_mean(str(self.reward), ("individual", "team"))
            raise ConfigError(f"Foraging.reward: unknown {self.reward!r}; {hint}")
        _check("size", self.size, 2, cells.MAX_COLUMNS)
        _check("num_food", self.num_food, 1, self.size**2)
        _check("num_agents", self.num_agents, 1, self.size**2)
        if self.min_agents is not None:
            _check("min_agents", self.min_agents, 1, self.num_agents)
        needed, free = self.num_agents + self.num_food, len(self._open_cells[0])
        if needed > free:
            raise ConfigError(
                f"Foraging.size: {self.num_agents} agents and {self.num_food} food need {needed} "
                f"cells, got {free} without the places of walls; enlarge size"
            )
        _check("initial_energy", self.initial_energy, 1, _MOST_ENERGY)
        _check("food_energy", self.food_energy, 0, _MOST_ENERGY)
        _check("max_energy", self.max_energy, 1, _MOST_ENERGY)
        _check("wall_density", self.wall_density, 0, 1)

    @property
    def actors(self) -> tuple[ActorID, ...]:
        """All agents at once."""
        return (ActorID("agent", None),)

    @property
    def agent_counts(self) -> dict[str, int]:
        """A."""
        return {"agent": self.num_agents}

    def reset(self, key: Key) -> CoreReset:
        """Walls, food and agents on random cells."""
        fewest = self.num_agents if self.min_agents is None else self.min_agents
        count_key = random.stream(key, "agents")
        present = fewest + random.randint(count_key, (), self.num_agents - fewest + 1)
        is_present = jnp.arange(self.num_agents) < present

        rows, columns = (jnp.asarray(side) for side in self._open_cells)
        drawn = jnp.arange(self.num_agents + self.num_food)
        place = random.permutation_indices(random.stream(key, "cells"), drawn, len(rows))
        row, column = rows[place], columns[place]
        agents, food = slice(self.num_agents), slice(self.num_agents, None)
        state = ForagingState(
            row=jnp.where(is_present, row[agents], -1).astype(jnp.int8),
            column=jnp.where(is_present, column[agents], -1).astype(jnp.int8),
            energy=jnp.where(is_present, self.initial_energy, 0).astype(jnp.int16),
            walls=self._draw_walls(random.stream(key, "walls")),
            food=cells.set_of_cells(row[food], column[food], jnp.asarray(True), self.size),
        )
        return CoreReset(state)

    def step(self, key: Key, state: ForagingState, maze_action: Array, actor: ActorID) -> CoreStep:
        """All active agents move, then eat, then tire."""
        active = state.active
        row, column = self._move(state, maze_action)
        eats = active & cells.contains(state.food, row, column)
        together = (row[:, None] == row[None]) & (column[:, None] == column[None]) & active[None]
        sharers = jnp.maximum(together.sum(axis=1, dtype=jnp.int32), 1)
        gained = jnp.where(eats, self.food_energy // sharers, 0)
        energy = jnp.minimum(state.energy.astype(jnp.int32) - 1 + gained, self.max_energy)
        new = state.replace(
            row=row,
            column=column,
            energy=jnp.where(active, energy, 0).astype(jnp.int16),
            food=state.food & ~cells.set_of_cells(row, column, active, self.size),
        )
        share = jnp.where(eats, 1.0 / sharers.astype(jnp.float32), 0.0)
        terminated = (new.food_left == 0) | ~new.active.any()
        log = _log(eats, share, active & ~new.active)
        return CoreStep(new, self._reward(state, new, share), terminated, flag(), log)

    def actor_active(self, state: ForagingState, actor: ActorID) -> Array:
        """[A]: present and not starved."""
        return state.active

    def actor_done(self, state: ForagingState, actor: ActorID) -> Array:
        """[A]: dropped out, or never there; nobody comes back."""
        return ~state.active

    def kpi_calculator(self) -> ForagingKPIs:
        """The share of the food that was collected, and of the agents that survived."""
        return ForagingKPIs(self.num_food)

    def draw(self, state: ForagingState) -> Scene:
        """The grid with its agents and their energy."""
        row, column, energy, walls, food = map(
            np.asarray, (state.row, state.column, state.energy, state.walls, state.food)
        )
        return draw_foraging(row, column, energy, walls, food)

    @property
    def _open_cells(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns of the cells on which no wall may stand, int8 each."""
        row, column = np.indices((self.size, self.size), dtype=np.int8)
        is_open = (row % 2 == 0) | (column % 2 == 0)
        return row[is_open], column[is_open]

    def _draw_walls(self, key: Key) -> Array:
        pillars = np.arange(1, self.size, 2, dtype=np.uint32)
        stands = random.uniform(key, (len(pillars), len(pillars))) < self.wall_density
        bits = jnp.where(stands, (np.uint32(1) << pillars)[None], np.uint32(0))
        words = bits.sum(axis=1, dtype=jnp.uint32)
        # Rows 0, 1, 2, 3, ...: only the odd ones have pillars.
        rows = jnp.stack([jnp.zeros_like(words), words], axis=1).ravel()
        return jnp.pad(rows, (0, self.size % 2))

    def _move(self, state: ForagingState, action: Array) -> tuple[Array, Array]:
        """Rows and columns of the agents after they moved, int8 [A] each."""
        down = (action == DOWN).astype(jnp.int8) - (action == UP).astype(jnp.int8)
        right = (action == RIGHT).astype(jnp.int8) - (action == LEFT).astype(jnp.int8)
        row, column = state.row + down, state.column + right
        inside = (row >= 0) & (row < self.size) & (column >= 0) & (column < self.size)
        moves = state.active & inside & ~cells.contains(state.walls, row, column)
        return jnp.where(moves, row, state.row), jnp.where(moves, column, state.column)

    def _reward(self, before: ForagingState, after: ForagingState, share: Array) -> Array:
        if self.reward == "individual":
            return share
        collected = (before.food_left - after.food_left).astype(jnp.float32)
        return jnp.where(before.active, collected / self.num_agents, 0.0)


def _log(eats: Array, share: Array, dropped: Array) -> EventLog:
    agent = jnp.arange(eats.shape[0], dtype=jnp.int32)
    log = EventLog.empty(ForagingEvents)
    log = log.fire_each(ForagingEvents.food_collected, eats, agent=agent, share=share)
    return log.fire_each(ForagingEvents.agent_dropped_out, dropped, agent=agent)


def _check(name: str, value: Array | float, lowest: int, highest: int) -> None:
    """Raise ConfigError for a number outside its range; traced numbers are let through."""
    if is_concrete(value) and not np.all((np.asarray(value) >= lowest) & (value <= highest)):
        raise ConfigError(f"Foraging.{name}: got {value}, expected from {lowest} to {highest}")
