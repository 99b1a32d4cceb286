"""PPO on envs with known answers: values, actions, time limits, sweeps.

One program trains on all probes at once: they are the rungs of one env, and which rung an
env stands on is a number like any other, so it is swept with the seeds.
"""

import functools

import chex
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.algos.ppo import PPO
from mazejax.envs.base import Env, StateStep
from mazejax.envs.probe import (
    ActionReward,
    ConstantReward,
    DelayedReward,
    EndlessReward,
    ObservationActionReward,
    ObservationReward,
    RampReward,
    WildReset,
)
from mazejax.networks.mlp import MLPActorCritic
from mazejax.spaces.simple import Box
from mazejax.types import Array
from mazejax.wrappers.time import TimeLimit

GAMMA = 0.5
SEEDS = 3
SETTINGS = {
    "network": MLPActorCritic((16,)),
    "num_envs": 8,
    "num_steps": 16,
    "num_epochs": 4,
    "num_minibatches": 2,
    "total_steps": 128 * 60,
    "learning_rate": 1e-2,
    "learning_rate_schedule": "constant",
    "gamma": GAMMA,
    "ent_coef": 0.0,
}


class Ladder(Env):
    """All rungs side by side, of which only one is seen; observations are padded to 4 numbers."""

    rungs: tuple[Env, ...]
    rung: Array

    @property
    def observation_space(self):
        return Box(-1.0, 1.0, (4,))

    @property
    def action_space(self):
        return self.rungs[0].action_space

    def reset_state(self, key):
        return tuple(env.reset_state(key) for env in self.rungs)

    def step_state(self, key, state, action):
        steps = [env.step_state(key, s, action) for env, s in zip(self.rungs, state, strict=True)]
        seen = [
            self._seen([getattr(step, name) for step in steps]) for name in StateStep._fields[1:4]
        ]
        return StateStep(tuple(step.state for step in steps), *seen, {})

    def observe(self, state):
        views = [env.observe(s) for env, s in zip(self.rungs, state, strict=True)]
        return self._seen([padded(view) for view in views])

    def time(self, state):
        return self._seen([env.time(s) for env, s in zip(self.rungs, state, strict=True)])

    def _seen(self, values):
        return jnp.stack(values)[self.rung]


def padded(obs):
    return jnp.zeros((*obs.shape[:-1], 4)).at[..., : obs.shape[-1]].set(obs)


ZERO, SIGNS, BITS = [[0.0]], [[-1.0], [1.0]], [[0.0], [1.0]]
PROBES = {
    "constant reward": (ConstantReward(), ZERO),
    "reward by observation": (ObservationReward(), SIGNS),
    "delayed reward": (DelayedReward(), BITS),
    "reward by action": (ActionReward(), ZERO),
    "reward by observation and action": (ObservationActionReward(), SIGNS),
    "endless reward with a time limit": (TimeLimit(EndlessReward(), 3), ZERO),
    "wild reset": (WildReset(), BITS),
    "ramp": (RampReward(), np.eye(4).tolist()),
}
RUNGS = list(PROBES)


def train(algorithm, rung, learning_rate, key, num_updates):
    """Variables after some updates; the number is traced, so any number is one program."""
    env = algorithm.env.replace(rung=rung)
    algorithm = algorithm.replace(env=env, learning_rate=learning_rate)

    def one_update(_, state):
        return algorithm.update(state)[0]

    return jax.lax.fori_loop(0, num_updates, one_update, algorithm.init(key)).variables


def ladder(*envs):
    return PPO(Ladder(envs, jnp.zeros((), jnp.int32)), **SETTINGS, auto_reset="always")


LADDER = ladder(*(env for env, _ in PROBES.values()))
# Rungs and their learning rates by seeds.
train_all = jax.jit(
    jax.vmap(jax.vmap(functools.partial(train, LADDER), (None, None, 0, None)), (0, 0, None, None))
)
train_one = jax.jit(functools.partial(train, LADDER))


@jax.jit
def outputs(variables, obs):
    """(distributions, values) for seeds and observations."""
    output = jax.vmap(lambda v: LADDER.actor_critics["0"].apply(v["0"], obs)[0])(variables)
    return output.distribution, output.value


@functools.lru_cache
def trained(num_updates=60, learning_rate=1e-2):
    """Variables for all probes and seeds."""
    keys = jax.random.split(random.key(0), SEEDS)
    rungs = jnp.arange(len(RUNGS))
    return train_all(rungs, jnp.full(len(RUNGS), learning_rate), keys, num_updates)


def on(variables, name):
    return jax.tree.map(lambda leaf: leaf[RUNGS.index(name)], variables)


# --- envs with known answers --------------------------------------------------------------


@pytest.mark.parametrize("name", PROBES)
def test_values_approach_the_true_ones(name):
    env, obs = PROBES[name]
    obs = jnp.asarray(obs)
    _, values = outputs(on(trained(), name), padded(obs))
    # The time limit is not the env's: the value is that of the endless one, 1 / (1 - gamma) = 2.
    true = env.unwrapped.value(obs, GAMMA)
    np.testing.assert_allclose(values, np.tile(true, (SEEDS, 1)), atol=0.1)


@pytest.mark.parametrize("name", ["reward by action", "reward by observation and action"])
def test_the_policy_takes_the_rewarded_action(name):
    _, obs = PROBES[name]
    policy, _ = outputs(on(trained(), name), padded(jnp.asarray(obs)))
    probability = np.asarray(jax.nn.softmax(policy.logits))
    best = [1] if name == "reward by action" else [0, 1]
    for seed in range(SEEDS):
        for row, action in enumerate(best):
            assert probability[seed, row, action] > 0.9


def test_one_update_makes_the_rewarded_action_likelier():
    name = "reward by action"
    before, after = (
        jax.nn.softmax(outputs(on(trained(n), name), jnp.zeros((1, 4)))[0].logits)[:, 0, 1]
        for n in (0, 1)
    )
    assert (after > before + 0.01).all(), f"{before} to {after}"


def test_continuous_actions_go_where_the_reward_is_largest():
    algorithm = ladder(ActionReward(continuous=True), ObservationActionReward(continuous=True))
    sweep = jax.vmap(functools.partial(train, algorithm), (None, None, 0, None))
    sweep = jax.jit(jax.vmap(sweep, (0, None, None, None)))
    variables = sweep(jnp.arange(2), 1e-2, jax.random.split(random.key(0), SEEDS), 60)
    # Observations and best actions: 0.5 for 0; half the observation.
    obs = jnp.array([[[0.0], [0.0]], [[-1.0], [1.0]]])
    best = np.array([[0.5, 0.5], [-0.5, 0.5]])

    def output(variables, obs):
        network = algorithm.actor_critics["0"]
        output = jax.vmap(lambda v: network.apply(v["0"], padded(obs))[0])(variables)
        return output.distribution.mode()[..., 0], output.value

    action, value = jax.jit(jax.vmap(output))(variables, obs)
    for rung in range(2):
        np.testing.assert_allclose(action[rung], np.tile(best[rung], (SEEDS, 1)), atol=0.1)
    np.testing.assert_allclose(value, np.ones((2, SEEDS, 2)), atol=0.1)


# --- one program for many -----------------------------------------------------------------


def test_a_sweep_of_rates_and_seeds_equals_single_runs_and_a_run_repeats_its_bits():
    keys = jax.random.split(random.key(0), SEEDS)
    rungs = jnp.arange(len(RUNGS))
    rates = jnp.linspace(1e-3, 2e-2, len(RUNGS))
    swept = train_all(rungs, rates, keys, 2)
    for i, seed in ((0, 0), (4, 2), (7, 1)):
        alone = train_one(rungs[i], rates[i], keys[seed], 2)
        again = train_one(rungs[i], rates[i], keys[seed], 2)
        assert jax.tree.all(jax.tree.map(np.array_equal, alone, again))
        one = jax.tree.map(lambda leaf, i=i, seed=seed: leaf[i, seed], swept)
        # Adam divides by the root of tiny second moments, which amplifies rounding.
        chex.assert_trees_all_close(alone, one, atol=1e-4)
    other = train_one(rungs[0], rates[1], keys[0], 2)
    assert not jax.tree.all(jax.tree.map(np.array_equal, train_one(0, rates[0], keys[0], 2), other))
