"""Rewards as weighted sums of aggregators, each part an event of its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mazejax
from mazejax import random
from mazejax.envs.cutting2d.events import CuttingEvents, InventoryEvents
from mazejax.envs.episode import play, random_policy
from mazejax.envs.reward import RewardAggregator, RewardSum
from mazejax.envs.vector import VectorEnv
from mazejax.errors import ConfigError
from mazejax.events.builtin import RewardEvents

KEY = random.key(2)


class Price(RewardAggregator):
    each: float = -1.0

    def summarize(self, events, state):
        return self.each * events.count(InventoryEvents.piece_replenished).astype(jnp.float32)


class Praise(RewardAggregator):
    def summarize(self, events, state):
        return events.count(CuttingEvents.valid_cut).astype(jnp.float32)


SUM = RewardSum({"price": Price(), "praise": Praise()}, {"praise": 0.25})


def cutting(aggregator, structured):
    env = mazejax.make("Cutting2D-v0", structured=structured, masked=True, max_steps=8)
    return env.replace(env=env.env.replace(reward_aggregator=aggregator))


@pytest.mark.parametrize("structured", [False, True])
def test_the_reward_is_the_weighted_sum_and_its_parts_are_statistics(structured):
    env = cutting(SUM, structured)
    episode = jax.jit(lambda key: play(env, random_policy(env), key, 8))(KEY)
    statistics = episode.statistics()
    pieces = statistics.count(InventoryEvents.piece_replenished)
    cuts = statistics.count(CuttingEvents.valid_cut)
    np.testing.assert_allclose(episode.episode_return, -pieces + 0.25 * cuts, rtol=1e-6)
    (part,) = [e for e in statistics.events if e.id == RewardEvents.reward_part.id]
    assert part.attributes["name"].labels == ("price", "praise")
    np.testing.assert_allclose(statistics.value(part, "value"), [-pieces, 0.25 * cuts], rtol=1e-6)
    assert pieces > 0 and cuts > 0


def test_weights_and_numbers_of_the_parts_are_swept_like_any_number():
    env = cutting(SUM, False)
    prices = jnp.array([-1.0, -3.0])
    assert jax.tree.leaves(SUM) == [-1.0, 0.25]

    def play_at(price):
        swept = RewardSum({"price": Price(price), "praise": Praise()}, {"praise": 0.25})
        own = env.replace(env=env.env.replace(reward_aggregator=swept))
        return play(own, random_policy(own), KEY, 8).episode_return

    cheap, dear = jax.jit(jax.vmap(play_at))(prices)
    assert dear < cheap


def test_a_sum_of_agents_at_once_is_given_to_each_and_counted_together():
    class Even(RewardAggregator):
        def summarize(self, events, state):
            return jnp.ones(3, jnp.float32)

    env = mazejax.make("Foraging-v0", num_agents=3)
    env = env.replace(reward_aggregator=RewardSum({"even": Even()}, {"even": 2.0}))
    envs = VectorEnv(env, 2)
    step = jax.jit(lambda: envs.step(envs.reset(KEY)[1], jnp.zeros((2, 3), jnp.int32)))()
    np.testing.assert_array_equal(step.reward, np.full((2, 3), 2.0))
    values = step.info["events"].firings[RewardEvents.reward_part.id].attributes["value"]
    np.testing.assert_array_equal(values[:, 0], [6.0, 6.0])


def test_what_cannot_be_summed_is_refused():
    with pytest.raises(ConfigError, match=r"RewardSum.aggregators: expected at least one"):
        RewardSum({})
    with pytest.raises(ConfigError, match=r"weights\['pries'\]: weighs no .* 'price'"):
        RewardSum({"price": Price()}, {"pries": 1.0})
    with pytest.raises(ConfigError, match=r"aggregators\['price'\]: expected a RewardAggregator"):
        RewardSum({"price": 3.0})
