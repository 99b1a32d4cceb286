"""The T-maze: a task that asks for memory, and for nothing else.

A cue at the beginning of a corridor tells which way to turn at its end. The smallest
task that tells a recurrent policy from one without memory.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from mazejax import random
from mazejax.base import Pytree, static
from mazejax.envs.base import flag
from mazejax.envs.classic.drawing import draw_t_maze
from mazejax.envs.conversion import ActionConversion, ObservationConversion
from mazejax.envs.core import CoreEnv, CoreReset, CoreStep
from mazejax.errors import ConfigError
from mazejax.spaces.simple import Box, Discrete
from mazejax.types import ActorID, Array, Key, Scene


class TMazeState(Pytree):
    """Where the agent is, and what it was told; int32."""

    position: Array
    """Cells from the left end; `length` is the junction."""
    side: Array
    """0 in the corridor and at the junction, 1 in the upper arm, -1 in the lower one."""
    cue: Array
    """1 up, -1 down."""


class TMaze(CoreEnv):
    """Walk a corridor to its junction, and turn there to the side of a cue seen at the beginning.

        observation  Box(2): the cue, 1 up or -1 down, in the first cell, 0 in all others;
                     1 at the junction, else 0
        action       Discrete(4): 0 up, 1 down, 2 left, 3 right
        reward       4 for the side of the cue, -0.1 for the other side, -0.1 for a step into
                     a wall, which leaves the agent where it is, else 0
        terminated   up or down at the junction
        reset        in the first cell of `length`, the junction being the cell after them;
                     both cues are equally likely

    The best policy returns 4, in length + 1 steps. The best one without memory returns
    (4 - 0.1) / 2 = 1.95: at the junction both cues look alike, and to get there less often
    after one of them takes a step into a wall, which costs as much as the wrong side.

    Bakker, 2001, "Reinforcement learning with long short-term memory", NeurIPS 14; there
    observations are of three bits. The registered TMaze-v0 adds a limit of 5 * length steps.
    """

    length: int = static(default=10)
    """Cells of the corridor; the cue is to be remembered for as many steps."""
    correct_reward: float = 4.0
    wrong_reward: float = -0.1
    wall_reward: float = -0.1

    def validate(self) -> None:
        """Raise ConfigError unless the corridor has a cell."""
        if isinstance(self.length, bool) or not isinstance(self.length, int) or self.length < 1:
            raise ConfigError(
                f"TMaze.length: got {self.length!r}, expected a positive integer, such as 10"
            )

    def reset(self, key: Key) -> CoreReset:
        """At the left end, with one of the two cues."""
        zero = jnp.zeros((), jnp.int32)
        return CoreReset(TMazeState(zero, zero, 2 * random.randint(key, (), 2) - 1))

    def step(self, key: Key, state: TMazeState, maze_action: Array, actor: ActorID) -> CoreStep:
        """One cell further: the maze action is [2] int32, cells to the right and cells up."""
        right, up = maze_action[0], maze_action[1]
        turned = (state.position == self.length) & (up != 0)
        position = jnp.clip(state.position + right, 0, self.length)
        into_wall = (position == state.position) & ~turned
        turn_reward = jnp.where(up == state.cue, self.correct_reward, self.wrong_reward)
        reward = jnp.where(turned, turn_reward, jnp.where(into_wall, self.wall_reward, 0.0))
        new = TMazeState(position, jnp.where(turned, up, 0), state.cue)
        return CoreStep(new, reward.astype(jnp.float32), turned, flag())

    def draw(self, state: TMazeState) -> Scene:
        """The maze from above, with the cue in its cell and the prize where it points to."""
        return draw_t_maze(int(state.position), int(state.side), int(state.cue), self.length)


class TMazeObservation(ObservationConversion):
    """The cue where it can be seen, and whether this is the junction."""

    length: int = static(default=TMaze.length)

    def space(self) -> Box:
        """Two numbers."""
        return Box(np.array([-1, 0], np.float32), np.array([1, 1], np.float32))

    def maze_to_space(self, state: TMazeState, agent: int) -> Array:
        """[2] float32."""
        cue = jnp.where(state.position == 0, state.cue, 0)
        at_junction = (state.position == self.length) & (state.side == 0)
        return jnp.stack([cue, at_junction.astype(jnp.int32)]).astype(jnp.float32)


class UpDownLeftRight(ActionConversion):
    """0 up, 1 down, 2 left, 3 right; the maze action is the way in cells."""

    def space(self) -> Discrete:
        """Four actions."""
        return Discrete(4)

    def space_to_maze(self, action: Array, state: Any, agent: int) -> Array:
        """[2] int32: cells to the right, cells up."""
        action = jnp.asarray(action, jnp.int32)
        sign = 1 - 2 * ((action == 1) | (action == 2)).astype(jnp.int32)
        along = action >= 2
        return jnp.stack([jnp.where(along, sign, 0), jnp.where(along, 0, sign)])

    def maze_to_space(self, maze_action: Array) -> Array:
        """The direction, int32."""
        right, up = maze_action[0], maze_action[1]
        vertical = jnp.where(up > 0, 0, 1)
        return jnp.where(up != 0, vertical, jnp.where(right > 0, 3, 2)).astype(jnp.int32)
