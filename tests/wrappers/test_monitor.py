"""What monitoring wrappers fire, and the statistics that a wrapper keeps by itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mazejax
from mazejax import random
from mazejax.envs.base import Env, StateStep
from mazejax.envs.check import check_env
from mazejax.envs.cutting2d.events import InventoryEvents
from mazejax.envs.episode import play, random_policy
from mazejax.envs.vector import VectorEnv
from mazejax.errors import ConfigError
from mazejax.events.builtin import BaseEnvEvents
from mazejax.events.epoch import EpochStatistics
from mazejax.events.report import merge_summaries, report
from mazejax.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from mazejax.wrappers.base import find_state
from mazejax.wrappers.monitor import Monitoring, ObservationVisualization, StatisticsLogging
from mazejax.wrappers.repeat import StepSkip

KEY = random.key(4)


class Mixed(Env):
    """Every kind of action and observation; it lasts five steps."""

    SPACE = Dict(
        {
            "level": Discrete(3, start=2),
            "lights": MultiBinary(4),
            "modes": MultiDiscrete([2, 3]),
            "push": Box(-1.0, 1.0, (2,)),
        }
    )

    @property
    def observation_space(self):
        return self.SPACE

    @property
    def action_space(self):
        return self.SPACE

    def reset_state(self, key):
        return {"time": jnp.zeros((), jnp.int32), "seen": self.SPACE.sample(key)}

    def step_state(self, key, state, action):
        time = state["time"] + 1
        new = {"time": time, "seen": action}
        return StateStep(new, jnp.float32(1.0), time >= 5, jnp.zeros((), bool), {})

    def observe(self, state):
        return state["seen"]

    def time(self, state):
        return state["time"]


CUTTING = mazejax.make("Cutting2D-v0", structured=True, max_steps=6)


def played(env, steps=6):
    return jax.jit(lambda key: play(env, random_policy(env), key, steps))(KEY)


def reported(episode):
    """The report of an epoch of this one episode."""
    batch = jax.tree.map(lambda x: x[None], episode.statistics())
    epoch = EpochStatistics.start(batch).add(batch, {}, jnp.array([True]))
    return report("train", merge_summaries([jax.device_get(epoch.summaries())]))


def test_actions_become_counts_of_each_choice():
    episode = played(Monitoring(CUTTING))
    drawn = reported(episode).distributions
    selection, cutting = episode.actions
    for tag, action, size in (
        ("selection/piece_idx", selection["piece_idx"], 50),
        ("cutting/cut_rotation", cutting["cut_rotation"], 2),
        ("cutting/cut_order", cutting["cut_order"], 2),
    ):
        found = drawn.pop(f"train_ActionEvents/discrete_action/{tag}")
        np.testing.assert_array_equal(found.counts, np.bincount(action, minlength=size))
        assert found.plot == "relative_bars"
    assert not drawn


def test_the_wrapper_changes_nothing_else():
    bare, watched = played(CUTTING), played(Monitoring(CUTTING, observation_logging=True))
    for mine, theirs in zip(bare.substeps, watched.substeps, strict=True):
        for part in ("obs", "action", "reward", "active"):
            jax.tree.map(np.testing.assert_array_equal, getattr(mine, part), getattr(theirs, part))
        own = mine.info["events"].firings
        for name, firings in own.items():
            jax.tree.map(
                np.testing.assert_array_equal, firings, theirs.info["events"].firings[name]
            )


def test_every_kind_of_action_and_observation_has_its_event():
    episode = played(Monitoring(Mixed(), observation_logging=True))
    tags = {tag.split("/", 1)[1]: d for tag, d in reported(episode).distributions.items()}
    (action,) = episode.actions
    steps = int(episode.length)
    kinds = {tag: (d.plot, d.counts.shape) for tag, d in tags.items() if "action/" in tag}
    for name, own in action.items():
        space = Mixed.SPACE[name]
        kind = type(space).__name__
        if kind == "Discrete":
            assert kinds[f"discrete_action/{name}"] == ("relative_bars", (space.n,))
            counts = np.bincount(np.asarray(own)[:steps] - space.start, minlength=space.n)
            np.testing.assert_array_equal(tags[f"discrete_action/{name}"].counts, counts)
        elif kind == "MultiDiscrete":
            for i, categories in enumerate(np.ravel(space.nvec)):
                assert kinds[f"discrete_action/{name}_{i}"][1] == (categories,)
                counts = np.bincount(np.asarray(own)[:steps].reshape(steps, -1)[:, i])
                found = tags[f"discrete_action/{name}_{i}"].counts
                np.testing.assert_array_equal(found[: len(counts)], counts)
        elif kind == "MultiBinary":
            found = tags[f"multi_binary_action/{name}"]
            ones = np.asarray(own)[:steps].reshape(steps, -1).sum(axis=0)
            np.testing.assert_array_equal(found.counts[:, 1], ones)
        else:
            assert kinds[f"continuous_action/{name}"][0] == "violin"
    observed = [d.total for tag, d in tags.items() if "observation_processed" in tag]
    assert observed and all(total % steps == 0 for total in observed)


def test_agents_at_once_have_a_group_each_and_inactive_ones_fire_nothing():
    env = Monitoring(mazejax.make("Foraging-v0", num_agents=3, initial_energy=4))
    episode = played(env, 12)
    drawn = reported(episode).distributions
    (substep,) = episode.substeps
    for agent in range(3):
        acted = np.asarray(substep.action)[:, agent][np.asarray(substep.active)[:, agent]]
        found = drawn[f"train_ActionEvents/discrete_action/action/agent_{agent}"]
        np.testing.assert_array_equal(found.counts, np.bincount(acted, minlength=5))
    assert not substep.active.all()


def test_rewards_are_logged_by_step_key_and_the_original_ones_by_the_learner():
    scalars = reported(played(Monitoring(CUTTING))).scalars
    total = scalars["train_RewardEvents/reward_processed/mean/cutting"]
    assert total == played(CUTTING).episode_return
    assert scalars["train_RewardEvents/reward_processed/mean/selection"] == 0


def test_observations_are_drawn_entry_by_entry():
    env = ObservationVisualization(mazejax.make("Pendulum-v1", max_steps=7), plot="violin")
    episode = played(env, 7)
    (drawn,) = reported(episode).distributions.values()
    assert drawn.plot == "violin" and drawn.counts.shape[0] == 3
    for entry, seen in enumerate(np.asarray(episode.substeps[0].obs).T):
        wanted = np.histogram(seen, drawn.edges)[0]
        assert np.abs(drawn.counts[entry] - wanted).sum() <= 2  # by rounding at an edge
    with pytest.raises(ConfigError, match="no 'obs'; known names: observation"):
        ObservationVisualization(mazejax.make("Pendulum-v1"), ("obs",))
    with pytest.raises(ConfigError, match="plot: unknown 'bars'"):
        ObservationVisualization(mazejax.make("Pendulum-v1"), plot="bars")


def test_statistics_are_kept_in_the_state_and_outlive_an_auto_reset():
    env = StatisticsLogging(CUTTING)
    vector = VectorEnv(env, 3)
    policy = random_policy(env)

    @jax.jit
    def one_substep(obs, state):
        actor = vector.actor_id(state)
        keys = vector.keys(state, "policy")
        action = jax.vmap(lambda key, obs: policy(key, obs, None, actor))(keys, obs)
        step = vector.step(state, action)
        return step.obs, step.state, step.reward

    obs, state = vector.reset(KEY)
    returns = np.zeros(3)
    for t in range(6 * 2):
        own = find_state(env, StatisticsLogging, state.envs)
        assert np.asarray(jax.vmap(env.statistics)(own).num_steps).tolist() == [t // 2] * 3
        obs, state, reward = one_substep(obs, state)
        returns += np.asarray(reward)
    own = find_state(env, StatisticsLogging, state.envs)
    finished = jax.vmap(env.last_episode)(own)
    assert finished.num_steps.tolist() == [6] * 3
    assert jax.vmap(env.statistics)(own).num_steps.tolist() == [0] * 3
    earned = jax.vmap(lambda s: s.value(BaseEnvEvents.reward, "sum"))(finished)
    np.testing.assert_allclose(earned, returns)


def test_skipped_steps_are_in_the_statistics():
    env = StatisticsLogging(StepSkip(CUTTING, n_steps=3))
    episode = played(env, 2)
    last = find_state(env, StatisticsLogging, episode.final_state)
    statistics = env.statistics(last)
    assert int(statistics.num_steps) == 2 and int(episode.length) == 2
    assert int(statistics.count(InventoryEvents.pieces_in_inventory)) == 6
    assert statistics.value(BaseEnvEvents.reward, "sum") == episode.episode_return


def test_events_of_the_last_flat_step_can_be_asked_for():
    env = StatisticsLogging(CUTTING)
    state = env.reset_state(KEY)
    fired = []
    for actor in env.actors:
        action = jax.tree.map(jnp.zeros_like, env.action_spaces[actor.step_key].sample(KEY))
        step = env.step(KEY, state, action)
        state = step.state
        fired.append(step.info["events"])
    for mine, theirs in zip(fired, env.last_events(state), strict=True):
        for name, firings in mine.firings.items():
            assert int(theirs.firings[name].count) == int(firings.count)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(Monitoring, marks=pytest.mark.slow),
        pytest.param(ObservationVisualization, marks=pytest.mark.slow),
        StatisticsLogging,
    ],
)
def test_they_keep_the_contract_of_environments(kind):
    check_env(kind(mazejax.make("Cutting2D-v0", max_steps=6)))
