"""The greedy baseline, and the totals that Maze's tutorial reaches with it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.envs.cutting2d.demand import CyclicDemand, RandomDemand, StaticDemand
from mazejax.envs.cutting2d.events import CuttingEvents, CuttingKPIs, InventoryEvents
from mazejax.envs.cutting2d.make import make_cutting2d
from mazejax.envs.cutting2d.policies import GreedyPolicy
from mazejax.envs.episode import play
from mazejax.errors import ConfigError
from mazejax.types import SINGLE_ACTOR

KEY = random.key(0)
STUCK = StaticDemand((1, 2))


@functools.cache
def greedy_episode(cut_order, demand, structured, from_obs=False):
    """Return, first reward, and events of 180 steps."""
    env, greedy = make_cutting2d(structured, demand=demand), GreedyPolicy(cut_order)

    def policy(key, obs, maze_state, actor):
        return greedy(key, obs, None if from_obs else maze_state, actor)

    episode = jax.jit(lambda key: play(env, policy, key, 180))(KEY)
    last = episode.substeps[-1]
    return float(episode.episode_return), float(last.reward[0]), last.info["events"], episode


def total(events, event):
    return int(events.count(event).sum())


@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize(
    ("cut_order", "demand", "wanted", "discarded"),
    [
        (0, CyclicDemand(), -31, 0),
        (1, CyclicDemand(), -31, 0),
        (0, STUCK, -46, 131),
        (1, STUCK, -31, 0),
    ],
)
def test_greedy_reaches_the_totals_of_the_tutorial(
    structured, cut_order, demand, wanted, discarded
):
    episode_return, first_reward, events, _ = greedy_episode(cut_order, demand, structured)
    assert (episode_return, first_reward) == (wanted, -2)
    assert total(events, InventoryEvents.piece_replenished) == -wanted
    assert total(events, InventoryEvents.piece_discarded) == discarded
    assert total(events, CuttingEvents.valid_cut) == 180


def test_the_kpi_counts_raw_pieces_by_flat_steps():
    for structured in (False, True):
        episode = greedy_episode(0, STUCK, structured)[3]
        kpis = CuttingKPIs().calculate(episode.statistics(), None)
        assert list(kpis) == ["raw_piece_usage_per_step"]
        np.testing.assert_allclose(kpis["raw_piece_usage_per_step"], 46 / 180)
        assert round(46 / 180, 4) == 0.2556


@pytest.mark.parametrize("structured", [False, True])
def test_the_observation_says_as_much_as_the_state(structured):
    demand = RandomDemand((1, 1), (3, 3))
    by_state = greedy_episode(0, demand, structured)[3]
    by_obs = greedy_episode(0, demand, structured, from_obs=True)[3]
    jax.tree.map(np.testing.assert_array_equal, by_state.actions, by_obs.actions)
    assert float(by_state.episode_return) == float(by_obs.episode_return)


def test_greedy_takes_the_smallest_that_fits_and_turns_only_if_it_must():
    @jax.jit
    def greedy(order, pieces):
        obs = {"inventory": pieces, "ordered_piece": order}
        return GreedyPolicy(1)(KEY, obs, None, SINGLE_ACTOR)

    def choice(order, *pieces):
        action = greedy(jnp.float32(order), jnp.float32(pieces))
        return tuple(int(action[name]) for name in ("piece_idx", "cut_rotation", "cut_order"))

    assert choice((1, 2), (4, 3), (2, 2), (1, 3), (1, 1)) == (2, 0, 1)
    assert choice((1, 2), (4, 3), (3, 1), (1, 1), (0, 0)) == (1, 1, 1)
    assert choice((1, 2), (3, 3), (2, 2), (2, 2), (4, 4)) == (1, 0, 1)
    assert choice((3, 3), (1, 1), (2, 3), (0, 0), (0, 0)) == (0, 0, 1)


def test_there_are_two_orders_of_cutting():
    with pytest.raises(ConfigError, match=r"GreedyPolicy\.cut_order: must be 0 or 1, got 2"):
        GreedyPolicy(2)
