"""Objectives by name and numbers, around an env that is made already."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mazejax
from mazejax import random, registry
from mazejax.envs.check import check_env
from mazejax.envs.cutting2d.events import CuttingEvents, InventoryEvents
from mazejax.envs.cutting2d.reward import CuttingRewardAggregator
from mazejax.envs.episode import play, random_policy
from mazejax.envs.reward import RewardAggregator, RewardSum
from mazejax.errors import ConfigError, EnvError
from mazejax.wrappers import wrap, wrappers_config
from mazejax.wrappers.aggregation import RewardFromEvents

KEY = random.key(1)
CUTTING = mazejax.make("Cutting2D-v0", masked=True, max_steps=8)
CONFIG = {
    "aggregator": "RewardSum",
    "aggregators": {
        "waste": {"aggregator": "CuttingRewardAggregator", "raw_piece_usage_penalty": -3.0},
        "cuts": {"aggregator": "PraiseOfCuts"},
    },
    "weights": {"cuts": 0.5},
}


@registry.rewards.register("PraiseOfCuts")
class PraiseOfCuts(RewardAggregator):
    def summarize(self, events, state):
        return events.count(CuttingEvents.valid_cut).astype(jnp.float32)


def test_the_reward_follows_from_the_events():
    env = wrap(CUTTING, {"RewardFromEvents": {"aggregator": CONFIG}})
    episode = jax.jit(lambda: play(env, random_policy(env), KEY, 8))()
    statistics = episode.statistics()
    invalid = statistics.count(CuttingEvents.invalid_cut)
    pieces, cuts = (
        statistics.count(e) for e in (InventoryEvents.piece_replenished, CuttingEvents.valid_cut)
    )
    wanted = -3.0 * pieces - 2.0 * invalid + 0.5 * cuts
    np.testing.assert_allclose(episode.episode_return, wanted, rtol=1e-6)
    original = episode.substeps[0].info["reward_original"].sum()
    np.testing.assert_allclose(original, -1.0 * pieces - 2.0 * invalid, rtol=1e-6)


def test_objectives_are_plain_data_and_back():
    env = wrap(CUTTING, {"RewardFromEvents": {"aggregator": CONFIG}})
    stored = wrappers_config(env, inside=CUTTING)
    waste = stored[0]["RewardFromEvents"]["aggregator"]["aggregators"]["waste"]
    assert waste["raw_piece_usage_penalty"] == -3.0 and waste["invalid_action_penalty"] == -2.0
    assert wrap(CUTTING, stored) == env
    by_hand = RewardSum(
        {"waste": CuttingRewardAggregator(raw_piece_usage_penalty=-3.0), "cuts": PraiseOfCuts()},
        {"cuts": 0.5},
    )
    assert RewardFromEvents(CUTTING, by_hand) == env


@pytest.mark.slow
def test_it_keeps_the_contract_of_environments():
    check_env(wrap(CUTTING, {"RewardFromEvents": {"aggregator": "CuttingRewardAggregator"}}))


def test_what_gives_no_reward_is_refused():
    with pytest.raises(ConfigError, match="unknown reward 'CuttingReward'"):
        RewardFromEvents(CUTTING, "CuttingReward")
    with pytest.raises(ConfigError, match=r"aggregator.penalty: unknown key"):
        RewardFromEvents(CUTTING, {"aggregator": "CuttingRewardAggregator", "penalty": 1.0})
    with pytest.raises(ConfigError, match=r"aggregator\.aggregators: missing; RewardSum needs it"):
        RewardFromEvents(CUTTING, {"aggregator": "RewardSum"})
    with pytest.raises(ConfigError, match="expected an aggregator's name under 'aggregator'"):
        RewardFromEvents(CUTTING, {"weights": {}})
    pole = RewardFromEvents(mazejax.make("CartPole-v1"), PraiseOfCuts())
    with pytest.raises(EnvError, match=r"CartPole.* fires no events"):
        pole.step(KEY, pole.reset_state(KEY), 0)
