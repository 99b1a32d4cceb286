"""ES: ranks, noise and gradients against exact references; learning on envs with known answers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import mazejax
from mazejax import random
from mazejax.algos import es
from mazejax.algos.base import update_key
from mazejax.algos.collect import run_episodes
from mazejax.algos.es import ES
from mazejax.base import Pytree, static
from mazejax.envs.base import flag
from mazejax.envs.conversion import ActionConversion, ObservationConversion
from mazejax.envs.core import CoreEnv, CoreReset, CoreStep
from mazejax.envs.maze_env import MazeEnv
from mazejax.envs.probe import ActionReward, ConstantReward, EndlessReward
from mazejax.envs.reset_params import ResetParams, SuccessGatedCurriculum
from mazejax.envs.vector import VectorEnv
from mazejax.errors import ConfigError, EnvError
from mazejax.networks.mlp import MLPPolicy
from mazejax.runners.run_context import RunContext
from mazejax.spaces import Box, Discrete
from mazejax.types import ActorID
from tests.runners.tiny import digest

CARTPOLE = mazejax.make("CartPole-v1")
CURRICULUM = SuccessGatedCurriculum("gravity", 9.8, 15.0, success_return=400.0)
SMALL = {"network": MLPPolicy((8,)), "population_size": 6, "max_steps": 30, "total_steps": 1}


@functools.cache
def updated(algorithm):
    """The first state of an algorithm, the next, and the metrics in between."""
    state = algorithm.init(random.key(3))
    return state, *jax.jit(algorithm.update)(state)


# --- ranks ------------------------------------------------------------------------------


def centered_ranks_by_counting(values):
    flat = values.ravel().astype(np.float64)
    ranks = [(np.sum(flat < v) + np.sum(flat <= v) - 1) / 2 for v in flat]
    return (np.array(ranks) / (len(flat) - 1) - 0.5).reshape(values.shape)


@pytest.mark.parametrize("shape", [(2, 1), (2, 3), (2, 50)])
@pytest.mark.parametrize("levels", [1, 3, 1000])
def test_ranks_are_centered_and_equal_values_share_the_mean_of_theirs(shape, levels):
    values = np.random.default_rng(0).integers(0, levels, shape).astype(np.float32)
    ranks = np.asarray(es.centered_ranks(jnp.asarray(values)))
    np.testing.assert_allclose(ranks, centered_ranks_by_counting(values), atol=1e-7)
    if levels == 1:
        assert (ranks == 0.0).all(), "exactly: no difference must give no gradient"


def test_ranks_do_not_depend_on_the_scale_and_put_nan_last():
    values = jnp.asarray([[3.0, jnp.inf], [jnp.nan, -1e30]])
    expected = np.float32([[1, 3], [0, 2]])
    expected[0, 0], expected[1, 1] = 2, 1
    np.testing.assert_allclose(es.centered_ranks(values), expected / 3 - 0.5, atol=1e-7)


# --- noise and gradient -----------------------------------------------------------------


def test_members_of_a_pair_are_the_center_plus_and_minus_the_same_noise():
    noise = es.draw_noise(random.key(0), jnp.arange(4), 7)
    members = np.asarray(es.mirrored(jnp.zeros(7), noise, 0.3))
    assert members.shape == (2, 4, 7)
    np.testing.assert_array_equal(members[0], -members[1])
    np.testing.assert_array_equal(members[0], np.float32(0.3) * np.asarray(noise))
    center = jnp.arange(7.0)
    shifted = np.asarray(es.mirrored(center, noise, 0.3))
    np.testing.assert_allclose(shifted.mean(0), np.tile(center, (4, 1)), atol=1e-6)


def test_noise_is_standard_normal_and_a_pairs_own():
    noise = np.asarray(es.draw_noise(random.key(1), jnp.arange(200), 500))
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1.0) < 0.02
    assert np.abs(np.corrcoef(noise) - np.eye(200)).max() < 0.3
    fewer = es.draw_noise(random.key(1), jnp.arange(3), 500)
    np.testing.assert_allclose(fewer, noise[:3], rtol=1e-6)


def test_the_estimate_converges_to_the_gradient_of_a_quadratic():
    """Error below 5 standard deviations, which fall with the root of the number of pairs."""
    size, stddev = 6, 0.2
    generator = np.random.default_rng(2)
    curvature = np.diag(generator.uniform(0.5, 2.0, size)).astype(np.float32)
    center, best = generator.normal(size=(2, size)).astype(np.float32)
    true = -curvature @ (center - best)

    def fitness(members):
        off = members - best
        return -0.5 * jnp.sum((off @ curvature) * off, axis=-1)

    with jax.numpy_rank_promotion("allow"):
        for num in (100, 10_000):
            noise = es.draw_noise(random.key(num), jnp.arange(num), size)
            members = es.mirrored(jnp.asarray(center), noise, stddev)
            estimate = np.asarray(es.estimate_gradient(fitness(members), noise, stddev))
            error = np.linalg.norm(estimate - true) / np.linalg.norm(true)
            assert error < 5 * np.sqrt((size + 1) / num)
    cosine = estimate @ true / np.linalg.norm(estimate) / np.linalg.norm(true)
    assert cosine > 0.99


# --- the population ---------------------------------------------------------------------


class RandomGravity(ResetParams):
    """A hook without memory."""

    def sample(self, key, memory):
        return {"gravity": random.uniform(key, (), 5.0, 15.0)}


def test_both_of_a_pair_meet_the_same_draws():
    """Without noise they are one policy, so their episodes are the same; other pairs' are not."""
    algorithm = ES(env=CARTPOLE, reset_params=RandomGravity(), noise_stddev=1e-30, **SMALL)
    state = algorithm.init(random.key(3))
    returns = np.asarray(jax.jit(algorithm.collect)(state)[2].returns)
    np.testing.assert_array_equal(returns[0], returns[1])
    assert len(np.unique(returns[0])) > 1


@pytest.mark.parametrize("deterministic", [True, False])
def test_members_act_by_the_mode_or_draw(deterministic):
    env = ActionReward(continuous=True)
    algorithm = ES(env=env, deterministic=deterministic, noise_stddev=1e-30, **SMALL)
    returns = np.asarray(jax.jit(algorithm.collect)(algorithm.init(random.key(3)))[2].returns)
    assert (len(np.unique(returns)) == 1) == deterministic


def test_each_member_plays_its_own_episodes():
    algorithm = ES(env=CARTPOLE, episodes_per_member=2, noise_stddev=2.0, **SMALL)
    state = algorithm.init(random.key(3))
    episodes = jax.jit(algorithm.collect)(state)[2]
    center, unravel = ravel_pytree(state.variables)
    noise = es.draw_noise(update_key(state, "noise"), jnp.arange(3), center.size)
    members = es.mirrored(center, noise, 2.0)

    @jax.jit
    def alone(weights):
        policies, key = algorithm.policies(unravel(weights)), update_key(state, "episodes")
        return run_episodes(VectorEnv(CARTPOLE, 6), policies, key, 30).lengths

    for sign in range(2):
        for i in range(3):
            expected = alone(members[sign, i])[2 * i : 2 * i + 2]
            np.testing.assert_array_equal(episodes.lengths[sign, i], expected)
    assert len(np.unique(episodes.lengths)) > 2


def test_one_update_follows_the_equations():
    algorithm = ES(
        env=CARTPOLE, optimizer="sgd", momentum=0.75, learning_rate=0.1, weight_decay=0.5, **SMALL
    )
    state, new_state, metrics = updated(algorithm)
    theta = np.asarray(ravel_pytree(state.variables)[0])
    noise = np.asarray(es.draw_noise(update_key(state, "noise"), jnp.arange(3), theta.size))
    returns = np.asarray(jax.jit(algorithm.collect)(state)[2].returns)[..., 0]
    ranks = centered_ranks_by_counting(returns)
    gradient = (ranks[0] - ranks[1]) @ noise / (6 * 0.1)
    expected = theta + 0.1 * 0.25 * (gradient - 0.5 * theta)
    np.testing.assert_allclose(ravel_pytree(new_state.variables)[0], expected, atol=1e-5)
    summary = metrics["population/return"]
    got = [float(x) for x in (summary.count, summary.mean, summary.min, summary.max)]
    np.testing.assert_allclose(got, [6, returns.mean(), returns.min(), returns.max()], rtol=1e-6)
    np.testing.assert_allclose(summary.m2, 6 * returns.var(), rtol=1e-4)
    norms = [np.linalg.norm(gradient), np.linalg.norm(expected - theta)]
    got = [metrics[f"optimizer/{name}_norm"].mean for name in ("grad", "update")]
    np.testing.assert_allclose(got, norms, rtol=1e-4)
    assert int(new_state.updates) == 1


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_equal_returns_change_nothing(optimizer):
    env = ConstantReward()
    state, new_state, _ = updated(ES(env=env, optimizer=optimizer, weight_decay=0.0, **SMALL))
    assert digest(new_state.variables) == digest(state.variables)


def test_episodes_without_end_are_cut_and_count_as_they_stand():
    algorithm = ES(env=EndlessReward(), **SMALL)
    _, _, metrics = updated(algorithm)
    assert metrics["population/return"].mean == metrics["population/return"].max == 30.0
    assert metrics["population/env_steps"].mean == algorithm.steps_per_update == 6 * 30
    assert metrics["train/episode_return"].count == 0
    assert all(metrics[name].count == 0 for name in metrics if name.startswith("nonfinite/"))


# --- learning ---------------------------------------------------------------------------


def test_cartpole_is_solved_for_several_seeds_and_learning_rates():
    """48 generations; 30 seeds of 30 at these rates reached the best return, 500."""
    algorithm = ES(env=CARTPOLE, network=MLPPolicy((16,)), noise_stddev=0.2, max_steps=500)
    algorithm = algorithm.replace(total_steps=48 * algorithm.steps_per_update)

    @jax.jit
    @jax.vmap
    def train(learning_rate, key):
        state, metrics = algorithm.replace(learning_rate=learning_rate).train(key)
        return metrics, algorithm.evaluate(state.variables, random.key(9), 20, 500)

    rates = jnp.asarray([0.08, 0.1, 0.12])
    metrics, episodes = train(rates, jax.random.split(random.key(0), 3))
    assert metrics["population/return"].mean.shape == (3, 48)
    assert (np.asarray(episodes.returns).mean(axis=1) >= 400.0).all()


class See(ObservationConversion):
    """A number of the state and the number of the agent, one-hot together."""

    field: str = static(default="target")

    def space(self):
        return Box(0.0, 1.0, (4,))

    def maze_to_space(self, state, agent):
        return (jnp.arange(4) == 2 * state[self.field] + agent).astype(jnp.float32)


class Choose(ActionConversion):
    def space(self):
        return Discrete(2)

    def space_to_maze(self, action, state, agent):
        return action


class Whisper(CoreEnv):
    """One sees a bit and says a bit; then two at once answer it, one as it is, one negated.

    Each right answer earns 1; two rounds, so the best return is 4 and that of chance 2.
    """

    @property
    def actors(self):
        return (ActorID("say", 0), ActorID("answer", None))

    @property
    def agent_counts(self):
        return {"say": 1, "answer": 2}

    def reset(self, key):
        zero = jnp.zeros((), jnp.int32)
        return CoreReset({"target": random.randint(key, (), 2), "said": zero, "time": zero})

    def step(self, key, state, maze_action, actor):
        if actor.step_key == "say":
            return CoreStep({**state, "said": maze_action}, jnp.zeros(()), flag(), flag())
        right = maze_action == (state["target"] + jnp.arange(2)) % 2
        time = state["time"] + 1
        new = {"target": random.randint(key, (), 2), "said": state["said"], "time": time}
        return CoreStep(new, right.astype(jnp.float32), time >= 2, flag())


def test_actors_in_turn_and_at_once_learn_what_they_earn_together():
    """100 generations; the mode reached the best return, 4, in 40 seeds of 40."""
    actions = {"say": Choose(), "answer": Choose()}
    env = MazeEnv(Whisper(), {"say": See(), "answer": See("said")}, actions)
    algorithm = ES(
        env=env,
        network=MLPPolicy((8,)),
        episodes_per_member=4,
        max_steps=2,
        noise_stddev=0.3,
        learning_rate=0.1,
        total_steps=100 * 64 * 4 * 2,
    )

    _, metrics = jax.jit(jax.vmap(algorithm.train))(jax.random.split(random.key(0), 3))
    returns = np.asarray(metrics["population/return"].mean)
    assert returns[:, 0].mean() < 2.5
    assert (returns[:, -1] >= 3.5).all()


# --- runs -------------------------------------------------------------------------------


def tiny_run(directory, updates, env="CartPole-v1", **changes):
    fields = {
        "network": {"hidden": [8]},
        "population_size": 4,
        "max_steps": 20,
        "total_steps": updates * 80,
        "eval_episodes": 3,
        "num_evaluations": 2,
        "tensorboard": False,
        "progress": "none",
    }
    return RunContext("es", env, directory=directory, **{**fields, **changes})


def test_a_run_goes_on_bit_for_bit(tmp_path):
    short = tiny_run(tmp_path / "short", 3).train()
    longer = RunContext.load(short.directory, total_steps=7 * 80).train()
    whole = tiny_run(tmp_path / "whole", 7).train()
    assert int(whole.state.updates) == 7
    assert digest(longer.state) == digest(whole.state)
    np.testing.assert_array_equal(longer.evaluate(3).returns, whole.evaluate(3).returns)
    assert longer.algorithm == whole.algorithm
    assert isinstance(longer.algorithm.network, MLPPolicy)
    assert "population/return" in whole.metrics
    plan = whole.plan()
    assert (plan.num_envs, plan.steps_per_update, plan.num_updates) == (4, 80, 7)


def test_different_seeds_learn_different_things(tmp_path):
    runs = [tiny_run(tmp_path / str(seed), 3, seed=seed).train() for seed in (0, 1)]
    assert digest(runs[0].state.variables) != digest(runs[1].state.variables)


class Poisoned(ActionReward):
    """Whatever is done earns nan."""

    def reward(self, state, action):
        return jnp.full((), jnp.nan, jnp.float32)


def test_a_reward_that_is_not_finite_stops_the_run(tmp_path):
    with pytest.raises(EnvError, match=r"update 1: reward is not finite"):
        tiny_run(tmp_path / "run", 2, env=Poisoned()).train()


# --- errors -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"population_size": 5}, r"population_size: must be even.*got 5; try 4 or 6"),
        ({"population_size": 1}, r"population_size: must be even.*got 1; try 2"),
        ({"population_size": 0}, r"population_size: must be a positive integer, got 0"),
        ({"num_envs": 4}, r"ES\.num_envs: follows from other fields; set those instead"),
        ({"network": MLPPolicy}, r"network: .* got the class MLPPolicy; write MLPPolicy\(\)"),
        ({"population_size": "8"}, r"population_size: must be a positive integer"),
        ({"episodes_per_member": 0}, r"episodes_per_member: must be a positive integer"),
        ({"max_steps": 0}, r"max_steps: must be a positive integer"),
        ({"noise_stddev": 0.0}, r"noise_stddev: must be finite and in \(0"),
        ({"learning_rate": -1.0}, r"learning_rate"),
        ({"weight_decay": -0.1}, r"weight_decay"),
        ({"momentum": 1.0}, r"momentum: must be finite and in \[0, 1\), got 1.0"),
        ({"optimizer": "adm"}, r"optimizer: unknown 'adm'; did you mean 'adam'"),
        ({"network": 3}, r"network: expected a template"),
        ({"reset_params": CURRICULUM}, r"reset_params: SuccessGatedCurriculum remembers"),
    ],
)
def test_what_cannot_work_is_refused_by_name(changes, message):
    with pytest.raises(ConfigError, match=message):
        ES(env=CARTPOLE, **changes)


def test_the_number_of_envs_follows_from_the_population(tmp_path):
    algorithm = ES(env=CARTPOLE, population_size=8, episodes_per_member=3)
    assert (algorithm.num_envs, algorithm.replace(population_size=2).num_envs) == (24, 6)
    assert eval(repr(MLPPolicy((4,)))) == MLPPolicy((4,))
    assert isinstance(algorithm, Pytree) and "num_envs" not in repr(algorithm)
    with pytest.raises(ConfigError, match="num_envs: unknown key"):
        tiny_run(tmp_path, 1, num_envs=8)


def test_the_value_of_a_policy_alone_is_zero_and_has_no_weights():
    network = MLPPolicy((8,)).build(CARTPOLE.observation_space, CARTPOLE.action_space)
    output, _ = network.apply(network.init(random.key(0)), jnp.ones((5, 4)))
    np.testing.assert_array_equal(output.value, np.zeros(5))
    assert network.num_parameters() == 4 * 8 + 8 + 8 * 2 + 2
