"""PPO's parts against hand-worked numbers, and whole updates on spaces of every kind."""

import functools
import itertools

import chex
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.algos import batch as batches
from mazejax.algos import losses, minibatch
from mazejax.algos.base import Counter
from mazejax.algos.metrics import merge_rows
from mazejax.algos.ppo import PPO
from mazejax.base import jit
from mazejax.envs.base import Env, StateStep, flag
from mazejax.envs.probe import (
    ConstantReward,
    ObservationActionReward,
    WildReset,
)
from mazejax.errors import ConfigError
from mazejax.networks.mlp import MLPActorCritic
from mazejax.spaces.composite import Dict
from mazejax.spaces.simple import Box, Discrete, MultiBinary, MultiDiscrete
from mazejax.types import Rollout, Transition

SETTINGS = {
    "network": MLPActorCritic((16,)),
    "num_envs": 4,
    "num_steps": 3,
    "num_epochs": 4,
    "num_minibatches": 2,
    "total_steps": 60,
    "learning_rate_schedule": "constant",
    "value_clip": 0.2,
}


def leaves(tree):
    return jax.tree.leaves(jax.device_get(tree))


def types(tree):
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]


# --- dicts of everything --------------------------------------------------------------------


class Mixed(Env):
    """Observations and actions of every kind; the reward is that of the env's own action."""

    @property
    def observation_space(self):
        part = Dict({"kind": Discrete(3), "on": MultiBinary(2), "levels": MultiDiscrete([2, 3])})
        return Dict({"image": Box(0, 255, (3, 3), "uint8"), "inner": part, "x": Box(-1.0, 1.0, ())})

    @property
    def action_space(self):
        part = Dict({"gear": Discrete(3), "lights": MultiBinary((2, 2))})
        return Dict({"speed": Box(-0.1, 0.1, (2,)), "part": part, "joints": MultiDiscrete([2, 4])})

    def reset_state(self, key):
        return (self.observation_space.sample(key), jnp.zeros((), jnp.int32))

    def step_state(self, key, state, action):
        inside = (abs(action["speed"]) <= 0.1).all()
        reward = jnp.where(inside, action["speed"].sum(), 1e6)
        state = (self.observation_space.sample(key), state[1] + 1)
        return StateStep(state, reward, flag(), state[1] >= 4, {})

    def observe(self, state):
        return state[0]

    def time(self, state):
        return state[1]


MIXED = PPO(
    Mixed(),
    **{**SETTINGS, "num_envs": 4, "num_steps": 3, "total_steps": 60, "value_clip": 0.2},
)
mixed_update = jax.jit(MIXED.update)


@functools.lru_cache
def mixed_states(count=4):
    """States and metrics of some updates."""
    states, rows = [jax.jit(MIXED.init)(random.key(0))], []
    for _ in range(count):
        state, row = mixed_update(states[-1])
        states.append(state)
        rows.append(jax.device_get(row))
    return states, rows


def test_dicts_of_observations_and_actions_train_and_stay_finite():
    states, rows = mixed_states()
    for before, after in itertools.pairwise(states):
        pairs = zip(leaves(before.variables), leaves(after.variables), strict=True)
        assert all((one != other).any() for one, other in pairs), "every weight learns"
    assert all(np.isfinite(leaf).all() for leaf in leaves(states[-1].variables))
    assert [int(state.updates) for state in states] == [0, 1, 2, 3, 4]
    assert not [name for row in rows for name in merge_rows([row]) if "nonfinite" in name]


def test_an_update_repeats_its_bits_and_the_next_draws_anew():
    states, rows = mixed_states()
    again, row = mixed_update(states[0])
    assert again == states[1] and jax.device_get(row) == rows[0]
    assert types(again) == types(states[0])


def test_every_update_shuffles_anew():
    state = mixed_states()[0][0]
    later = state.replace(updates=state.updates.add(1))
    # The same weights, envs and draws, and so the same rollout: only the order of its rows differs.
    one, other = mixed_update(state)[0], mixed_update(later)[0]
    assert one.collect == other.collect
    pairs = zip(leaves(one.variables), leaves(other.variables), strict=True)
    assert any((a != b).any() for a, b in pairs)


def test_metrics_say_what_happened_and_nothing_else():
    _, rows = mixed_states()
    first, second = merge_rows(rows[:1]), merge_rows(rows[1:2])
    # Episodes last 4 steps and a rollout 3, so in the first none ends, in the second all 4 do.
    assert not [name for name in first if name.startswith("train/")]
    assert second["train/episode_length"] == {"count": 4, "mean": 4, "std": 0, "min": 4, "max": 4}
    assert second["train/episode_return"]["count"] == 4
    names = ["loss/total", "loss/policy", "loss/value", "policy/entropy", "policy/approx_kl"]
    names += ["policy/clip_fraction", "optimizer/grad_norm"]
    assert all(first[name]["count"] == 4 * 2 for name in names), "epochs times minibatches"
    singles = {"value/explained_variance", "optimizer/learning_rate"}
    assert first.keys() == {*names, *singles} and all(first[name]["count"] == 1 for name in singles)
    assert first["policy/approx_kl"]["min"] >= 0 and first["optimizer/grad_norm"]["min"] > 0


def test_weights_that_are_not_finite_are_reported_with_their_consequences():
    state = mixed_states()[0][0]
    params = state.variables["0"]["params"]
    value = params["value"]["dense"]
    bad = {**value, "bias": jnp.full_like(value["bias"], jnp.nan)}
    params = {**params, "value": {"dense": bad}}
    _, row = mixed_update(state.replace(variables={"0": {"params": params}}))
    found = merge_rows([jax.device_get(row)])
    assert {name for name in found if "nonfinite" in name} == {
        "nonfinite/loss",
        "nonfinite/gradient",
        "nonfinite/variables",
    }
    assert found["nonfinite/loss"]["mean"] == 4 * 2


def test_the_size_of_metrics_depends_neither_on_steps_nor_on_envs():
    sizes = [(4, 3), (16, 8), (4, 64)]
    forks = [MIXED.replace(num_envs=n, num_steps=t) for n, t in sizes]
    shapes = [jax.eval_shape(f.update, jax.eval_shape(f.init, random.key(0)))[1] for f in forks]
    assert shapes[0].keys() == mixed_states()[1][0].keys()
    assert types(shapes[0]) == types(shapes[1]) == types(shapes[2])
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) < 2000


def test_actions_are_clipped_for_the_env_and_the_learner_keeps_what_was_drawn():
    states, _ = mixed_states()
    _, rollout, _ = jax.jit(MIXED.collect)(states[0])
    steps = rollout.transitions["0"]
    drawn = np.asarray(steps.action["speed"])
    assert abs(drawn).max() > 0.5, "deviations begin at 1, bounds are 0.1"
    clipped = np.clip(drawn, np.float32(-0.1), np.float32(0.1))
    np.testing.assert_allclose(steps.reward, clipped.sum(-1), atol=1e-6)
    # The probability is that of what was drawn, under the weights that drew it.

    @jax.jit
    def evaluate(variables, steps):
        output, _ = MIXED.actor_critics["0"].apply(variables["0"], steps.obs)
        return output.distribution.log_prob(steps.action), output.value

    log_prob, value = evaluate(states[0].variables, steps)
    np.testing.assert_allclose(steps.log_prob, log_prob, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(steps.value, value, atol=1e-5)


def test_a_rollout_of_other_sizes_is_named_before_anything_is_computed():
    states, _ = mixed_states()
    rollout = jax.eval_shape(MIXED.collect, states[0])[1]
    other = MIXED.replace(num_envs=2, num_minibatches=1)
    with pytest.raises(ConfigError) as error:
        jax.eval_shape(other.learn, states[0], rollout)
    assert str(error.value) == (
        "rollout.transitions['0'].obs['image']: got shape (3, 4, 3, 3), expected "
        "[num_steps, num_envs, ...] = [3, 2]"
    )


def test_advantages_of_a_rollout_are_those_worked_by_hand_with_both_kinds_of_ends():
    algorithm = LINEAR.replace(
        num_envs=2, num_steps=3, num_minibatches=1, gamma=0.5, gae_lambda=1.0
    )
    at = np.zeros((3, 2), bool)
    at[1] = True
    steps = Transition(
        obs=np.arange(6.0).reshape(3, 2, 1),
        action=np.zeros((3, 2), np.int32),
        reward=np.ones((3, 2)),
        terminated=at & [False, True],
        truncated=at & [True, False],
        log_prob=np.zeros((3, 2)),
        value=np.full((3, 2), 2.0),
    )
    next_value = np.array([[2.0, 2.0], [8.0, 8.0], [8.0, 8.0]])
    rollout = Rollout({"0": steps}, {"0": next_value})
    batch = batches.from_rollout(algorithm, rollout)["0"]
    # t=2: 1 + .5 * 8 - 2 = 3. Env 0, truncated at t=1: 1 + .5 * 8 - 2 = 3, and t=0:
    # 1 + .5 * 2 - 2 + .5 * 3 = 1.5. Env 1, terminated: 1 - 2 = -1, and t=0: 0 + .5 * -1 = -.5
    np.testing.assert_array_equal(batch.advantage, [1.5, -0.5, 3.0, -1.0, 3.0, 3.0])
    np.testing.assert_array_equal(batch.target, batch.advantage + 2.0)
    np.testing.assert_array_equal(batch.obs, np.arange(6.0)[:, None])


# --- the loss and its gradient --------------------------------------------------------------

# A network without hidden layers: logits and value are affine in the one number observed.
LINEAR = PPO(
    ConstantReward(),
    network=MLPActorCritic(()),
    vf_coef=0.5,
    ent_coef=0.1,
    clip_eps=0.2,
    num_envs=4,
)


def linear_variables():
    """For the observation 1: probabilities 1/4 and 3/4, value 2."""
    policy = {"kernel": jnp.zeros((2, 1)), "bias": jnp.log(jnp.array([1.0, 3.0]))}
    value = {"kernel": jnp.array([[2.0]]), "bias": jnp.zeros(1)}
    return {"0": {"params": {"policy": {"dense": policy}, "value": {"dense": value}}}}


loss = jit(lambda algorithm, variables, batch: algorithm.loss(variables, batch))
loss_gradient = jit(
    lambda algorithm, variables, batch: jax.grad(algorithm.loss, has_aux=True)(variables, batch)
)

BATCH = batches.Batch(
    obs=jnp.ones((2, 1)),
    action=jnp.array([1, 0]),
    log_prob=jnp.log(jnp.array([0.5, 0.25])),
    value=jnp.array([2.0, 2.0]),
    advantage=jnp.array([1.0, -1.0]),
    target=jnp.array([1.0, 4.0]),
)
BATCHES = {"0": BATCH}


def test_the_loss_is_the_one_worked_by_hand():
    total, parts = loss(LINEAR, linear_variables(), BATCHES)
    # ratios 0.75 / 0.5 = 1.5, clipped to 1.2, and 1: -(1.2 * 1) and -(1 * -1); mean -0.1
    # value errors 1 and -2: 0.5 * (1 + 4) / 2 = 1.25; entropy ln 4 - 0.75 ln 3
    # KL: (1.5 - 1 - ln 1.5) / 2; one row of two is clipped
    entropy = np.log(4) - 0.75 * np.log(3)
    expected = {
        "loss/policy": -0.1,
        "loss/value": 1.25,
        "policy/entropy": entropy,
        "loss/total": -0.1 + 0.5 * 1.25 - 0.1 * entropy,
        "policy/approx_kl": (0.5 - np.log(1.5)) / 2,
        "policy/clip_fraction": 0.5,
    }
    chex.assert_trees_all_close(parts, expected, rtol=1e-5)
    assert total == parts["loss/total"]


def test_the_gradient_of_the_loss_is_the_one_worked_by_hand():
    gradient = loss_gradient(LINEAR, linear_variables(), BATCHES)[0]["0"]["params"]
    # The first row is clipped. The second: d ratio / d logits = (1 - p0, -p1) = (0.75, -0.75),
    # times -A = 1, over two rows. Entropy: dH / d logit_i = -p_i (ln p_i + H), same in both rows.
    p = np.array([0.25, 0.75])
    entropy = -(p * np.log(p)).sum()
    logits = np.array([0.375, -0.375]) + 0.1 * p * (np.log(p) + entropy)
    np.testing.assert_allclose(gradient["policy"]["dense"]["bias"], logits, rtol=1e-5)
    np.testing.assert_allclose(gradient["policy"]["dense"]["kernel"], logits[:, None], rtol=1e-5)
    # Value: 0.5 * mean(1, -2) = -0.25
    np.testing.assert_allclose(gradient["value"]["dense"]["bias"], [-0.25], rtol=1e-5)


def test_the_value_loss_is_clipped_on_request():
    algorithm = LINEAR.replace(value_clip=0.5)
    batches = {"0": BATCH._replace(value=jnp.array([1.0, 2.0]))}
    # Row 1: value 2 kept at 1.5: max(0.5 * 1, 0.5 * 0.25) = 0.5; row 2: unchanged 2.0
    assert loss(algorithm, linear_variables(), batches)[1]["loss/value"] == 1.25
    batches = {"0": BATCH._replace(value=jnp.array([4.0, 0.0]))}
    # Row 1: kept at 3.5: 0.5 * 6.25 = 3.125; row 2: kept at 0.5: 0.5 * 12.25 = 6.125
    assert loss(algorithm, linear_variables(), batches)[1]["loss/value"] == 4.625


def test_the_gradient_agrees_with_finite_differences():
    algorithm = PPO(ObservationActionReward(continuous=True), network=MLPActorCritic((3,)))
    numbers = np.random.default_rng(0).normal(size=(6, 8, 1)).astype(np.float32)
    batch = batches.Batch(
        numbers[0], numbers[1], -1.5 + 0.01 * numbers[2, :, 0], *numbers[3:, :, 0]
    )
    network = algorithm.actor_critics["0"]
    variables, shape = jax.flatten_util.ravel_pytree({"0": network.init(random.key(0))})
    # Larger weights than at the beginning, so that every one of them matters.
    variables = variables + 0.5 * jax.random.normal(random.key(1), variables.shape)
    chex.assert_numerical_grads(
        jax.jit(lambda v: algorithm.loss(shape(v), {"0": batch})[0]),
        (variables,),
        order=1,
        atol=1e-3,
    )


@pytest.mark.parametrize("rows", [6000, 4099])
def test_the_gradient_in_chunks_is_that_of_the_whole_minibatch(rows):
    assert (minibatch.chunk_size(rows) < rows) == (rows == 6000)
    numbers = np.random.default_rng(1).normal(size=(6, rows)).astype(np.float32)
    action = (numbers[0] > 0).astype(np.int32)
    batch = batches.Batch(
        numbers[0, :, None], action, np.log(0.5) + 0.1 * numbers[1], *numbers[2:5]
    )
    algorithm = LINEAR.replace(num_envs=rows, num_steps=1, num_minibatches=1)
    chunked = jax.jit(algorithm.gradient)(linear_variables(), {"0": batch})
    standardized = batch._replace(advantage=losses.standardize(batch.advantage))
    whole = loss_gradient(LINEAR, linear_variables(), {"0": standardized})
    chex.assert_trees_all_close(chunked, whole, rtol=1e-4, atol=1e-6)


def test_entries_count_for_the_policy_and_for_the_critic_by_their_weights():
    total, parts = loss(
        LINEAR,
        linear_variables(),
        {"0": BATCH._replace(weight=jnp.array([0.0, 2.0]), value_weight=jnp.array([2.0, 0.0]))},
    )
    # The policy's parts are those of the second row, the critic's those of the first: see above.
    entropy = np.log(4) - 0.75 * np.log(3)
    expected = {
        "loss/policy": 1.0,
        "loss/value": 0.5,
        "policy/entropy": entropy,
        "loss/total": 1.0 + 0.5 * 0.5 - 0.1 * entropy,
        "policy/approx_kl": 0.0,
        "policy/clip_fraction": 0.0,
    }
    chex.assert_trees_all_close(parts, expected, rtol=1e-5)
    assert total == parts["loss/total"]


def weighted_batch(rows, active):
    """Rows with weights of 0 and 1, and numbers that must not matter where they are 0."""
    numbers = np.random.default_rng(2).normal(size=(6, rows)).astype(np.float32)
    valued = active | (np.arange(rows) % 3 == 0)
    return batches.Batch(
        obs=numbers[0, :, None],
        action=(numbers[0] > 0).astype(np.int32),
        log_prob=np.where(active, np.log(0.5) + 0.1 * numbers[1], -1e4),
        value=numbers[2],
        advantage=np.where(active, numbers[3], 100.0),
        target=np.where(valued, numbers[4], 100.0),
        weight=active.astype(np.float32),
        value_weight=valued.astype(np.float32),
    )


@pytest.mark.parametrize("rows", [6000, 60])
def test_the_gradient_of_weighted_rows_is_the_mean_over_those_that_count(rows):
    active = np.random.default_rng(3).random(rows) < 0.4
    batch = weighted_batch(rows, active)
    algorithm = LINEAR.replace(num_envs=rows, num_steps=1, num_minibatches=1)
    gradient, parts = jax.jit(algorithm.gradient)(linear_variables(), {"0": batch})
    # The policy's and the critic's weights are apart, so each gradient may be taken alone.
    unweighted = batch._replace(weight=None, value_weight=None)
    acting = jax.tree.map(lambda leaf: leaf[active], unweighted)
    acting = acting._replace(advantage=losses.standardize(acting.advantage))
    valued = jax.tree.map(lambda leaf: leaf[batch.value_weight > 0], unweighted)
    policy, policy_parts = loss_gradient(LINEAR, linear_variables(), {"0": acting})
    value, value_parts = loss_gradient(LINEAR, linear_variables(), {"0": valued})
    got, expected = gradient["0"]["params"], policy["0"]["params"]["policy"]
    chex.assert_trees_all_close(got["policy"], expected, rtol=1e-4, atol=1e-6)
    chex.assert_trees_all_close(got["value"], value["0"]["params"]["value"], rtol=1e-4, atol=1e-6)
    for name, part in policy_parts.items():
        if name != "loss/total":
            one = value_parts[name] if name == "loss/value" else part
            np.testing.assert_allclose(parts[name], one, rtol=1e-4, atol=1e-6)


def test_a_minibatch_in_which_nobody_acts_has_a_gradient_of_zero():
    batch = weighted_batch(8, np.zeros(8, bool))._replace(value_weight=np.zeros(8, np.float32))
    algorithm = LINEAR.replace(num_envs=8, num_steps=1, num_minibatches=1)
    gradient, _ = jax.jit(algorithm.gradient)(linear_variables(), {"0": batch})
    assert not any(leaf.any() for leaf in leaves(gradient))


def test_clipping_the_gradient_preserves_its_direction():
    gradient = {"a": jnp.array([3.0, -4.0]), "b": jnp.array([[12.0]])}
    # Norm 13, scaled to 0.5 as a whole; Adam's first mean is a tenth of what it is given.
    optimizer = LINEAR.replace(max_grad_norm=0.5).make_optimizer()
    _, (_, adam) = optimizer.update(gradient, optimizer.init(gradient))
    expected = jax.tree.map(lambda g: 0.1 * g * 0.5 / 13, gradient)
    chex.assert_trees_all_close(adam.mu, expected, rtol=1e-5)
    _, (_, adam) = (
        LINEAR.replace(max_grad_norm=100.0)
        .make_optimizer()
        .update(gradient, optimizer.init(gradient))
    )
    chex.assert_trees_all_close(adam.mu, jax.tree.map(lambda g: 0.1 * g, gradient), rtol=1e-5)


# --- sizes and schedules --------------------------------------------------------------------


def test_the_learning_rate_falls_linearly_to_zero_at_the_end():
    algorithm = LINEAR.replace(
        total_steps=4 * LINEAR.steps_per_update, learning_rate=0.8, learning_rate_schedule="linear"
    )
    rates = [algorithm._learning_rate(Counter.zero().add(n)) for n in range(6)]
    np.testing.assert_allclose(rates, [0.8, 0.6, 0.4, 0.2, 0.0, 0.0], atol=1e-6)
    endless = algorithm.replace(total_steps=10**15)
    assert endless._learning_rate(Counter.zero()) == np.float32(0.8)
    constant = algorithm.replace(learning_rate_schedule="constant")
    assert constant._learning_rate(Counter.zero().add(3)) == np.float32(0.8)


def test_every_number_may_be_swept_and_every_size_changed_in_a_fork():
    state = jax.eval_shape(MIXED.init, random.key(0))
    names = ("gamma", "gae_lambda", "clip_eps", "value_clip", "ent_coef", "vf_coef")
    names += ("max_grad_norm", "learning_rate")

    def update(number, state):
        return MIXED.replace(**dict.fromkeys(names, number)).update(state)[0].variables

    swept = jax.eval_shape(jax.vmap(update, (0, None)), jnp.array([0.1, 0.2]), state)
    assert all(leaf.shape[0] == 2 for leaf in jax.tree.leaves(swept))
    fork = MIXED.replace(num_epochs=1, num_minibatches=5, num_steps=5, total_steps=40)
    assert types(jax.eval_shape(fork.update, state)[0]) == types(state)


def test_numbers_of_the_env_may_be_swept_too():
    algorithm = PPO(WildReset(), **SETTINGS)

    def train(first_reward, key):
        return algorithm.replace(env=WildReset(first_reward=first_reward)).train(key)[0].variables

    sweep = jax.vmap(jax.vmap(train, (None, 0)), (0, None))
    swept = jax.eval_shape(sweep, jnp.array([1.0, 2.0, 3.0]), jax.random.split(random.key(0), 2))
    assert {leaf.shape[:2] for leaf in jax.tree.leaves(swept)} == {(3, 2)}


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 4, 4), (3, 1, 1)])
def test_the_smallest_sizes_work(sizes):
    names = ("num_envs", "num_steps", "num_minibatches")
    algorithm = LINEAR.replace(num_epochs=1, **dict(zip(names, sizes, strict=True)))
    state = jax.eval_shape(algorithm.init, random.key(0))
    assert types(jax.eval_shape(algorithm.update, state)[0]) == types(state)


# --- evaluation ---------------------------------------------------------------------------


def test_evaluation_acts_by_the_mode_or_by_draws():
    algorithm = PPO(ObservationActionReward(), network=MLPActorCritic(()))
    # The wanted action has probability 1 / (1 + e) = 0.27, the other one is the mode.
    policy = {"kernel": jnp.array([[0.5], [-0.5]]), "bias": jnp.zeros(2)}
    variables = linear_variables()
    variables["0"]["params"]["policy"] = {"dense": policy}
    evaluate = jax.jit(
        lambda key, deterministic: algorithm.evaluate(
            variables, key, num_episodes=400, deterministic=deterministic
        ),
        static_argnums=1,
    )
    assert (evaluate(random.key(0), True).returns == -1).all()
    drawn, other = (np.asarray(evaluate(random.key(seed), False).returns) for seed in (0, 1))
    # The share of 400 has a deviation of 0.022.
    assert abs((drawn == 1).mean() - 1 / (1 + np.e)) < 5 * 0.022
    assert (drawn != other).any()
