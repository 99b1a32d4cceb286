"""`JointObservation`: what all actors see, beside what one of them sees."""

from typing import TYPE_CHECKING

import jax

from mazejax.errors import ConfigError
from mazejax.spaces.base import Space
from mazejax.spaces.composite import Dict
from mazejax.types import ActorID, PyTree
from mazejax.wrappers.base import Wrapper
from mazejax.wrappers.observations import named
from mazejax.wrappers.structure import DictObservation

if TYPE_CHECKING:
    from mazejax.envs.base import Env

JOINT = "joint"
"""The key of what all see."""


class JointObservation(Wrapper):
    """Adds the observations of all actors under "joint", `{"select_0": ..., "cut_0": ...}`.

    Each is what that actor would see of the present state were it its turn; agents at once
    have one each. Meant for critics that see more than their policy:

        MLPActorCritic(privileged_keys=("joint",))

    An observation that is no Dict becomes `{"observation": obs, "joint": ...}`. Rollouts hold
    everything once for each actor. Outside of training, where others' observations may not
    be at hand, `mazejax.deployment.Interface` leaves "joint" out and the policy does not ask
    for it.
    """

    def validate(self) -> None:
        """Raise ConfigError where an observation is called "joint" already."""
        super().validate()
        for step_key, space in self.env.observation_spaces.items():
            if JOINT in named(space):
                raise ConfigError(
                    f"JointObservation: observation_spaces[{step_key!r}] has a {JOINT!r} already; "
                    f"wrap it once, or rename the observation"
                )

    @property
    def observation_spaces(self) -> dict[str, Space]:
        """The wrapped env's, each with those of all actors."""
        spaces = self.env.observation_spaces
        joint = Dict(
            {
                _name(actor.step_key, agent): spaces[actor.step_key]
                for actor in dict.fromkeys(self.actors)
                for agent in self._agents(actor)
            }
        )
        return {key: Dict({**named(space), JOINT: joint}) for key, space in spaces.items()}

    def observe(self, state: PyTree) -> PyTree:
        """The wrapped env's observation with that of every actor beside it."""
        own, joint = named(self.env.observe(self.inner(state))), self._joint(state)
        actor = self.actor_id(state)
        if actor.agent_id is None:
            count = self.agent_counts[actor.step_key]
            joint = jax.tree.map(lambda x: jax.numpy.broadcast_to(x, (count, *x.shape)), joint)
        return {**own, JOINT: joint}

    def around_observations(self, env: "Env") -> "Env":
        """The key is left out: nobody else's observation is brought."""
        return DictObservation(env)

    def _joint(self, state: PyTree) -> dict[str, PyTree]:
        inner, seen = self.inner(state), dict[str, PyTree]()
        for actor in dict.fromkeys(self.actors):
            obs = self.env.observe(self.env.at_substep(inner, self.actors.index(actor)))
            for agent in self._agents(actor):
                own = obs if actor.agent_id is not None else _row(obs, agent)
                seen[_name(actor.step_key, agent)] = own
        return seen

    def _agents(self, actor: ActorID) -> tuple[int, ...]:
        """Whose observations the turn of this actor shows."""
        if actor.agent_id is not None:
            return (actor.agent_id,)
        return tuple(range(self.agent_counts[actor.step_key]))


def _name(step_key: str, agent: int) -> str:
    return f"{step_key}_{agent}"


def _row(obs: PyTree, agent: int) -> PyTree:
    return jax.tree.map(lambda x: x[agent], obs)
