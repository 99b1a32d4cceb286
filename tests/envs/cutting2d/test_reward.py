"""What the events of Cutting-2D cost."""

import jax
import jax.numpy as jnp

from mazejax import random
from mazejax.envs.cutting2d.events import CuttingEvents, InventoryEvents
from mazejax.envs.cutting2d.make import make_cutting2d
from mazejax.envs.cutting2d.reward import CuttingRewardAggregator
from mazejax.events.log import EventLog

KEY = random.key(0)
CUT = {"cut_rotation": 0, "cut_order": 0}


def test_penalties_are_summed_and_may_be_swept():
    log = EventLog.empty(CuttingEvents, InventoryEvents)
    log = log.fire(InventoryEvents.piece_replenished).fire(InventoryEvents.piece_replenished)
    log = log.fire(CuttingEvents.invalid_piece_selected)
    reward = CuttingRewardAggregator().summarize(log, None)
    assert reward == -4 and reward.dtype == jnp.float32 and not reward.weak_type
    swept = jax.vmap(lambda x: CuttingRewardAggregator(-3.0, x).summarize(log, None))
    assert swept(jnp.float32([0, -1, -2])).tolist() == [-3, -5, -7]


def test_a_worked_example():
    env = make_cutting2d(invalid_action_penalty=-5.0)
    rewards, state, take = [], env.reset(KEY)[1], jax.jit(env.step)
    for piece_idx in (0, 1, 7, 0, 1):
        step = take(KEY, state, {"piece_idx": piece_idx, **CUT})
        rewards.append(float(step.reward))
        state = step.state
    # The raw pieces of the reset and of the cut; 1 x 2 from 1 x 1; 1 x 1 from none; 2 x 2 from
    # 3 x 3 for nothing; 1 x 2 from the next raw piece.
    assert rewards == [-2, -5, -5, 0, -1]
    left = [[1, 1], [1, 3], [2, 1], [3, 3], [1, 1], [4, 3]]
    assert state.core.inventory.pieces[:7].tolist() == [*left, [0, 0]]


def test_the_raw_piece_of_the_reset_is_charged_to_the_first_flat_step():
    for structured in (False, True):
        env = make_cutting2d(structured)
        state, take = env.reset(KEY)[1], jax.jit(env.step)
        if structured:
            selected = take(KEY, state, {"piece_idx": 0})
            assert selected.reward == 0 and int(selected.state.time) == 0
            step = take(KEY, selected.state, CUT)
            assert [float(half) for half in step.info["actor_rewards"]] == [-1, -1]
        else:
            step = take(KEY, state, {"piece_idx": 0, **CUT})
            assert "actor_rewards" not in step.info
        assert step.reward == -2 and int(step.state.time) == 1
        assert int(step.info["events"].count(InventoryEvents.piece_replenished)) == 2
