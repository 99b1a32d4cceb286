"""Returns, losses and distributions against rlax, whose formulas others have checked.

rlax knows discounts and no truncation: a truncated step is one of discount 0 whose reward
holds the discounted value of the final observation.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax.algos import losses, returns
from mazejax.spaces.continuous import DiagonalGaussian
from mazejax.spaces.distributions import Categorical

rlax = pytest.importorskip("rlax")
# It hands its distributions over to distrax one day.
pytestmark = pytest.mark.filterwarnings("ignore:Rlax:PendingDeprecationWarning")

T, N = 24, 5
RATES = [(0.99, 0.95), (1.0, 1.0), (0.9, 0.0), (0.5, 0.5)]


def random_trace(seed):
    """(reward, value, next_value, terminated, truncated), [T, N] each."""
    random = np.random.default_rng(seed)
    reward, value, final = random.normal(size=(3, T, N)).astype(np.float32)
    terminated, truncated = random.random((2, T, N)) < 0.15
    next_value = np.where(truncated, final, np.concatenate([value[1:], final[-1:]]))
    return reward, value, next_value, terminated, truncated


def as_rlax_wants(reward, next_value, terminated, truncated, gamma):
    """Rewards and discounts, [T, N] float32."""
    bootstrapped = truncated & ~terminated
    reward = reward + gamma * np.where(bootstrapped, next_value, np.float32(0))
    discount = np.where(terminated | truncated, np.float32(0), np.float32(gamma))
    return reward.astype(np.float32), discount


def over_envs(function):
    """rlax's function of [T] as one of [T, N], compiled."""
    return jax.jit(jax.vmap(function, in_axes=1, out_axes=1))


@pytest.mark.parametrize(("gamma", "lambda_"), RATES)
def test_gae_is_that_of_rlax(gamma, lambda_):
    reward, value, next_value, *ends = random_trace(0)
    expected = over_envs(
        lambda r, discount, v: rlax.truncated_generalized_advantage_estimation(
            r, discount, lambda_, v
        )
    )(*as_rlax_wants(reward, next_value, *ends, gamma), np.concatenate([value, next_value[-1:]]))
    found = jax.jit(returns.gae)(reward, value, next_value, *ends, gamma, lambda_)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("gamma", "lambda_"), RATES)
def test_lambda_returns_are_those_of_rlax(gamma, lambda_):
    reward, _, next_value, *ends = random_trace(1)
    expected = over_envs(lambda *steps: rlax.lambda_returns(*steps, lambda_))(
        *as_rlax_wants(reward, next_value, *ends, gamma), next_value
    )
    found = jax.jit(returns.lambda_returns)(reward, next_value, *ends, gamma, lambda_)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("num_steps", [1, 2, 5, T + 3])
def test_n_step_returns_are_those_of_rlax(num_steps):
    reward, _, next_value, *ends = random_trace(2)
    expected = over_envs(lambda *steps: rlax.n_step_bootstrapped_returns(*steps, num_steps))(
        *as_rlax_wants(reward, next_value, *ends, 0.9), next_value
    )
    found = jax.jit(returns.n_step_returns, static_argnums=5)(
        reward, next_value, *ends, 0.9, num_steps
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rho_clip", [1.0, 2.5])
@pytest.mark.parametrize(("gamma", "lambda_"), RATES)
def test_vtrace_is_that_of_rlax(gamma, lambda_, rho_clip):
    reward, value, next_value, *ends = random_trace(3)
    ratio = np.exp(np.random.default_rng(4).normal(size=(T, N))).astype(np.float32)

    def by_rlax(r, discount, v_tm1, v_t, rho):
        found = rlax.vtrace_td_error_and_advantage(
            v_tm1, v_t, r, discount, rho, lambda_, rho_clip, rho_clip
        )
        return found.errors, found.pg_advantage

    steps = as_rlax_wants(reward, next_value, *ends, gamma)
    errors, advantage = over_envs(by_rlax)(*steps, value, next_value, ratio)
    found = jax.jit(returns.vtrace)(
        reward, value, next_value, *ends, ratio, gamma, lambda_, rho_clip
    )
    np.testing.assert_allclose(found.target - value, errors, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.advantage, advantage, rtol=1e-5, atol=1e-5)


# --- losses and distributions ---------------------------------------------------------------


def assert_equal_with_gradient(ours, theirs, *arguments):
    """The two agree in value and in their gradient with respect to the first argument."""
    found, slope = jax.jit(jax.value_and_grad(ours))(*arguments)
    expected, their_slope = jax.jit(jax.value_and_grad(theirs))(*arguments)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(slope, their_slope, rtol=1e-4, atol=1e-6)


def test_the_clipped_surrogate_is_that_of_rlax():
    log_ratio, advantage = np.random.default_rng(5).normal(size=(2, 64)).astype(np.float32)
    assert_equal_with_gradient(
        lambda x: losses.clipped_surrogate(jnp.exp(x), advantage, 0.2).mean(),
        lambda x: rlax.clipped_surrogate_pg_loss(jnp.exp(x), advantage, 0.2),
        0.5 * log_ratio,
    )


def test_the_value_loss_is_that_of_rlax():
    value, target = np.random.default_rng(6).normal(size=(2, 64)).astype(np.float32)
    assert_equal_with_gradient(
        lambda v: losses.value_loss(v, target).mean(),
        lambda v: rlax.l2_loss(v, target).mean(),
        value,
    )


def test_policy_gradient_and_entropy_bonus_are_those_of_rlax():
    random = np.random.default_rng(7)
    logits = random.normal(size=(64, 6)).astype(np.float32)
    advantage, weight = random.normal(size=(2, 64)).astype(np.float32)
    action = random.integers(6, size=64)
    assert_equal_with_gradient(
        lambda x: -(Categorical(x).log_prob(action) * advantage * weight).mean(),
        lambda x: rlax.policy_gradient_loss(x, action, advantage, weight),
        logits,
    )
    assert_equal_with_gradient(
        lambda x: -(Categorical(x).entropy() * weight).mean(),
        lambda x: rlax.entropy_loss(x, weight),
        logits,
    )


def test_ratio_and_divergence_of_categories_are_those_of_rlax():
    random = np.random.default_rng(8)
    new, old = random.normal(size=(2, 64, 6)).astype(np.float32)
    action = random.integers(6, size=64)
    log_ratio = Categorical(new).log_prob(action) - Categorical(old).log_prob(action)
    expected = rlax.categorical_importance_sampling_ratios(new, old, action)
    np.testing.assert_allclose(np.exp(log_ratio), expected, rtol=1e-5)
    divergence = Categorical(old).kl_divergence(Categorical(new))
    np.testing.assert_allclose(divergence, rlax.softmax().kl(old, new), rtol=1e-4, atol=1e-6)


def test_gaussians_are_those_of_rlax():
    random = np.random.default_rng(9)
    mean, other_mean, log_std, other_log_std, action = random.normal(size=(5, 64, 3)).astype(
        np.float32
    )
    ours, other = DiagonalGaussian(mean, log_std), DiagonalGaussian(other_mean, other_log_std)
    theirs, std, other_std = rlax.gaussian_diagonal(), np.exp(log_std), np.exp(other_log_std)
    np.testing.assert_allclose(
        ours.log_prob(action), theirs.logprob(action, mean, std), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(ours.entropy(), theirs.entropy(mean, std), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        ours.kl_divergence(other),
        theirs.kl(mean, std, other_mean, other_std),
        rtol=1e-4,
        atol=1e-5,
    )
