"""An env that remembers its last action and does nothing else: to see what reaches it."""

import jax
import jax.numpy as jnp

import mazejax
from mazejax.envs.base import flag
from mazejax.envs.conversion import ActionConversion, ObservationConversion
from mazejax.envs.core import CoreEnv, CoreReset, CoreStep
from mazejax.envs.maze_env import MazeEnv
from mazejax.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from mazejax.spaces.base import Space
from mazejax.types import ActorID

JOINTS = Dict(
    {
        "force": Box([-2.0, 0.0, -1.0], [2.0, 1.0, 1.0]),
        "gears": MultiDiscrete([2, 3, 4], start=[0, 1, 0]),
        "lamps": MultiBinary(3),
        "mode": Discrete(3),
    }
)


class Arm(CoreEnv):
    """The state is the last action of each kind; the reward is 1."""

    spaces: tuple[Space, ...] = mazejax.static(default=(JOINTS,))
    num_agents: int = mazejax.static(default=0)

    @property
    def actors(self):
        agent = None if self.num_agents else 0
        return tuple(ActorID(f"move{i}", agent) for i in range(len(self.spaces)))

    @property
    def agent_counts(self):
        return {actor.step_key: self.num_agents or 1 for actor in self.actors}

    def reset(self, key):
        nothing = tuple(
            jax.tree.map(
                lambda s: jnp.zeros((self.num_agents, *s.shape)[not self.num_agents :], s.dtype),
                jax.eval_shape(space.sample, key),
            )
            for space in self.spaces
        )
        return CoreReset(nothing)

    def step(self, key, state, maze_action, actor):
        at = self.actors.index(actor)
        new = (*state[:at], jax.tree.map(jnp.asarray, maze_action), *state[at + 1 :])
        reward = jnp.ones((self.num_agents,) if self.num_agents else ())
        return CoreStep(new, reward, flag(), flag())


class Sight(ObservationConversion):
    with_mask: bool = mazejax.static(default=False)

    def space(self):
        mask = {"gears_mask": Box(False, True, (9,), bool)} if self.with_mask else {}
        return Dict({"zero": Box(0.0, 0.0, (1,)), **mask})

    def maze_to_space(self, state, agent):
        mask = {"gears_mask": jnp.arange(9) % 4 != 3} if self.with_mask else {}
        return {"zero": jnp.zeros(1), **mask}


class Joints(ActionConversion):
    own: Space = mazejax.static(default=JOINTS)

    def space(self):
        return self.own

    def space_to_maze(self, action, state, agent):
        return action

    def maze_to_space(self, maze_action):
        return maze_action

    def noop_action(self):
        shapes = jax.eval_shape(self.own.sample, mazejax.random.key(0))
        return self.own.clip(jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes))


def make_arm(*spaces, num_agents=0, with_mask=False):
    """A flat env, or a schedule of one sub-step for each action space."""
    core = Arm(spaces or (JOINTS,), num_agents)
    actions = {actor.step_key: Joints(space) for actor, space in zip(core.actors, core.spaces)}  # noqa: B905
    sights = dict.fromkeys(actions, Sight(with_mask))
    return MazeEnv(core, sights, actions)
