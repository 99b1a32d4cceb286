"""What learners with a policy and a critic share: A2C, schedules, norms, critics, target KL."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mazejax
from mazejax import random
from mazejax.algos import batch, minibatch
from mazejax.algos.a2c import A2C
from mazejax.algos.base import Counter, update_key
from mazejax.algos.ppo import PPO
from mazejax.base import jit
from mazejax.envs.probe import ActionReward, DelayedReward
from mazejax.errors import ConfigError
from mazejax.networks.mlp import MLPActorCritic

SMALL = {"num_envs": 4, "num_steps": 8, "network": MLPActorCritic((8,))}
A2C_PROBE = A2C(ActionReward(), total_steps=4000, **SMALL)
PPO_PROBE = PPO(DelayedReward(), num_epochs=2, num_minibatches=4, **SMALL)

start = jit(lambda algorithm, key: algorithm.init(key))
collect = jit(lambda algorithm, state: algorithm.collect(state))
learn = jit(lambda algorithm, state, rollout: algorithm.learn(state, rollout))


def leaves_equal(one, other, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), one, other)


# --- A2C ----------------------------------------------------------------------------------


def test_a2c_minimizes_minus_the_log_probability_times_the_advantage():
    rows = batch.Batch(None, None, None, None, jnp.array([2.0, -1.0]), jnp.zeros(2))
    losses, parts = A2C_PROBE.policy_losses(jnp.array([-0.5, -1.0]), rows)
    np.testing.assert_allclose(losses, [1.0, -1.0])
    assert parts == {}


def test_a2c_makes_one_step_along_the_gradient_of_the_whole_rollout():
    state = start(A2C_PROBE, random.key(0))
    collected, rollout, _ = collect(A2C_PROBE, state)
    new, metrics = learn(A2C_PROBE, state.replace(collect=collected), rollout)

    @jax.jit
    def by_hand(variables, optimizer, rollout):
        batches = batch.from_rollout(A2C_PROBE, rollout)
        gradient = jax.grad(lambda v: A2C_PROBE.loss(v, batches)[0])(variables)
        return A2C_PROBE.descend(
            variables, optimizer, gradient, A2C_PROBE._learning_rate(Counter.zero())
        )[0]

    wanted = by_hand(state.variables, state.optimizer, rollout)
    leaves_equal(new.variables, wanted, rtol=1e-5, atol=1e-6)
    assert metrics["optimizer/grad_norm"].count == 1 and int(new.updates) == 1


def test_a2c_learns_which_action_pays():
    def trained(key):
        metrics = A2C_PROBE.replace(learning_rate=0.02).train(key)[1]
        return metrics["train/episode_return"].mean[-10:]

    returns = jax.jit(jax.vmap(trained))(jax.random.split(random.key(0), 3))
    assert returns.min() > 0.9


# --- schedules and norms --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [
        ("constant", [1, 1, 1]),
        ("linear", [1, 0.5, 0]),
        ("cosine", [1, 0.5, 0]),
        ([[0, 0], [0.25, 1], [0.75, 0.5]], [0, 0.75, 0.5]),
    ],
    ids=["constant", "linear", "cosine", "points"],
)
def test_schedules_run_from_one_to_what_they_say(schedule, shares):
    ppo = PPO_PROBE.replace(
        total_steps=32 * 10, learning_rate_schedule=schedule, ent_coef_schedule=schedule
    )
    for updates, share in zip((0, 5, 10), shares, strict=True):
        counter = Counter.zero().add(updates)
        np.testing.assert_allclose(
            ppo._learning_rate(counter), ppo.learning_rate * share, atol=1e-9
        )
        np.testing.assert_allclose(ppo._entropy_weight(counter), ppo.ent_coef * share, atol=1e-9)


def test_advantages_may_be_standardized_over_the_whole_batch():
    ppo = PPO_PROBE.replace(advantage_norm="batch")
    _, rollout, _ = collect(ppo, start(ppo, random.key(1)))
    advantage = np.asarray(batch.from_rollout(ppo, rollout)["0"].advantage)
    np.testing.assert_allclose([advantage.mean(), advantage.std()], [0, 1], atol=1e-5)
    plain = batch.from_rollout(PPO_PROBE.replace(advantage_norm="none"), rollout)["0"].advantage
    np.testing.assert_allclose(advantage, (plain - plain.mean()) / plain.std(), atol=1e-4)


def test_gradients_may_be_left_as_they_are():
    gradient, free = {"w": jnp.array([30.0, 40.0])}, PPO_PROBE.replace(max_grad_norm=None)
    for ppo, seen in ((PPO_PROBE, [0.3, 0.4]), (free, [30.0, 40.0])):
        optimizer = ppo.make_optimizer()
        _, after = optimizer.update(gradient, optimizer.init(gradient))
        np.testing.assert_allclose(after[1].mu["w"], 0.1 * np.array(seen), rtol=1e-5)


def test_a_target_kl_ends_learning_from_the_rollout():
    ppo = PPO_PROBE.replace(target_kl=1e-12, learning_rate=0.05)
    state = start(ppo, random.key(0))
    collected, rollout, _ = collect(ppo, state)
    new, metrics = learn(ppo, state.replace(collect=collected), rollout)
    # The second one ends the learning: it is judged and not learned from.
    assert metrics["optimizer/minibatches"].mean == 1
    assert metrics["loss/total"].count == metrics["policy/approx_kl"].count == 2

    @jax.jit
    def first_minibatch(state, rollout):
        packed, unpack = minibatch.pack(batch.from_rollout(ppo, rollout))
        key = jax.random.fold_in(update_key(state, "shuffle"), 0)
        rows = unpack(minibatch.shuffled_rows(packed, key, jnp.int32(0), 8))
        gradient, _ = ppo.gradient(state.variables, rows, ppo._entropy_weight(state.updates))
        return ppo.descend(
            state.variables, state.optimizer, gradient, ppo._learning_rate(state.updates)
        )[0]

    # The first minibatch is the collecting policy's own; the second differs from it already.
    leaves_equal(new.variables, first_minibatch(state, rollout), rtol=1e-5, atol=1e-6)
    free, _ = learn(ppo.replace(target_kl=None), state, rollout)
    assert any(
        not np.allclose(a, b)
        for a, b in zip(
            jax.tree.leaves(free.variables), jax.tree.leaves(new.variables), strict=True
        )
    )


# --- critics --------------------------------------------------------------------------------


def test_values_of_the_delta_critic_build_on_those_before():
    env = mazejax.make("Cutting2D-v0", structured=True, masked=True, max_pieces=4)
    ppo = PPO(env, critic="delta", num_minibatches=1, num_epochs=1, **SMALL)
    state = start(ppo, random.key(0))
    _, rollout, _ = collect(ppo, state)
    batches = jax.jit(lambda rollout: batch.from_rollout(ppo, rollout))(rollout)
    selection, cutting = batches["selection"], batches["cutting"]
    raw = rollout.transitions["cutting"].value.reshape(-1)
    np.testing.assert_allclose(cutting.value, selection.value + raw, rtol=1e-5)

    def value_gradient(variables):
        return ppo.loss(
            variables, {k: b._replace(advantage=0 * b.advantage) for k, b in batches.items()}
        )[1]["loss/value/cutting"]

    gradient = jax.jit(jax.grad(value_gradient))(state.variables)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient["selection"]))
    assert any(np.any(leaf) for leaf in jax.tree.leaves(gradient["cutting"]))


def test_the_delta_critic_refuses_several_agents():
    with pytest.raises(
        ConfigError, match="critic: 'delta' needs a single agent in a single sub-step"
    ):
        PPO(mazejax.make("TicTacToe-v0"), critic="delta")
