"""`CoreEnv`: the problem itself, on its own states and actions, free of spaces.

A core env is what a domain expert writes: how the state begins and how it changes under
a maze action. What an agent sees and which numbers it emits is the conversions' task.
"""

from typing import ClassVar, NamedTuple

from mazejax.base import Pytree
from mazejax.errors import EnvError
from mazejax.types import ActorID, Array, Key, PyTree, Scene


class CoreReset(NamedTuple):
    """What `CoreEnv.reset` returns."""

    state: PyTree


class CoreStep(NamedTuple):
    """What `CoreEnv.step` returns."""

    state: PyTree
    reward: Array
    """float32."""
    terminated: Array
    """bool: the task ended."""
    truncated: Array
    """bool: the problem's own clock ended the episode."""
    events: PyTree = ()
    """What happened, in the problem's words; one fixed structure, handed on in `Step.info`."""


class CoreEnv(Pytree):
    """Pure problem logic: `reset` and `step` on the problem's own pytrees.

    Numbers that a user may sweep are plain fields; what decides shapes is `static()`.
    Everything drawn at random comes from the key.
    """

    compile_time: ClassVar[bool] = True

    def reset(self, key: Key) -> CoreReset:
        """The first state of an episode."""
        raise NotImplementedError

    def step(self, key: Key, state: PyTree, maze_action: PyTree, actor: ActorID) -> CoreStep:
        """The state after the maze action of the actor (static), with reward and flags."""
        raise NotImplementedError

    def draw(self, state: PyTree) -> Scene:
        """The state as a scene, on the host."""
        raise EnvError(f"{type(self).__name__} cannot be drawn: it defines no draw(state)")
