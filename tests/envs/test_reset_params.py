"""Numbers chosen at each reset: randomization, curricula, and the pool of initial states."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mazejax
from mazejax import random
from mazejax.envs import probe
from mazejax.envs.reset_params import EpisodeEnd, ResetParams, SuccessGatedCurriculum
from mazejax.envs.vector import VectorEnv
from mazejax.errors import ConfigError

CARTPOLE = mazejax.make("CartPole-v1", max_steps=20)


class RandomGravity(ResetParams):
    low: float = 5.0
    high: float = 15.0

    def sample(self, key, memory):
        return {"gravity": self.low + (self.high - self.low) * random.uniform(key)}


@functools.cache
def run(strategy, num_envs, hook=RandomGravity(), num_steps=60):  # noqa: B008
    vector = VectorEnv(CARTPOLE, num_envs, strategy, reset_params=hook)

    def one_step(state, _):
        action = jax.vmap(vector.action_space.sample)(vector.keys(state, "policy"))
        before = state.params.numbers["gravity"]
        step = vector.step(state, action)
        return step.state, (step.obs, step.done, before, step.state.params)

    return jax.device_get(
        jax.jit(lambda: jax.lax.scan(one_step, vector.reset(random.key(3))[1], length=num_steps))()
    )[1]


def test_numbers_are_drawn_anew_for_every_episode_and_kept_within_it():
    _, done, gravity, _ = run("always", 4)
    changed = gravity[1:] != gravity[:-1]
    np.testing.assert_array_equal(changed, done[:-1])
    assert gravity.min() >= 5 and gravity.max() <= 15 and len(np.unique(gravity)) > 8


def test_what_is_drawn_depends_on_neither_strategy_nor_neighbors():
    one, other = run("always", 4), run("compact", 4)
    jax.tree.map(np.testing.assert_array_equal, one, other)
    fewer = run("always", 2)
    np.testing.assert_array_equal(fewer[2], one[2][:, :2])
    np.testing.assert_array_equal(fewer[0], one[0][:, :2])


def test_the_env_steps_with_the_numbers_of_its_episode():
    vector = VectorEnv(CARTPOLE, 3, reset_params=RandomGravity())
    obs, state = vector.reset(random.key(0))
    gravity = state.params.numbers["gravity"]
    plain = VectorEnv(CARTPOLE, 3, batched={"gravity": gravity})
    same_obs, same = plain.reset(random.key(0))
    np.testing.assert_array_equal(obs, same_obs)
    action = jnp.zeros(3, jnp.int32)
    np.testing.assert_array_equal(vector.step(state, action).obs, plain.step(same, action).obs)


def test_a_curriculum_rises_with_success_and_falls_with_failure():
    hook = SuccessGatedCurriculum("gravity", easiest=1.0, hardest=10.0, success_return=5.0,
                                  num_levels=4, patience=2)  # fmt: skip
    memory, levels = hook.init(), []
    for episode_return in (6.0, 6.0, 6.0, 1.0, 6.0, 6.0, 6.0, 6.0, 9.0, 9.0, 0.0, 0.0, 0.0, 0.0):
        no = jnp.zeros((), bool)
        end = EpisodeEnd(jnp.float32(episode_return), jnp.int32(7), no, no)
        memory = hook.update(memory, end)
        levels.append(int(memory.level))
    assert levels == [0, 1, 1, 1, 1, 2, 2, 3, 3, 3, 3, 2, 2, 1]
    assert float(hook.sample(random.key(0), memory)["gravity"]) == 4.0


def test_a_curriculum_hears_the_return_of_each_episode():
    hook = SuccessGatedCurriculum("gravity", easiest=9.8, hardest=30.0, success_return=15.0,
                                  num_levels=3, patience=1)  # fmt: skip
    _, done, gravity, params = run("always", 4, hook)
    lengths = np.zeros(4)
    level = np.zeros(4, int)
    for t in range(len(done)):
        np.testing.assert_allclose(gravity[t], 9.8 + level / 2 * 20.2, rtol=1e-6)
        lengths += 1
        level = np.where(done[t], np.clip(level + np.where(lengths >= 15, 1, -1), 0, 2), level)
        lengths[done[t]] = 0
        np.testing.assert_array_equal(params.memory.level[t], level)
    assert level.max() > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reset_params": 3}, "reset_params: expected a ResetParams, got int"),
        (
            {"reset_params": SuccessGatedCurriculum("gravty", 0.0, 1.0, 1.0)},
            "has no number 'gravty'; did you mean 'gravity'",
        ),
        (
            {"reset_params": RandomGravity(), "batched": {"gravity": np.ones(2)}},
            "'gravity' is batched already",
        ),
        ({"reset_params": RandomGravity(), "auto_reset": "pool"}, "use 'compact'"),
        ({"auto_reset": "pool", "pool_size": 0}, "pool_size: must be a positive integer"),
    ],
)
def test_wrong_hooks_are_config_errors(changes, message):
    with pytest.raises(ConfigError, match=message):
        VectorEnv(CARTPOLE, 2, **changes)


def test_a_learner_trains_on_the_numbers_of_the_hook_and_evaluates_on_those_of_the_env():
    hook = SuccessGatedCurriculum("gravity", easiest=5.0, hardest=30.0, success_return=15.0)
    ppo = mazejax.PPO(CARTPOLE, num_envs=4, num_steps=64, reset_params=hook)
    state, _ = jax.jit(lambda key: ppo.update(ppo.init(key)))(random.key(0))
    assert np.ptp(state.collect.envs.params.numbers["gravity"]) > 0
    episodes = jax.jit(lambda state: ppo.evaluate(state.variables, random.key(1), 4, 30))(state)
    assert episodes.ended.all()


# --- the pool ---------------------------------------------------------------------------


def test_a_pool_begins_every_later_episode_in_one_of_its_states():
    env = probe.ExpensiveReset(iterations=3, longest=4)
    vector = VectorEnv(env, 8, "pool", pool_size=5)

    def one_step(state, _):
        step = vector.step(state, jnp.zeros(8, jnp.int32))
        return step.state, (step.done, step.state.envs)

    start = jax.jit(vector.reset)(random.key(1))[1]
    done, envs = jax.jit(lambda s: jax.lax.scan(one_step, s, length=20)[1])(start)
    begun = jax.tree.map(lambda leaf: leaf[done], envs)
    pool, rows = _rows(start.pool), _rows(begun)
    assert len(pool) == 5 and len(rows) > 30
    assert set(rows) <= set(pool) and len(set(rows)) > 2


def _rows(states):
    """Each state of [N, ...] as one tuple of numbers."""
    columns = [np.asarray(leaf).reshape(len(leaf), -1) for leaf in jax.tree.leaves(states)]
    return [
        tuple(float(x) for column in columns for x in column[i]) for i in range(len(columns[0]))
    ]
