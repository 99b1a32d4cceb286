"""`CoreEnv`: the problem itself, on its own states and actions, free of spaces.

A core env is what a domain expert writes: how the state begins and how it changes under
a maze action. What an agent sees and which numbers it emits is the conversions' task.
"""

from typing import ClassVar, NamedTuple

import jax.numpy as jnp

from mazejax.base import Pytree
from mazejax.envs.structured import agent_axis, count_agents
from mazejax.errors import EnvError
from mazejax.events.kpi import KPICalculator
from mazejax.types import SINGLE_ACTOR, ActorID, Array, Key, PyTree, Scene


class CoreReset(NamedTuple):
    """What `CoreEnv.reset` returns."""

    state: PyTree
    events: PyTree = ()
    """An `EventLog` of what happened in the reset; it counts for the first flat step."""


class CoreStep(NamedTuple):
    """What `CoreEnv.step` returns."""

    state: PyTree
    reward: Array
    """float32 [], or [A] of agents that act at once."""
    terminated: Array
    """bool: the task ended."""
    truncated: Array
    """bool: the problem's own clock ended the episode."""
    events: PyTree = ()
    """An `EventLog` of what happened, handed on in `Step.info`."""


class CoreEnv(Pytree):
    """Pure problem logic: `reset` and `step` on the problem's own pytrees.

    Numbers that a user may sweep are plain fields; what decides shapes is `static()`.
    Everything drawn at random comes from the key.

    A structured env overrides `actors`: the schedule of a flat step, one entry per
    sub-step. `step` is called once for every sub-step, with the same state structure in
    all of them. After an end the state stands still until the flat step is over.
    """

    compile_time: ClassVar[bool] = True

    @property
    def actors(self) -> tuple[ActorID, ...]:
        """The schedule: who acts in which sub-step of a flat step; depends on static fields."""
        return (SINGLE_ACTOR,)

    @property
    def agent_counts(self) -> dict[str, int]:
        """Agents per step key; to be given where agents act at once (`agent_id` None)."""
        return count_agents(self.actors)

    def reset(self, key: Key) -> CoreReset:
        """The first state of an episode."""
        raise NotImplementedError

    def step(self, key: Key, state: PyTree, maze_action: PyTree, actor: ActorID) -> CoreStep:
        """The state after the maze action of the actor (static), with reward and flags.

        It is called for inactive actors too, whose action must have no effect.
        """
        raise NotImplementedError

    def actor_active(self, state: PyTree, actor: ActorID) -> Array:
        """Whether the actor acts in this sub-step, bool [] or [A]; always, unless overridden.

        False where it is not its turn, where it dropped out, and for places that stand
        empty in an episode with fewer agents.
        """
        return jnp.ones(agent_axis(actor, self.agent_counts), bool)

    def actor_done(self, state: PyTree, actor: ActorID) -> Array:
        """Whether the actor will never act again in this episode, bool [] or [A]; optional."""
        raise NotImplementedError

    def actor_rewards(self, state: PyTree, rewards: tuple[Array, ...]) -> tuple[Array, ...]:
        """Credit of a flat step, by sub-step; optional.

        From the state after the flat step and the rewards that `step` returned, one for
        every sub-step; learners take these, statistics keep the returned ones.
        """
        raise NotImplementedError

    def kpi_calculator(self) -> KPICalculator | None:
        """What computes the KPIs of an episode; None if there are none."""
        return None

    def draw(self, state: PyTree) -> Scene:
        """The state as a scene, on the host."""
        raise EnvError(f"{type(self).__name__} cannot be drawn: it defines no draw(state)")

    def defines(self, method: str) -> bool:
        """Whether this core env overrides an optional method."""
        return getattr(type(self), method) is not getattr(CoreEnv, method)
