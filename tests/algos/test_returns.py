"""Return and advantage estimators against hand-worked numbers and plain loops."""

import hypothesis
import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax.algos import returns

T, N = 12, 3
NO = np.zeros((T, N), bool)

gae = jax.jit(returns.gae)


@st.composite
def traces(draw):
    """(reward, value, next_value, terminated, truncated), [T, N] each; flags in any pattern."""
    numbers = arrays.arrays(np.float32, (3, T, N), elements=st.integers(-64, 64))
    flags = arrays.arrays(bool, (2, T, N), elements=st.booleans())
    return (*(draw(numbers) / np.float32(16)), *draw(flags))


rates = st.sampled_from([0.0, 0.5, 0.9, 1.0])


def by_double_loop(reward, value, next_value, terminated, truncated, gamma, lambda_):
    """The sum of discounted TD errors up to the end of the episode, term by term in float64."""
    advantage = np.zeros((T, N))
    for i in range(N):
        for t in range(T):
            weight = 1.0
            for k in range(t, T):
                following = 0.0 if terminated[k, i] else float(next_value[k, i])
                error = float(reward[k, i]) + gamma * following - float(value[k, i])
                advantage[t, i] += weight * error
                weight *= gamma * lambda_
                if terminated[k, i] or truncated[k, i]:
                    break
    return advantage


def test_truncation_keeps_the_bootstrap_and_cuts_the_sum():
    # t=2: 1 + .5 * 8 = 5; t=1, truncated: 1 + .5 * 8 = 5; t=0: 1 + .5 * 0 + .5 * 5 = 3.5
    advantage = gae(
        reward=jnp.ones(3),
        value=jnp.zeros(3),
        next_value=jnp.array([0.0, 8.0, 8.0]),
        terminated=jnp.zeros(3, bool),
        truncated=jnp.array([False, True, False]),
        gamma=0.5,
        gae_lambda=1.0,
    )
    np.testing.assert_array_equal(advantage, [3.5, 5.0, 5.0])


@pytest.mark.parametrize("truncated", [False, True])
def test_termination_has_no_bootstrap_whether_or_not_the_clock_ended_too(truncated):
    # t=1 terminated: 1 - 2 = -1; t=0: 1 + .5 * 2 - 4 + .25 * -1 = -2.25; t=2: 1 + .5 * 8 - 0 = 5
    advantage = gae(
        reward=jnp.ones(3),
        value=jnp.array([4.0, 2.0, 0.0]),
        next_value=jnp.array([2.0, np.nan, 8.0]),
        terminated=jnp.array([False, True, False]),
        truncated=jnp.array([False, truncated, False]),
        gamma=0.5,
        gae_lambda=0.5,
    )
    np.testing.assert_array_equal(advantage, [-2.25, -1.0, 5.0])


@hypothesis.given(traces(), rates, rates)
def test_gae_equals_the_sum_of_td_errors_for_any_pattern_of_ends(trace, gamma, lambda_):
    expected = by_double_loop(*trace, gamma, lambda_)
    np.testing.assert_allclose(gae(*trace, gamma, lambda_), expected, rtol=1e-5, atol=1e-5)


@hypothesis.given(traces(), rates)
def test_lambda_of_zero_is_the_td_error(trace, gamma):
    reward, value, next_value, terminated, _ = trace
    error = reward + gamma * np.where(terminated, 0, next_value) - value
    np.testing.assert_allclose(gae(*trace, gamma, 0.0), error, atol=1e-6)


@hypothesis.given(traces(), rates)
def test_lambda_of_one_is_the_discounted_return_less_the_value(trace, gamma):
    reward, value, next_value, terminated, truncated = trace
    # For this identity the values must belong together: next_value is the following value.
    following = np.concatenate([value[1:], next_value[-1:]])
    next_value = np.where(truncated, next_value, following)
    discounted = np.where(terminated[-1], 0.0, next_value[-1]).astype(np.float64)
    returns_ = np.zeros((T, N))
    for t in reversed(range(T)):
        ended = np.where(terminated[t], 0.0, next_value[t])
        later = np.where(terminated[t] | truncated[t], ended, discounted)
        discounted = returns_[t] = reward[t] + gamma * later
    advantage = gae(reward, value, next_value, terminated, truncated, gamma, 1.0)
    np.testing.assert_allclose(advantage + value, returns_, rtol=1e-5, atol=1e-5)


@hypothesis.given(traces(), traces(), st.integers(0, T - 2), st.booleans(), st.booleans())
def test_advantages_of_one_episode_do_not_depend_on_the_next(
    trace, other, last, terminated, truncated
):
    trace[3][last], trace[4][last] = terminated, truncated or not terminated
    mixed = [
        np.concatenate([x[: last + 1], y[last + 1 :]]) for x, y in zip(trace, other, strict=True)
    ]
    before = gae(*trace, 0.9, 0.9)[: last + 1]
    np.testing.assert_array_equal(before, gae(*mixed, 0.9, 0.9)[: last + 1])


def test_trailing_axes_are_independent_of_each_other():
    random = np.random.default_rng(1)
    numbers = random.normal(size=(3, T, 2, N)).astype(np.float32)
    flags = random.random((2, T, 2, N)) < 0.3
    together = gae(*numbers, *flags, 0.9, 0.8)
    assert together.shape == (T, 2, N) and together.dtype == jnp.float32
    for i in range(2):
        alone = gae(*numbers[:, :, i], *flags[:, :, i], 0.9, 0.8)
        np.testing.assert_allclose(together[:, i], alone, rtol=1e-6, atol=1e-6)


def test_gamma_and_lambda_may_be_swept():
    reward = np.ones((T, N), np.float32)
    value = np.zeros((T, N), np.float32)
    gammas, lambdas = jnp.array([0.0, 0.5, 1.0]), jnp.array([1.0, 0.5, 0.0])
    swept = jax.vmap(lambda g, lam: returns.gae(reward, value, value, NO, NO, g, lam))(
        gammas, lambdas
    )
    for i in range(3):
        alone = gae(reward, value, value, NO, NO, gammas[i], lambdas[i])
        np.testing.assert_allclose(swept[i], alone, rtol=1e-6)


# --- actors that do not always act ----------------------------------------------------------

gae_between_active = jax.jit(returns.gae_between_active)


@st.composite
def sparse_traces(draw):
    """A trace with who is active, and a discount of 0.5 to 1 for every step."""
    reward, value, next_value, terminated, truncated = draw(traces())
    active = draw(arrays.arrays(bool, (T, N), elements=st.booleans()))
    gamma = draw(arrays.arrays(np.float32, (T, N), elements=st.sampled_from([0.5, 0.9, 1.0])))
    return reward, value, next_value, active, terminated, truncated, gamma


def by_walking_ahead(reward, value, next_value, active, terminated, truncated, gamma, lambda_):
    """From every step on: collect rewards until the actor acts again, then jump there."""

    def walk(t, i):
        """(what t earns until the next active step or the end, its discount, where that is)."""
        earned, discount = 0.0, 1.0
        for k in range(t, T):
            earned += discount * float(reward[k, i])
            discount *= float(gamma[k, i])
            if terminated[k, i]:
                return earned, 0.0, None
            if truncated[k, i] or k == T - 1:
                return earned + discount * float(next_value[k, i]), 0.0, None
            if active[k + 1, i]:
                return earned + discount * float(value[k + 1, i]), discount, k + 1
        raise AssertionError

    advantage = np.zeros((T, N))
    for t, i in np.ndindex(T, N):
        weight, k = 1.0, t
        while k is not None:
            worth, discount, following = walk(k, i)
            advantage[t, i] += weight * (worth - float(value[k, i]))
            weight, k = weight * lambda_ * discount, following
    return advantage


@hypothesis.given(sparse_traces(), rates)
def test_advantages_go_from_active_step_to_active_step(trace, lambda_):
    expected = by_walking_ahead(*trace, lambda_)
    np.testing.assert_allclose(gae_between_active(*trace, lambda_), expected, rtol=1e-5, atol=1e-4)


@hypothesis.given(traces(), rates, rates)
def test_who_always_acts_has_the_advantages_of_gae(trace, gamma, lambda_):
    reward, value, next_value, terminated, truncated = trace
    following = np.concatenate([value[1:], next_value[-1:]])
    next_value = np.where(truncated, next_value, following)
    ends = terminated, truncated
    sparse = gae_between_active(
        reward, value, next_value, np.ones((T, N), bool), *ends, gamma, lambda_
    )
    plain = gae(reward, value, next_value, *ends, gamma, lambda_)
    np.testing.assert_allclose(sparse, plain, rtol=1e-6, atol=1e-5)


@hypothesis.given(sparse_traces(), rates)
def test_what_is_not_to_be_read_is_not_read(trace, lambda_):
    reward, value, next_value, active, terminated, truncated, gamma = trace
    read = truncated & ~terminated
    read[-1] |= ~terminated[-1]
    blurred = np.where(read, next_value, np.nan), active, terminated, truncated, gamma
    advantage = gae_between_active(*trace, lambda_)
    blind = gae_between_active(reward, np.where(active, value, np.nan), *blurred, lambda_)
    np.testing.assert_array_equal(advantage[active], blind[active])


def test_rewards_of_inactive_steps_accrue_to_the_last_active_one():
    # Acts at t=0 and t=3. t=3: 1 + .5 * 8 - 2 = 3.
    # t=0: 1 + .5 * 2 + .25 * 4 + .125 * v3 = 3.25, less v0 = 1; and .5 * .125 * 3 = .1875
    # For the critic: t=2: 4 + .5 * v3 = 5, and .5 * .5 * 3 = .75; t=1: 2 + .5 * 4 + .25 * v3 = 4.5,
    # and .5 * .25 * 3 = .375
    advantage = gae_between_active(
        reward=jnp.array([1.0, 2.0, 4.0, 1.0]),
        value=jnp.array([1.0, 50.0, 60.0, 2.0]),
        next_value=jnp.array([70.0, 80.0, 90.0, 8.0]),
        active=jnp.array([True, False, False, True]),
        terminated=jnp.zeros(4, bool),
        truncated=jnp.zeros(4, bool),
        gamma=0.5,
        gae_lambda=0.5,
    )
    np.testing.assert_array_equal(advantage, [2.4375, 4.875 - 50, 5.75 - 60, 3.0])


@pytest.mark.parametrize(
    ("terminated", "truncated", "first", "waiting"),
    [
        # goes on: 1 + .5 * 2 + .25 * 3 - 1 = 1.75, and .125 * 1.5; 2 + .5 * 3, and .25 * 1.5
        (False, False, 1.9375, 3.875),
        (True, False, 1.0, 2.0),  # 1 + .5 * 2 - 1; 2
        (False, True, 3.0, 6.0),  # 1 + .5 * 2 + .25 * 8 - 1; 2 + .5 * 8
        (True, True, 1.0, 2.0),
    ],
)
def test_an_episode_may_end_while_the_actor_is_inactive(terminated, truncated, first, waiting):
    # t=2, whose episode is another one if the first ended: .5 + .5 * 8 - 3 = 1.5
    advantage = gae_between_active(
        reward=jnp.array([1.0, 2.0, 0.5]),
        value=jnp.array([1.0, 50.0, 3.0]),
        next_value=jnp.array([70.0, 8.0, 8.0]),
        active=jnp.array([True, False, True]),
        terminated=jnp.array([False, terminated, False]),
        truncated=jnp.array([False, truncated, False]),
        gamma=0.5,
        gae_lambda=0.5,
    )
    np.testing.assert_array_equal(advantage, [first, waiting - 50, 1.5])


# --- V-trace, lambda-returns, n-step returns -------------------------------------------------

vtrace = jax.jit(returns.vtrace)
lambda_returns = jax.jit(returns.lambda_returns)
n_step_returns = jax.jit(returns.n_step_returns, static_argnums=5)

ratios = arrays.arrays(
    np.float32, (T, N), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0, 4.0])
)


def vtrace_by_double_loop(trace, ratio, gamma, lambda_, rho_clip, c_clip):
    """Targets by the sum in the paper's equation 1, and advantages from the targets."""
    reward, value, next_value, terminated, truncated = trace
    ended = terminated | truncated
    target, advantage = np.zeros((2, T, N))
    for t, i in np.ndindex(T, N):
        target[t, i], weight = value[t, i], 1.0
        for k in range(t, T):
            rho = min(rho_clip, float(ratio[k, i]))
            following = 0.0 if terminated[k, i] else float(next_value[k, i])
            error = float(reward[k, i]) + gamma * following - float(value[k, i])
            target[t, i] += weight * rho * error
            weight *= gamma * lambda_ * min(c_clip, float(ratio[k, i]))
            if ended[k, i]:
                break
    for t, i in np.ndindex(T, N):
        following = 0.0 if terminated[t, i] else float(next_value[t, i])
        if t < T - 1 and not ended[t, i]:
            following += lambda_ * (target[t + 1, i] - float(value[t + 1, i]))
        worth = float(reward[t, i]) + gamma * following
        advantage[t, i] = min(rho_clip, float(ratio[t, i])) * (worth - float(value[t, i]))
    return target, advantage


@hypothesis.given(traces(), ratios, rates, rates, st.sampled_from([(1.0, 1.0), (2.0, 0.5)]))
def test_vtrace_equals_the_sum_of_weighted_td_errors_for_any_pattern_of_ends(
    trace, ratio, gamma, lambda_, clips
):
    expected = vtrace_by_double_loop(trace, ratio, gamma, lambda_, *clips)
    found = vtrace(*trace, ratio, gamma, lambda_, *clips)
    np.testing.assert_allclose(found.target, expected[0], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(found.advantage, expected[1], rtol=1e-5, atol=1e-4)


def test_vtrace_is_the_one_worked_by_hand():
    # Clipped at 1, ratios 2, .5, 1 count as 1, .5, 1; t=2: x = 1 + .5 * 8 - 1 = 4, A = 4.
    # t=1: d = 2 + .5 * 1 - 3 = -.5, x = .5 * -.5 + .5 * .5 * 4 = .75, A = .5 * (-.5 + .5 * 4)
    # t=0: d = 1 + .5 * 3 - 2 = .5, x = .5 + .5 * .75 = .875, A = .5 + .5 * .75
    found = vtrace(
        reward=jnp.array([1.0, 2.0, 1.0]),
        value=jnp.array([2.0, 3.0, 1.0]),
        next_value=jnp.array([3.0, 1.0, 8.0]),
        terminated=jnp.zeros(3, bool),
        truncated=jnp.zeros(3, bool),
        ratio=jnp.array([2.0, 0.5, 1.0]),
        gamma=0.5,
    )
    np.testing.assert_array_equal(found.target, [2.875, 3.75, 5.0])
    np.testing.assert_array_equal(found.advantage, [0.875, 0.75, 4.0])


@hypothesis.given(traces(), rates, rates)
def test_vtrace_of_the_policy_itself_is_gae(trace, gamma, lambda_):
    found = vtrace(*trace, np.ones((T, N), np.float32), gamma, lambda_)
    advantage = gae(*trace, gamma, lambda_)
    np.testing.assert_allclose(found.advantage, advantage, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(found.target, trace[1] + advantage, rtol=1e-6, atol=1e-5)


@hypothesis.given(traces(), traces(), ratios, st.integers(0, T - 2), st.booleans(), st.booleans())
def test_vtrace_and_returns_of_one_episode_do_not_depend_on_the_next(
    trace, other, ratio, last, terminated, truncated
):
    trace[3][last], trace[4][last] = terminated, truncated or not terminated
    # What would have followed a termination must not be read either.
    trace[2][last] = np.where(trace[3][last], np.nan, trace[2][last])
    whole, another = (*trace, ratio), (*other, ratio[::-1])
    mixed = [
        np.concatenate([x[: last + 1], y[last + 1 :]]) for x, y in zip(whole, another, strict=True)
    ]

    def estimates(reward, value, next_value, terminated, truncated, ratio):
        steps = reward, next_value, terminated, truncated
        found = (
            *vtrace(reward, value, *steps[1:], ratio, 0.9, 0.9),
            lambda_returns(*steps, 0.9, 0.9),
        )
        return [estimate[: last + 1] for estimate in (*found, n_step_returns(*steps, 0.9, 3))]

    for before, after in zip(estimates(*whole), estimates(*mixed), strict=True):
        np.testing.assert_array_equal(before, after)
        assert np.isfinite(before).all()


@hypothesis.given(traces(), rates, rates)
def test_lambda_returns_are_gae_plus_values_that_belong_together(trace, gamma, lambda_):
    reward, value, next_value, terminated, truncated = trace
    following = np.concatenate([value[1:], next_value[-1:]])
    next_value = np.where(truncated, next_value, following)
    found = lambda_returns(reward, next_value, terminated, truncated, gamma, lambda_)
    expected = gae(reward, value, next_value, terminated, truncated, gamma, lambda_) + value
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def n_steps_by_double_loop(reward, next_value, terminated, truncated, gamma, num_steps):
    found = np.zeros((T, N))
    for t, i in np.ndindex(T, N):
        discount = 1.0
        for k in range(t, T):
            found[t, i] += discount * float(reward[k, i])
            discount *= gamma
            if terminated[k, i]:
                break
            if truncated[k, i] or k == min(t + num_steps, T) - 1:
                found[t, i] += discount * float(next_value[k, i])
                break
    return found


@pytest.mark.parametrize("num_steps", [1, 3, T, 2 * T])
@hypothesis.given(trace=traces(), gamma=rates)
def test_n_step_returns_equal_the_sum_of_rewards_for_any_pattern_of_ends(num_steps, trace, gamma):
    reward, _, next_value, terminated, truncated = trace
    steps = reward, next_value, terminated, truncated, gamma
    found, expected = n_step_returns(*steps, num_steps), n_steps_by_double_loop(*steps, num_steps)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)
    if num_steps >= T:
        np.testing.assert_allclose(found, lambda_returns(*steps, 1.0), rtol=1e-6, atol=1e-5)


# --- the scan, and how well values are predicted --------------------------------------------


def test_the_reverse_scan_solves_its_recurrence():
    # x2 = 3 + 2 * 10 = 23, x1 = 2 + 0 * 23 = 2, x0 = 1 + 0.5 * 2 = 2
    solution = returns.affine_reverse_scan(
        jnp.array([1.0, 2.0, 3.0]), jnp.array([0.5, 0.0, 2.0]), jnp.array(10.0)
    )
    np.testing.assert_array_equal(solution, [2.0, 2.0, 23.0])


def test_the_reverse_scan_of_two_pieces_is_that_of_the_whole():
    random = np.random.default_rng(2)
    offset, factor = random.normal(size=(2, T)).astype(np.float32)
    whole = returns.affine_reverse_scan(offset, factor, jnp.float32(1.5))
    late = returns.affine_reverse_scan(offset[5:], factor[5:], jnp.float32(1.5))
    early = returns.affine_reverse_scan(offset[:5], factor[:5], late[0])
    np.testing.assert_array_equal(whole, jnp.concatenate([early, late]))


def test_explained_variance_is_one_when_perfect_and_zero_for_a_constant_prediction():
    target = jnp.array([1.0, 2.0, 3.0, 4.0])
    assert returns.explained_variance(target, target) == 1.0
    assert returns.explained_variance(jnp.full(4, 7.0), target) == 0.0
    # Var[target - prediction] = Var[2 * target] = 4 Var[target]
    assert returns.explained_variance(-target, target) == -3.0


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.7, 100.1])
@pytest.mark.parametrize("num", [64, 1000])
def test_explained_variance_of_a_constant_target_is_nan_whatever_the_rounding(constant, num):
    prediction = jnp.arange(num, dtype=jnp.float32)
    assert jnp.isnan(returns.explained_variance(prediction, jnp.full(num, constant)))


def test_explained_variance_is_exact_far_from_zero():
    random = np.random.default_rng(3)
    target = (random.normal(size=4096) + 1e5).astype(np.float32)
    prediction = (target + 0.5 * random.normal(size=4096)).astype(np.float32)
    wide = np.float64(target)
    expected = 1 - (wide - prediction).var() / wide.var()
    np.testing.assert_allclose(returns.explained_variance(prediction, target), expected, atol=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_explained_variance_under_a_mask_is_that_of_the_masked_values(seed):
    random = np.random.default_rng(seed)
    prediction, target = random.normal(size=(2, 8, 5)).astype(np.float32)
    where = random.random((8, 5)) < 0.4
    expected = 1 - (target - prediction)[where].var() / target[where].var()
    explained = jax.jit(returns.explained_variance)
    np.testing.assert_allclose(explained(prediction, target, where), expected, rtol=1e-5)
    hidden = np.where(where, prediction, np.nan), np.where(where, target, np.inf)
    np.testing.assert_allclose(explained(*hidden, where), expected, rtol=1e-5)
    everywhere = explained(prediction, target, np.ones_like(where))
    np.testing.assert_allclose(everywhere, explained(prediction, target), rtol=1e-6)


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.7, 100.1])
def test_explained_variance_is_nan_where_the_masked_targets_are_equal_or_none(constant):
    prediction = jnp.arange(64, dtype=jnp.float32)
    where = prediction % 3 == 0
    target = jnp.where(where, constant, prediction)
    assert jnp.isnan(returns.explained_variance(prediction, target, where))
    assert jnp.isnan(returns.explained_variance(prediction, target, jnp.zeros(64, bool)))
