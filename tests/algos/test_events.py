"""Statistics where env and policy meet: the same in training, evaluation and rollouts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mazejax
from mazejax import random
from mazejax.algos import collect as collecting
from mazejax.algos import events
from mazejax.algos.metrics import merge_rows
from mazejax.envs.cutting2d.events import CuttingEvents, InventoryEvents
from mazejax.errors import ConfigError
from mazejax.events.report import merge_summaries, report
from mazejax.networks.mlp import MLPActorCritic
from mazejax.runners.evaluation import evaluate
from mazejax.runners.event_playing import trained_policy
from mazejax.runners.event_recording import record_events
from mazejax.wrappers.reward import RewardScaling

KEY = random.key(6)
STEPS = 7
CUTTING = mazejax.make("Cutting2D-v0", structured=True, masked=True, max_pieces=6, max_steps=STEPS)
SIZES = {"num_envs": 3, "num_steps": 10, "total_steps": 60, "network": MLPActorCritic((8,))}
PPO = mazejax.PPO(env=CUTTING, num_minibatches=2, **SIZES)


def rows_of(metrics):
    """The metrics [updates] as a list of host rows."""
    arrays = jax.device_get(metrics)
    count = len(arrays["train/episode_return"].count)
    return [jax.tree.map(lambda x, i=i: x[i], arrays) for i in range(count)]


def reported(metrics):
    return report("train", merge_summaries(rows_of(metrics)), {}).scalars


@pytest.fixture(scope="module")
def trained():
    return jax.jit(PPO.train)(KEY)


def test_training_counts_what_a_plain_loop_over_its_steps_counts(trained):
    """Two updates of 10 steps; episodes of 7 end in steps 7 and 14, the last 6 do not count."""
    step = jax.jit(
        lambda variables, state: collecting.step(
            PPO.vector_env, PPO.policies(variables), state, None
        )
    )
    learn = jax.jit(PPO.update)
    state = jax.jit(PPO.init)(KEY)
    cuts, pieces, values = [], [], []
    for _ in range(2):
        at = state.collect
        for _ in range(PPO.num_steps):
            before = at.statistics
            at, now = step(state.variables, at)
            end = now.end.statistics
            cuts.append(end.counts - before.counts)
            pieces.append(end.value(InventoryEvents.pieces_in_inventory, "step_max"))
            values.append(now.transitions["selection"].value)
        state, _ = learn(state)
    scalars = reported(trained[1])
    place = PPO_EVENTS.index(CuttingEvents.valid_cut)
    total = int(np.sum(cuts[:14], axis=0)[:, place].sum())
    assert scalars["train_CuttingEvents/valid_cut/total"] == total > 0
    assert scalars["train_CuttingEvents/valid_cut/mean_episode_total"] == total / 6
    assert scalars["train_InventoryEvents/pieces_in_inventory/step_max"] == max(
        np.max(pieces[6]), np.max(pieces[13])
    )
    thought = np.stack(values)[:14].reshape(2, 7, 3).mean(axis=1)
    np.testing.assert_allclose(
        scalars["train_PolicyEvents/value/mean/selection"], thought.mean(), rtol=1e-5, atol=1e-6
    )
    assert scalars["train_BaseEnvEvents/reward/episode_count"] == 6
    assert scalars["train_BaseEnvEvents/reward/total_step_count"] == 6 * STEPS
    assert scalars["train_BaseEnvEvents/reward/median_step_count"] == STEPS


PPO_EVENTS = events.to_keep(PPO.vector_env, "all")


def test_the_reward_event_is_the_return_of_episodes(trained):
    plain = merge_rows(rows_of(trained[1]))["train/episode_return"]
    scalars = reported(trained[1])
    for reducer in ("mean", "std", "min", "max"):
        tag = f"train_BaseEnvEvents/reward/{reducer}"
        np.testing.assert_allclose(scalars[tag], plain[reducer], rtol=1e-6)


@pytest.mark.parametrize("level", ["env", "none"])
def test_keeping_statistics_does_not_change_what_is_learned(trained, level):
    state, metrics = jax.jit(PPO.replace(statistics=level).train)(KEY)
    jax.tree.map(
        lambda mine, theirs: np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=1e-6),
        state.variables,
        trained[0].variables,
    )
    scalars = reported(metrics)
    assert ("train_CuttingEvents/valid_cut/total" in scalars) == (level == "env")
    assert not any("PolicyEvents" in tag for tag in scalars)
    assert "train_BaseEnvEvents/reward/mean" in scalars


def test_evaluation_and_recorded_rollouts_tell_the_same(trained):
    variables = trained[0].variables
    result = evaluate(PPO, variables, seed=3, episodes=5, deterministic=False)
    scalars = result.report().scalars
    recorded = record_events(
        CUTTING,
        trained_policy(PPO, variables, deterministic=False),
        random.stream(random.key(3), "evaluation"),
        num_episodes=5,
    )
    for event in (CuttingEvents.valid_cut, InventoryEvents.piece_replenished):
        tag = f"eval_{event.id.replace('.', '/')}/total"
        assert scalars.get(tag, 0) == len(recorded[event].env_time)
    pieces = recorded[InventoryEvents.pieces_in_inventory].attributes["value"]
    assert scalars["eval_InventoryEvents/pieces_in_inventory/step_max"] == pieces.max()
    np.testing.assert_allclose(
        scalars["eval_InventoryEvents/pieces_in_inventory/step_mean"], pieces.mean(), rtol=1e-6
    )
    rolled = recorded.report().scalars
    mine = {tag.removeprefix("eval"): v for tag, v in scalars.items() if "PolicyE" not in tag}
    assert {tag.removeprefix("rollout"): pytest.approx(v) for tag, v in rolled.items()} == mine
    kpis = recorded["BaseEnvEvents.kpi"].attributes["value"]
    assert result.kpis == {"raw_piece_usage_per_step": pytest.approx(kpis.mean(), rel=1e-6)}
    assert "raw_piece_usage_per_step 0." in str(result)
    assert scalars["eval_BaseEnvEvents/reward/mean"] == pytest.approx(result.mean_return)


def test_episodes_that_do_not_end_are_not_in_the_statistics(trained):
    result = evaluate(PPO, trained[0].variables, seed=3, episodes=4, max_steps=STEPS - 1)
    assert result.unfinished == 4 and result.report().scalars == {} and result.kpis == {}


def test_rewards_before_wrappers_changed_them_have_an_event_of_their_own():
    algorithm = mazejax.A2C(env=RewardScaling(CUTTING, 0.5), **SIZES)
    scalars = reported(jax.jit(algorithm.train)(KEY)[1])
    for reducer in ("mean", "min", "max"):
        original = scalars[f"train_RewardEvents/reward_original/{reducer}"]
        assert scalars[f"train_BaseEnvEvents/reward/{reducer}"] == pytest.approx(0.5 * original)


def test_populations_keep_statistics_of_all_members():
    algorithm = mazejax.ES(
        env=CUTTING, population_size=6, max_steps=STEPS, total_steps=6 * STEPS * 2
    )
    metrics = jax.jit(algorithm.train)(KEY)[1]
    scalars = reported(metrics)
    assert scalars["train_BaseEnvEvents/reward/episode_count"] == 12
    found = jax.device_get(metrics)["InventoryEvents.piece_replenished/count"]
    assert found.moments.count.tolist() == [6, 6]
    usage = scalars["train_InventoryEvents/piece_replenished/total"] / (12 * STEPS)
    tag = "train_BaseEnvEvents/kpi/mean/raw_piece_usage_per_step"
    assert scalars[tag] == pytest.approx(usage, rel=1e-6)


def test_seeds_side_by_side_keep_statistics_of_their_own(trained):
    keys = jax.vmap(random.key)(jnp.array([1, 2]))
    lanes = jax.device_get(jax.jit(jax.vmap(PPO.train))(keys)[1])
    for lane in range(2):
        alone = jax.jit(PPO.train)(random.key(lane + 1))[1]
        mine = reported(jax.tree.map(lambda x, i=lane: x[i], lanes))
        theirs = reported(alone)
        assert mine.keys() == theirs.keys()
        for tag, value in theirs.items():
            np.testing.assert_allclose(mine[tag], value, rtol=1e-4, atol=1e-5, err_msg=tag)


def test_whose_statistics_are_kept_is_a_choice():
    with pytest.raises(ConfigError, match="statistics: unknown 'al'; did you mean 'all'"):
        PPO.replace(statistics="al")
