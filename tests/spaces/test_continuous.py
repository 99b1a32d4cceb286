"""Bounded distributions against SciPy and numerical integrals in float64."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.special
import scipy.stats

from mazejax import random
from mazejax.errors import ConfigError
from mazejax.spaces import Beta, Box, Discrete, SquashedGaussian
from mazejax.spaces.continuous import DiagonalGaussian

RNG = np.random.default_rng(3)
BATCH = (2, 3)
SPACE = Box([-1.0, 0.0, -3.0, 1000.0], [1.0, 0.5, 7.0, 1001.0])
UNIT = Box(-1.0, 1.0, ())
NUM_DRAWS = 4000


def normal(*shape, scale=1.0):
    return (scale * RNG.standard_normal(shape)).astype(np.float32)


def squashed(space=SPACE, batch=BATCH):
    shape = (*batch, *space.shape)
    return SquashedGaussian(normal(*shape), normal(*shape, scale=0.3), space)


def beta(space=SPACE, batch=BATCH):
    shape = (*batch, *space.shape)
    return Beta.unimodal(normal(*shape, scale=3.0), normal(*shape, scale=3.0), space)


KINDS = [squashed, beta]


@jax.jit
def measured(d, other, action):
    """log_prob, entropy, KL to itself and to the other."""
    return d.log_prob(action), d.entropy(), d.kl_divergence(d), d.kl_divergence(other)


@jax.jit
def drawn(d, keys):
    return jax.vmap(d.sample)(keys)


# --- references, float64 ------------------------------------------------------------


def log_density(d, action):
    """[..., *shape], of each entry."""
    low, high = np.float64(d.space.low), np.float64(d.space.high)
    if isinstance(d, Beta):
        alpha, beta = np.float64(d.alpha), np.float64(d.beta)
        return scipy.stats.beta.logpdf(action, alpha, beta, low, high - low)
    mean, std = np.float64(d.mean), np.exp(np.float64(d.log_std))
    unit = (action - low) / (high - low)
    x = 0.5 * (np.log(unit) - np.log1p(-unit))
    slope = 2 * (high - low) * unit * (1 - unit)
    return scipy.stats.norm.logpdf(x, mean, std) - np.log(slope)


def means(d, *functions):
    """E f(action) of each function of one entry's action, for a distribution of one number."""
    low, high = float(d.space.low), float(d.space.high)
    # The tanh grid is dense near the bounds.
    x = np.linspace(-16, 16, 200_001)
    action = low + (high - low) / (1 + np.exp(-2 * x))
    slope = (action - low) * (high - action) * 2 / (high - low)
    inside = slope > 0
    action, weight, x = action[inside], slope[inside], x[inside]
    density = np.exp(log_density(d, action)) * weight
    return [scipy.integrate.trapezoid(density * f(action), x) for f in functions]


def single(kind, *parameters, space=UNIT):
    return kind(*map(np.float32, parameters), space)


PAIRS = [
    (single(SquashedGaussian, 0.4, -0.5), single(SquashedGaussian, -0.3, 0.2)),
    (
        single(Beta, 3.0, 1.5, space=Box(2.0, 5.0, ())),
        single(Beta, 1.2, 4.0, space=Box(2.0, 5.0, ())),
    ),
]


# --- values -------------------------------------------------------------------------


@pytest.mark.parametrize("make", KINDS)
def test_log_prob_is_that_of_scipy_for_actions_inside(make):
    d = make()
    action = SPACE.low + np.float32([[[0.5, 0.25, 0.75, 0.5]]]) * (SPACE.high - SPACE.low)
    action = np.broadcast_to(action, (*BATCH, 4))
    got = measured(d, d, action)
    assert all(value.shape == BATCH and value.dtype == jnp.float32 for value in got)
    want = log_density(d, np.float64(action)).sum(-1)
    np.testing.assert_allclose(got[0], want, rtol=1e-5, atol=1e-5)
    assert (got[2] == 0).all()


@pytest.mark.parametrize(("mine", "other"), PAIRS)
def test_total_probability_entropy_and_kl_are_those_of_numerical_integrals(mine, other):
    total, entropy, divergence = means(
        mine,
        np.ones_like,
        lambda action: -log_density(mine, action),
        lambda action: log_density(mine, action) - log_density(other, action),
    )
    _, got_entropy, _, got_divergence = measured(mine, other, mine.mode())
    assert total == pytest.approx(1.0, abs=1e-5)
    assert float(got_entropy) == pytest.approx(entropy, abs=1e-4)
    assert float(got_divergence) == pytest.approx(divergence, abs=1e-4)


def test_the_density_of_squashed_gaussians_sums_to_one():
    d = single(SquashedGaussian, 0.3, 0.4)
    action = jnp.linspace(-1.0, 1.0, 20_001)
    density = jnp.exp(jax.jit(jax.vmap(d.log_prob))(action))
    assert scipy.integrate.trapezoid(density, action) == pytest.approx(1.0, abs=1e-3)


def test_the_entropy_of_squashed_gaussians_is_exact_to_1e_4_at_all_means_and_spreads():
    mean, log_std = np.meshgrid([0.0, 0.3, -1.0, 4.0, -30.0], [-5.0, -1.0, 0.0, 1.0, 2.0, 4.0])
    z = np.linspace(-12, 12, 100_001)
    x = mean[..., None] + np.exp(log_std)[..., None] * z
    log_slope = np.log(2.5) - 2 * (np.logaddexp(x, -x) - np.log(2))  # -2 log cosh(x)
    expected = scipy.integrate.trapezoid(scipy.stats.norm.pdf(z) * log_slope, z)
    expected += scipy.stats.norm.entropy(scale=np.exp(log_std))
    d = SquashedGaussian(
        np.float32(mean)[..., None], np.float32(log_std)[..., None], Box(0.0, 5.0, (1,))
    )
    np.testing.assert_allclose(jax.jit(lambda d: d.entropy())(d), expected, rtol=1e-5, atol=1e-4)


def test_the_entropy_of_betas_is_that_of_scipy():
    d = beta()
    scale = np.float64(SPACE.high) - SPACE.low
    want = scipy.stats.beta.entropy(np.float64(d.alpha), np.float64(d.beta), scale=scale).sum(-1)
    np.testing.assert_allclose(measured(d, d, d.mode())[1], want, rtol=1e-5, atol=1e-4)


def concentrated(center):
    """Betas [256] with concentrations around the center, others near them, and their draws."""
    rng = np.random.default_rng(int(center))
    alpha, beta, *near = center ** rng.uniform(0.9, 1.1, (4, 256))
    alpha, beta = np.float32(alpha), np.float32(beta)
    other = np.float32([alpha * (1 + near[0] / center / 100), beta * (1 - near[1] / center / 100)])
    action = np.float32(2 * rng.beta(np.float64(alpha), np.float64(beta)) - 1)
    return Beta(alpha, beta, UNIT), Beta(*other, UNIT), action.clip(-0.999, 0.999)


def kl_of_betas(mine, other):
    a, b, c, d = map(np.float64, (mine.alpha, mine.beta, other.alpha, other.beta))
    logs = scipy.special.betaln(c, d) - scipy.special.betaln(a, b)
    means = (a - c) * scipy.special.digamma(a) + (b - d) * scipy.special.digamma(b)
    return logs + means + (c - a + d - b) * scipy.special.digamma(a + b)


@pytest.mark.parametrize(
    ("center", "tolerance"), [(1.5, 1e-6), (10, 3e-6), (100, 1e-5), (1e3, 2e-5), (1e4, 1e-4)]
)
def test_betas_keep_their_digits_however_concentrated_they_are(center, tolerance):
    d, other, action = concentrated(center)
    log_prob, entropy, to_itself, divergence = measured(d, other, action)
    want = log_density(d, np.float64(action))
    np.testing.assert_allclose(log_prob, want, rtol=1e-6, atol=tolerance)
    alpha, beta = np.float64(d.alpha), np.float64(d.beta)
    want = scipy.stats.beta.entropy(alpha, beta) + np.log(2)
    np.testing.assert_allclose(entropy, want, rtol=0, atol=2e-6)
    np.testing.assert_allclose(divergence, kl_of_betas(d, other), rtol=1e-5, atol=1e-6)
    assert (to_itself == 0).all()


@pytest.mark.parametrize("center", [1.5, 100, 1e4])
def test_gradients_of_concentrated_betas_are_those_of_scipy(center):
    d, _, action = concentrated(center)
    alpha, beta, y = np.float64(d.alpha), np.float64(d.beta), (np.float64(action) + 1) / 2
    found = jax.jit(jax.grad(lambda d: d.log_prob(action).sum()))(d)
    total = scipy.special.digamma(alpha + beta)
    want = [np.log(y) - scipy.special.digamma(alpha), np.log1p(-y) - scipy.special.digamma(beta)]
    np.testing.assert_allclose(found.alpha, want[0] + total, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.beta, want[1] + total, rtol=1e-5, atol=1e-6)
    found = jax.jit(jax.grad(lambda d: d.entropy().sum()))(d)
    want = (alpha + beta - 2) * scipy.special.polygamma(1, alpha + beta)
    want -= (alpha - 1) * scipy.special.polygamma(1, alpha)
    np.testing.assert_allclose(found.alpha, want, rtol=1e-5, atol=1e-6)


def test_the_flat_beta_has_the_density_and_entropy_of_all_being_equally_likely():
    d = Beta(jnp.ones(101), jnp.ones(101), UNIT)
    np.testing.assert_allclose(d.log_prob(jnp.linspace(-1, 1, 101)), -np.log(2), rtol=5e-7)
    np.testing.assert_allclose(d.entropy(), np.log(2), rtol=5e-7)


def test_the_mode_of_squashed_gaussians_is_the_squashed_mean():
    d = squashed()
    low, high = np.float64(SPACE.low), np.float64(SPACE.high)
    want = low + (high - low) * (np.tanh(np.float64(d.mean)) + 1) / 2
    np.testing.assert_allclose(d.mode(), want, rtol=1e-6, atol=1e-6)


def test_the_mode_of_betas_is_the_likeliest_action():
    d = single(Beta, 3.0, 1.5, space=Box(2.0, 5.0, ()))
    found = scipy.optimize.minimize_scalar(
        lambda action: -log_density(d, action), bounds=(2.0, 5.0), method="bounded"
    )
    assert float(d.mode()) == pytest.approx(found.x, abs=1e-4)
    assert [float(single(Beta, *c).mode()) for c in ((1, 1), (2, 1), (1, 2))] == [0.0, 1.0, -1.0]


def test_unimodal_betas_have_concentrations_above_one_from_any_numbers():
    d = Beta.unimodal(jnp.array([0.0, -50.0]), jnp.array([2.0, 1e4]), Box(0.0, 1.0, (2,)))
    np.testing.assert_allclose(d.alpha, 1 + np.log1p(np.exp([0.0, -50.0])), rtol=1e-6)
    np.testing.assert_allclose(d.beta, 1 + np.logaddexp([2.0, 1e4], 0), rtol=1e-6)


def test_the_kl_of_squashed_gaussians_is_that_of_the_gaussians():
    mine, other = squashed(), squashed()
    gaussians = [DiagonalGaussian(d.mean, d.log_std) for d in (mine, other)]
    want = gaussians[0].kl_divergence(gaussians[1])
    np.testing.assert_allclose(measured(mine, other, mine.mode())[3], want, rtol=1e-6)


# --- draws --------------------------------------------------------------------------


@pytest.mark.parametrize("impl", ["counter", "threefry2x32"])
@pytest.mark.parametrize("make", KINDS)
def test_draws_have_the_distribution_and_lie_in_the_space(make, impl):
    d = make(batch=())
    actions = np.asarray(drawn(d, jax.random.split(random.key(0, impl), NUM_DRAWS)))
    assert actions.dtype == np.float32
    assert (actions >= SPACE.low).all() and (actions <= SPACE.high).all()
    for i in range(3):  # of the last entry float32 knows only 2^14 numbers
        unit = (np.float64(actions[:, i]) - SPACE.low[i]) / (SPACE.high[i] - SPACE.low[i])
        if isinstance(d, Beta):
            cdf = scipy.stats.beta(d.alpha[i], d.beta[i]).cdf
        else:
            cdf = scipy.stats.norm(d.mean[i], np.exp(d.log_std[i])).cdf
            unit = 0.5 * scipy.special.logit(unit)
        assert scipy.stats.kstest(unit, cdf).pvalue > 1e-4


@pytest.mark.parametrize("make", KINDS)
def test_the_draws_of_a_batch_are_those_of_each(make):
    d = make(batch=(3,))
    keys = jax.random.split(random.key(1), 3)
    together = jax.jit(jax.vmap(lambda d, key: d.sample(key)))(d, keys)
    alone = jax.jit(lambda d, key: d.sample(key))
    for i in range(3):
        row = jax.tree.map(lambda leaf: leaf[i], d)  # noqa: B023
        np.testing.assert_allclose(together[i], alone(row, keys[i]), rtol=1e-6, atol=1e-6)


# --- bounds -------------------------------------------------------------------------

BOUNDED = [
    Box(-1.0, 1.0, (2,)),
    Box(0.0, 1.0, (2,)),
    Box([1000.0, -1.0], [1001.0, 1e-3]),
    Box(-1e30, 1e30, (2,)),
    Box(0, 255, (2,), np.uint8),
    Box(0.0, 1.0, (2,), np.float64),
]


@pytest.mark.parametrize("space", BOUNDED, ids=repr)
@pytest.mark.parametrize("make", KINDS)
def test_values_and_gradients_are_finite_at_the_bounds(make, space):
    d = make(space, ())
    low, high = np.float32(space.low), np.float32(space.high)
    actions = np.stack([low, high, np.nextafter(low, high), np.nextafter(high, low)])

    @jax.jit
    @jax.vmap
    def value_and_gradients(action):
        return jax.value_and_grad(lambda d, action: d.log_prob(action), argnums=(0, 1))(d, action)

    assert jax.tree.all(
        jax.tree.map(lambda leaf: jnp.isfinite(leaf).all(), value_and_gradients(actions))
    )


@pytest.mark.parametrize("make", KINDS)
def test_a_bound_has_the_density_of_the_closest_number_inside(make):
    d = make(Box(-1.0, 1.0, (1,)), ())
    ends, inside = np.float32([[-1], [1]]), np.nextafter(np.float32([[-1], [1]]), np.float32(0))
    log_prob = jax.vmap(d.log_prob)
    assert (log_prob(ends) == log_prob(inside)).all()
    assert (log_prob(2 * ends) == log_prob(inside)).all()
    want = log_density(d, np.float64(inside)).sum(-1)
    np.testing.assert_allclose(log_prob(ends), want, rtol=1e-5)


def test_saturated_draws_are_as_the_bounds_and_stay_finite():
    space = Box([-2.0, 0.1], [0.7, 3.0])
    d = SquashedGaussian(jnp.array([50.0, -50.0]), jnp.zeros(2), space)
    for action in (d.mode(), d.sample(random.key(0))):
        space.validate(np.asarray(action))
        np.testing.assert_allclose(action, [0.7, 0.1], rtol=3e-7)
        assert jnp.isfinite(d.log_prob(action))


# --- extremes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "build",
    [
        lambda x: SquashedGaussian(x, jnp.full(6, -8.0), Box(0.0, 1.0, (6,))),
        lambda x: SquashedGaussian(x, x * 1e-3, Box(0.0, 1.0, (6,))),
        lambda x: Beta.unimodal(x, -x, Box(0.0, 1.0, (6,))),
    ],
)
def test_values_and_gradients_are_finite_at_extreme_parameters(build):
    @jax.jit
    def measure(x):
        def total(x):
            d, other = build(x), build(0.5 * x)
            action = jax.lax.stop_gradient(d.sample(random.key(0)))
            values = [d.log_prob(action), d.log_prob(other.mode()), d.entropy()]
            values += [d.kl_divergence(other), other.kl_divergence(d)]
            return sum(values), values

        return jax.value_and_grad(total, has_aux=True)(x)

    (_, values), gradient = measure(jnp.array([1e4, -1e4, 0.0, 1e4, -1e4, 1e-30], jnp.float32))
    assert jnp.isfinite(jnp.stack(values)).all() and jnp.isfinite(gradient).all()


@jax.jit
def act(mean, log_std, seed):
    found = []
    for d in (SquashedGaussian(mean, log_std, SPACE), Beta.unimodal(mean, log_std, SPACE)):
        action = d.sample(random.key(seed))
        found.append((action, d.mode(), d.log_prob(action), d.entropy()))
    return found


numbers = st.lists(st.floats(-30, 30, width=32), min_size=4, max_size=4)
spreads = st.lists(st.floats(-8, 4, width=32), min_size=4, max_size=4)


@hypothesis.settings(max_examples=30, deadline=None)
@hypothesis.given(numbers, spreads, st.integers(0, 2**31 - 1))
def test_whatever_the_parameters_actions_lie_in_the_space_and_are_possible(mean, log_std, seed):
    for action, mode, log_prob, entropy in act(jnp.array(mean), jnp.array(log_std), seed):
        SPACE.validate(np.asarray(action))
        SPACE.validate(np.asarray(mode))
        assert np.isfinite(log_prob) and np.isfinite(entropy)


# --- the rest -----------------------------------------------------------------------


def test_half_precision_parameters_are_computed_in_float32():
    mean, space = normal(4).astype(jnp.bfloat16), Box(-1.0, 1.0, (4,))
    for d in (SquashedGaussian(mean, mean, space), Beta.unimodal(mean, mean, space)):
        values = d.sample(random.key(0)), d.mode(), d.log_prob(d.mode()), d.entropy()
        assert all(value.dtype == jnp.float32 for value in values)


def test_a_log_std_without_batch_axes_serves_all_rows():
    mean, log_std = normal(*BATCH, 4), normal(4)
    shared = SquashedGaussian(mean, log_std, SPACE)
    full = SquashedGaussian(mean, np.broadcast_to(log_std, mean.shape), SPACE)
    assert (shared.entropy() == full.entropy()).all() and shared.entropy().shape == BATCH
    assert (shared.log_prob(full.mode()) == full.log_prob(full.mode())).all()


def test_divergence_between_different_bounds_is_refused():
    one, other = single(Beta, 2.0, 2.0), single(Beta, 2.0, 2.0, space=Box(-1.0, 2.0, ()))
    with pytest.raises(ConfigError, match="compare distributions over the same space"):
        one.kl_divergence(other)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (Box([0.0, -np.inf], [1.0, 1.0]), r"Box with low -inf at entry \(1,\), expected finite"),
        (Box(0.0, np.inf, (2,)), r"Box with high inf at entry \(0,\), expected finite"),
        (Box(0.0, 1e300, (), np.float64), r"Box with high inf at entry \(\)"),
        (Box(-3e38, 3e38, ()), "a width that float32 can hold"),
        (Box(0.5, 0.5, ()), "from 0.5 to 0.5 at entry"),
        (Box(1.0, np.nextafter(np.float32(1), 2), ()), "numbers between the bounds"),
        (Discrete(3), "got Discrete, expected a Box with finite bounds"),
    ],
)
@pytest.mark.parametrize("kind", [SquashedGaussian, Beta])
def test_spaces_without_finite_bounds_apart_from_each_other_are_refused(kind, space, message):
    with pytest.raises(
        ConfigError, match=f"^{kind.__name__}: got .*{message.removeprefix('got ')}"
    ):
        kind(jnp.ones(space.shape), jnp.ones(space.shape), space)
