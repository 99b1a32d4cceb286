"""Foraging envs by their numbers."""

import jax
import jax.numpy as jnp
import pytest

from mazejax import random
from mazejax.envs.foraging.make import make_foraging
from mazejax.errors import ConfigError
from mazejax.spaces import Discrete
from mazejax.types import ActorID

KEY = random.key(8)


def test_numbers_reach_the_parts_that_they_belong_to():
    env = make_foraging(radius=3, num_agents=9, size=10, max_energy=30)
    assert env.actors == (ActorID("agent", None),) and env.agent_counts == {"agent": 9}
    assert env.observation_space["window"].shape == (3, 7, 7)
    assert env.action_space == Discrete(5)
    assert env.observation_conversion.energy_scale == 30.0
    obs, state = jax.jit(env.reset)(KEY)
    assert obs["window"].shape == (9, 3, 7, 7) and obs["action_mask"].shape == (9, 5)
    step = jax.jit(env.step)(KEY, state, jnp.zeros(9, jnp.int32))
    assert step.reward.shape == (9,) and step.info["actor_done"].shape == (9,)


def test_unknown_numbers_are_refused():
    with pytest.raises(ConfigError, match="has no field 'num_agent'; did you mean 'num_agents'"):
        make_foraging(num_agent=3)
