"""Conversions between the problem's states and actions and an agent's spaces.

The only place where spaces are defined. One observation and one action conversion per
step key; both are pure, and the way back (`maze_to_space` of an action) lets recorded
or heuristic maze actions train any design of the action space.
"""

from typing import ClassVar

from mazejax.base import Pytree
from mazejax.errors import EnvError
from mazejax.spaces.base import Space
from mazejax.types import PyTree


class ObservationConversion(Pytree):
    """What an agent sees of the problem's state.

    A mask of the actions that are allowed is an observation like others, bool, under the
    name `<action>_mask` for an action of a Dict space, `action_mask` for a single one.
    """

    compile_time: ClassVar[bool] = True

    def space(self) -> Space:
        """Space of the observations of one agent; it depends on static fields only."""
        raise NotImplementedError

    def maze_to_space(self, state: PyTree, agent: int) -> PyTree:
        """Observation of the state for one agent: an int, traced where agents act at once."""
        raise NotImplementedError


class ActionConversion(Pytree):
    """How an agent's action becomes an action of the problem, and back.

    An action outside the space raises outside jit. In a compiled program, which cannot
    raise, it is clipped to the nearest action of the space before it is converted,
    unless the class says with `clip_actions = False` that its conversion gives every
    action of the right shape a meaning.
    """

    compile_time: ClassVar[bool] = True
    clip_actions: ClassVar[bool] = True
    """Whether actions are clipped to the space before they are converted."""

    def space(self) -> Space:
        """Space of the actions of one agent; it depends on static fields only."""
        raise NotImplementedError

    def space_to_maze(self, action: PyTree, state: PyTree, agent: int) -> PyTree:
        """The problem's action for one agent's action in a state."""
        raise NotImplementedError

    def maze_to_space(self, maze_action: PyTree) -> PyTree:
        """The agent's action that stands for a maze action; optional."""
        raise EnvError(
            f"{type(self).__name__} defines no maze_to_space(maze_action): needed to train "
            f"from recorded maze actions"
        )

    def noop_action(self) -> PyTree:
        """The action that changes nothing; optional."""
        raise EnvError(f"{type(self).__name__} defines no noop_action()")
