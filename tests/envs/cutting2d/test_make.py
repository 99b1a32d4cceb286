"""Cutting-2D as a whole."""

import jax
import pytest

from mazejax import random
from mazejax.envs.cutting2d.core import CUTTING, SELECTION
from mazejax.envs.cutting2d.demand import RandomDemand
from mazejax.envs.cutting2d.make import make_cutting2d
from mazejax.envs.vector import VectorEnv
from mazejax.wrappers.time import TimeLimit


def test_numbers_reach_the_parts():
    env = make_cutting2d(True, True, RandomDemand(), (6, 5), 7, -4.0, -3.0)
    assert env.actors == (SELECTION, CUTTING)
    assert env.core_env.raw_piece_size == (6, 5) and env.core_env.demand == RandomDemand()
    assert env.reward_aggregator.invalid_action_penalty == -4
    assert env.reward_aggregator.raw_piece_usage_penalty == -3
    assert env.action_spaces["selection"]["piece_idx"].n == 7
    assert env.observation_spaces["selection"]["inventory"].shape == (7, 2)
    assert env.observation_spaces["cutting"]["selected_piece"].high.tolist() == [7, 6]


@pytest.mark.parametrize("structured", [False, True])
def test_the_defaults_are_those_of_the_core_env(structured):
    env = make_cutting2d(structured)
    assert env.core_env == type(env.core_env)(structured=structured)


def test_states_are_small():
    for structured, wanted in ((False, 113), (True, 114)):
        state = make_cutting2d(structured).reset_state(random.key(0))
        assert sum(leaf.nbytes for leaf in jax.tree.leaves(state)) == wanted


def test_vectorized_episodes_end_with_the_clock_and_begin_with_a_raw_piece():
    env = VectorEnv(TimeLimit(make_cutting2d(masked=True, max_pieces=8), 3), 4)
    _, state = jax.jit(env.reset)(random.key(1))
    action = {name: jax.numpy.zeros(4, "int32") for name in env.action_space}
    step_env = jax.jit(env.step)
    for t in range(1, 4):
        step = step_env(state, action)
        state = step.state
        assert step.truncated.all() == (t == 3) and not step.terminated.any()
    assert step.obs["inventory_size"].tolist() == [[1.0]] * 4
    assert (step.info["final_obs"]["inventory_size"] > 1).all()
    assert step.info["final_obs"]["piece_idx_mask"].any(axis=1).all()
