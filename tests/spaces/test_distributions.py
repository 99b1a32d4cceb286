import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from mazejax import random
from mazejax.errors import ConfigError
from mazejax.spaces.continuous import DiagonalGaussian
from mazejax.spaces.distributions import (
    Bernoulli,
    Categorical,
    MultiCategorical,
    Product,
)

RNG = np.random.default_rng(0)
BATCH = (2, 3)
NUM_DRAWS = 100_000
LOWEST = float(np.finfo(np.float32).min)


def normal(*shape, scale=1.5):
    return (scale * RNG.standard_normal(shape)).astype(np.float32)


def categorical(start=-1):
    return Categorical(normal(*BATCH, 5), start)


def multi_categorical():
    return MultiCategorical(normal(*BATCH, 9), (2, 4, 3), (0, -1, 5))


def multi_categorical_grid():
    return MultiCategorical(normal(*BATCH, 12), (3, 3, 3, 3), None, (2, 2))


def bernoulli():
    return Bernoulli(normal(*BATCH, 4))


def gaussian():
    return DiagonalGaussian(normal(*BATCH, 3), normal(*BATCH, 3, scale=0.5))


def gaussian_of_matrices():
    return DiagonalGaussian(normal(*BATCH, 2, 2), normal(*BATCH, 2, 2, scale=0.5), 2)


def product():
    return Product({"steer": gaussian(), "gear": Product({"b": categorical(), "a": bernoulli()})})


KINDS = [
    categorical,
    multi_categorical,
    multi_categorical_grid,
    bernoulli,
    gaussian,
    gaussian_of_matrices,
    product,
]


def log_softmax(logits):
    return scipy.special.log_softmax(np.float64(logits), -1)


def heads(d):
    """Logits of the entries of a MultiCategorical, and their starts."""
    logits = np.split(np.asarray(d.logits), np.cumsum(d.nvec)[:-1], axis=-1)
    return logits, d.start or (0,) * len(d.nvec)


# --- references: log_prob, entropy, KL by scipy.stats in float64 --------------------


def reference_log_prob(d, action):
    match d:
        case Categorical():
            index = np.asarray(action) - d.start
            return np.take_along_axis(log_softmax(d.logits), index[..., None], -1)[..., 0]
        case MultiCategorical():
            entries = np.asarray(action).reshape(*BATCH, -1)
            parts = enumerate(zip(*heads(d), strict=True))
            return sum(
                reference_log_prob(Categorical(logits, start), entries[..., i])
                for i, (logits, start) in parts
            )
        case Bernoulli():
            p = scipy.special.expit(np.float64(d.logits))
            return scipy.stats.bernoulli.logpmf(action, p).sum(-1)
        case DiagonalGaussian():
            std = np.exp(np.float64(d.log_std))
            axes = tuple(range(-d.event_ndim, 0))
            return scipy.stats.norm.logpdf(action, np.float64(d.mean), std).sum(axes)
        case Product():
            return sum(reference_log_prob(d.parts[name], action[name]) for name in d.parts)


def reference_entropy(d):
    match d:
        case Categorical():
            return scipy.stats.entropy(np.exp(log_softmax(d.logits)), axis=-1)
        case MultiCategorical():
            return sum(reference_entropy(Categorical(logits)) for logits in heads(d)[0])
        case Bernoulli():
            return scipy.stats.bernoulli.entropy(scipy.special.expit(np.float64(d.logits))).sum(-1)
        case DiagonalGaussian():
            axes = tuple(range(-d.event_ndim, 0))
            return scipy.stats.norm.entropy(scale=np.exp(np.float64(d.log_std))).sum(axes)
        case Product():
            return sum(map(reference_entropy, d.parts.values()))


def reference_kl(d, other):
    match d:
        case Categorical():
            p, q = np.exp(log_softmax(d.logits)), np.exp(log_softmax(other.logits))
            return scipy.stats.entropy(p, q, axis=-1)
        case MultiCategorical():
            pairs = zip(heads(d)[0], heads(other)[0], strict=True)
            return sum(reference_kl(Categorical(a), Categorical(b)) for a, b in pairs)
        case Bernoulli():
            p, q = (scipy.special.expit(np.float64(x.logits)) for x in (d, other))
            return scipy.stats.entropy(np.stack([p, 1 - p]), np.stack([q, 1 - q])).sum(-1)
        case DiagonalGaussian():
            axes = tuple(range(-d.event_ndim, 0))
            m1, m2, l1, l2 = map(np.float64, (d.mean, other.mean, d.log_std, other.log_std))
            ratio = (np.exp(2 * l1) + (m1 - m2) ** 2) / np.exp(2 * l2)
            return (0.5 * (ratio - 1) + l2 - l1).sum(axes)
        case Product():
            return sum(reference_kl(d.parts[name], other.parts[name]) for name in d.parts)


@pytest.mark.parametrize("make", KINDS)
def test_log_prob_entropy_and_kl_are_those_of_scipy(make):
    mine, other = make(), make()

    @jax.jit
    def measure(mine, other):
        action = mine.sample(random.key(0))
        divergences = mine.kl_divergence(mine), mine.kl_divergence(other)
        return action, *divergences, mine.log_prob(action), mine.entropy()

    action, from_itself, *measured = measure(mine, other)
    assert (from_itself == 0).all()
    expected = [
        reference_kl(mine, other),
        reference_log_prob(mine, action),
        reference_entropy(mine),
    ]
    for got, want in zip(measured, expected, strict=True):
        assert got.shape == BATCH and got.dtype == jnp.float32
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", KINDS)
def test_the_mode_is_the_likeliest_action(make):
    @jax.jit
    def log_probs(d):
        drawn = jax.vmap(d.sample)(jax.random.split(random.key(0), 100))
        return d.log_prob(d.mode()), jax.vmap(d.log_prob)(drawn)

    best, others = log_probs(make())
    assert (others <= jnp.broadcast_to(best, others.shape) + 1e-5).all()


# --- draws --------------------------------------------------------------------------


@pytest.mark.parametrize("make", KINDS)
def test_the_draws_of_a_batch_of_distributions_are_those_of_each(make):
    d = row(make(), 0)
    keys = jax.random.split(random.key(1), BATCH[1])
    together = jax.jit(jax.vmap(sample))(d, keys)
    alone = jax.jit(sample)
    for i in range(BATCH[1]):
        pairs = jax.tree.map(same_draw, row(together, i), alone(row(d, i), keys[i]))
        assert jax.tree.all(pairs)


def sample(d, key):
    return d.sample(key)


def row(tree, i):
    return jax.tree.map(lambda leaf: np.asarray(leaf)[i], tree)


def same_draw(a, b):
    # Floats may differ in the last bit between programs, discrete draws may not.
    return np.allclose(a, b, rtol=1e-6, atol=1e-7) if a.dtype == np.float32 else (a == b).all()


def test_categories_are_drawn_in_proportion_to_their_probabilities():
    d = row(categorical(start=2), (0, 0))
    drawn = jax.jit(jax.vmap(d.sample))(jax.random.split(random.key(0), NUM_DRAWS))
    assert drawn.dtype == jnp.int32
    frequency = np.bincount(np.asarray(drawn) - 2, minlength=5) / NUM_DRAWS
    p = np.exp(log_softmax(d.logits))
    assert (np.abs(frequency - p) < 4 * np.sqrt(p * (1 - p) / NUM_DRAWS)).all()


def test_multiple_categories_are_drawn_independently_and_in_proportion():
    d = row(multi_categorical(), (0, 0))
    drawn = jax.jit(jax.vmap(d.sample))(jax.random.split(random.key(0), NUM_DRAWS))
    counts = np.zeros(d.nvec)
    np.add.at(counts, tuple((np.asarray(drawn) - np.asarray(d.start)).T), 1)
    first, second, third = (np.exp(log_softmax(logits)) for logits in heads(d)[0])
    p = np.einsum("i,j,k->ijk", first, second, third)
    assert (np.abs(counts / NUM_DRAWS - p) < 4 * np.sqrt(p * (1 - p) / NUM_DRAWS)).all()


def test_switches_and_normal_numbers_have_their_mean_and_variance():
    switches = row(bernoulli(), (0, 0))
    normals = row(gaussian(), (0, 0))
    keys = jax.random.split(random.key(0), NUM_DRAWS)
    p = scipy.special.expit(np.float64(switches.logits))
    variance = np.exp(2 * np.float64(normals.log_std))
    drawn = np.asarray(jax.jit(jax.vmap(switches.sample))(keys))
    assert drawn.dtype == np.int8 and set(np.unique(drawn)) == {0, 1}
    assert (np.abs(drawn.mean(0) - p) < 4 * np.sqrt(p * (1 - p) / NUM_DRAWS)).all()
    drawn = np.asarray(jax.jit(jax.vmap(normals.sample))(keys), np.float64)
    assert (np.abs(drawn.mean(0) - normals.mean) < 4 * np.sqrt(variance / NUM_DRAWS)).all()
    assert (np.abs(drawn.var(0) - variance) < 4 * variance * np.sqrt(2 / NUM_DRAWS)).all()


@pytest.mark.parametrize("uniform", [0.0, 0.25, 0.5, 1 - 2**-24, 1.0])
def test_an_action_of_probability_zero_is_never_drawn_whatever_the_uniform(monkeypatch, uniform):
    logits = np.array([-np.inf, 0.0, -200.0, 0.1, LOWEST, 1e-3, -np.inf], np.float32)
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape, dtype: jnp.full(shape, uniform))
    expected = {0.0: 1, 0.25: 1, 0.5: 3}.get(uniform, 5)
    assert Categorical(logits).sample(None) == expected


def test_masked_actions_are_not_drawn_in_a_million_draws():
    d = Categorical.masked(jnp.array([3.0, 0.0, 5.0, -1.0, 2.0]), jnp.array([0, 1, 0, 1, 0]))
    drawn = jax.jit(jax.vmap(d.sample))(jax.random.split(random.key(0), 1_000_000))
    counts = np.bincount(np.asarray(drawn), minlength=5)
    assert counts[[0, 2, 4]].tolist() == [0, 0, 0] and counts[[1, 3]].min() > 0


def test_many_categories_are_drawn_as_few_are():
    logits = jnp.zeros(1000).at[::2].set(-jnp.inf)
    drawn = jax.jit(jax.vmap(Categorical(logits).sample))(jax.random.split(random.key(0), 20_000))
    assert (drawn % 2 == 1).all()
    z = (float(drawn.mean()) - 500.0) / (1000 / np.sqrt(12) / np.sqrt(20_000))
    assert abs(z) < 4


def test_each_key_of_a_product_draws_from_its_own_stream():
    part = DiagonalGaussian(jnp.zeros(2), jnp.zeros(2))
    drawn = Product({"a": part, "b": part}).sample(random.key(0))
    assert (drawn["a"] == part.sample(random.stream(random.key(0), "a"))).all()
    assert (drawn["a"] != drawn["b"]).all()


# --- masks --------------------------------------------------------------------------


def test_a_mask_leaves_the_distribution_over_the_allowed_actions():
    logits, mask = normal(3, 5), np.array([[1, 0, 1, 1, 0], [0, 1, 0, 0, 0], [1, 1, 1, 1, 1]], bool)

    @jax.jit
    def measure(logits, mask):
        d = Categorical.masked(logits, mask)
        log_probs = jax.vmap(d.log_prob)(jnp.broadcast_to(jnp.arange(5)[:, None], (5, 3)))
        return log_probs.T, d.entropy(), d.kl_divergence(d)

    log_probs, entropy, divergence = measure(logits, mask)
    for i in range(3):
        allowed = log_softmax(logits[i, mask[i]])
        np.testing.assert_allclose(log_probs[i, mask[i]], allowed, rtol=1e-5, atol=1e-6)
        want = scipy.stats.entropy(np.exp(allowed))
        np.testing.assert_allclose(entropy[i], want, rtol=1e-5, atol=1e-6)
    assert (log_probs[~mask] == LOWEST).all()
    assert entropy[1] == 0.0 and (divergence == 0.0).all()


def test_masked_entries_contribute_exactly_nothing():
    logits, mask = normal(5), np.array([1, 0, 1, 0, 1], bool)
    other = np.where(mask, logits, 77.0)
    a, b = Categorical.masked(logits, mask), Categorical.masked(other, mask)
    assert a.entropy() == b.entropy() and a.kl_divergence(b) == 0.0
    unmasked = Categorical(logits)
    want = a.log_prob(a.mode()) - unmasked.log_prob(a.mode())
    np.testing.assert_allclose(a.kl_divergence(unmasked), want, rtol=1e-5)


def test_a_row_without_any_allowed_action_has_all():
    logits = normal(2, 4)
    mask = np.array([[0, 0, 0, 0], [0, 1, 1, 0]], bool)
    d = Categorical.masked(logits, mask)
    assert (d.logits[0] == logits[0]).all()
    assert (d.logits[1] == jnp.array([LOWEST, logits[1, 1], logits[1, 2], LOWEST])).all()


def test_a_masked_action_has_the_lowest_finite_log_probability():
    d = Categorical.masked(jnp.zeros(3), jnp.array([True, True, False]))
    assert d.log_prob(2) == LOWEST
    assert Categorical(jnp.zeros(3)).log_prob(3) == LOWEST
    assert Categorical(jnp.zeros(3), start=1).log_prob(0) == LOWEST


def test_several_impossible_entries_have_the_lowest_finite_log_probability_together():
    mask = jnp.array([True, False, True, False])
    categories = MultiCategorical.masked(jnp.zeros(4), mask, (2, 2))
    assert categories.log_prob(jnp.array([1, 0])) == LOWEST
    assert categories.log_prob(jnp.array([1, 1])) == LOWEST
    bits = Bernoulli.masked(jnp.zeros(4), mask)
    assert bits.log_prob(jnp.array([0, 1, 0, 1])) == LOWEST
    both = Product({"a": categories, "b": bits})
    action = {"a": jnp.array([1, 1]), "b": jnp.ones(4, jnp.int8)}

    def total(scale):
        scaled = jax.tree.map(lambda logits: scale * logits, both)
        return scaled.log_prob(action)

    value, gradient = jax.value_and_grad(total)(1.0)
    assert value == LOWEST and jnp.isfinite(gradient)
    parts = Product({"a": categories, "b": Bernoulli(jnp.full(4, jnp.nan))})
    assert jnp.isnan(parts.log_prob(action))  # only what is impossible is made finite


def test_a_masked_bit_is_zero_for_certain():
    logits = jnp.asarray(normal(3, 2, 2))
    mask = jnp.array([[True, False], [False, True]])
    d = Bernoulli.masked(logits, jnp.broadcast_to(mask, logits.shape), 2)
    free = Bernoulli(logits[:, [0, 1], [0, 1]])
    on = jnp.broadcast_to(mask, logits.shape).astype(jnp.int8)
    assert (d.log_prob(on) == free.log_prob(jnp.ones((3, 2)))).all()
    assert (d.entropy() == free.entropy()).all()
    other = Bernoulli.masked(-logits, jnp.broadcast_to(mask, logits.shape), 2)
    free_other = Bernoulli(-logits[:, [0, 1], [0, 1]])
    np.testing.assert_allclose(d.kl_divergence(other), free.kl_divergence(free_other), rtol=1e-6)
    assert (d.kl_divergence(d) == 0).all()
    np.testing.assert_array_equal(d.mode(), (logits > 0) & mask[None])
    assert (d.log_prob(1 - on) == LOWEST).all()


@pytest.mark.parametrize("lowest", [LOWEST, -np.inf])
def test_bits_that_are_never_on_have_no_entropy(lowest):
    d = Bernoulli(jnp.full((100, 4), lowest))
    assert (d.entropy() == 0).all() and (d.log_prob(jnp.zeros((100, 4))) == 0).all()
    assert not d.sample(random.key(0)).any() and not d.mode().any()
    assert (d.kl_divergence(d) == 0).all()


def test_gradients_by_the_logits_of_masked_bits_are_exactly_zero():
    mask = jnp.array([True, False, True, False])

    @jax.jit
    def gradient(logits, action):
        def total(logits):
            d = Bernoulli.masked(logits, mask)
            other = Bernoulli.masked(0.5 * logits, mask)
            return d.log_prob(action) / 8 + d.entropy() + d.kl_divergence(other)

        return jax.grad(total)(logits)

    for action in ([1, 0, 0, 0], [1, 1, 1, 1]):
        found = gradient(jnp.array([0.3, 2.0, -1.0, 1e4]), jnp.array(action))
        assert (found[1::2] == 0).all() and jnp.isfinite(found).all() and (found[::2] != 0).all()


@pytest.mark.parametrize("nvec", [(2, 4, 3), (3, 3, 3)])
def test_masks_of_multiple_categories_hold_entry_by_entry(nvec):
    logits = normal(9)
    mask = np.ones(9, bool)
    mask[[0, 1, 4]] = False  # with (2, 4, 3) nothing of the first entry is left
    d = MultiCategorical.masked(logits, mask, nvec)
    parts = np.split(logits, np.cumsum(nvec)[:-1]), np.split(mask, np.cumsum(nvec)[:-1])
    entries = [Categorical.masked(*part) for part in zip(*parts, strict=True)]
    assert (d.logits == np.concatenate([entry.logits for entry in entries])).all()
    want = sum(entry.entropy() for entry in entries)
    np.testing.assert_allclose(d.entropy(), want, rtol=1e-6)


# --- extremes -----------------------------------------------------------------------

EXTREME = np.array([1e4, -1e4, 0.0, 1e4, -1e4, 1e-30], np.float32)


@pytest.mark.parametrize(
    "build",
    [
        Categorical,
        lambda x: Categorical(x.at[0].set(-jnp.inf)),
        lambda x: Categorical.masked(x, jnp.array([False, True, True, False, True, True])),
        lambda x: Categorical.masked(x, jnp.zeros(6, bool)),
        lambda x: MultiCategorical(x, (2, 4)),
        lambda x: MultiCategorical(x, (3, 3)),
        Bernoulli,
        lambda x: Bernoulli.masked(x, jnp.array([False, True, True, False, True, True])),
        lambda x: DiagonalGaussian(x, jnp.full(6, -8.0)),
        lambda x: DiagonalGaussian(x, x * 1e-3),
        lambda x: Product({"a": Bernoulli(x), "b": Categorical(x)}),
    ],
)
def test_values_and_gradients_are_finite_at_extreme_parameters(build):
    @jax.jit
    def measure(x):
        def total(x):
            d, other = build(x), build(-x)
            action = jax.lax.stop_gradient(d.sample(random.key(0)))
            values = [d.log_prob(action), d.log_prob(other.mode()), d.entropy()]
            values += [d.kl_divergence(other), other.kl_divergence(d)]
            # Divided, since a masked or impossible action is as low as float32 goes.
            return sum(jnp.sum(value) / 8 for value in values), values

        return jax.value_and_grad(total, has_aux=True)(x)

    (_, values), gradient = measure(jnp.asarray(EXTREME))
    assert all(jnp.isfinite(value).all() for value in values)
    assert jnp.isfinite(gradient).all()


def test_switches_stay_exact_at_extreme_logits():
    d = Bernoulli(np.array([1e4, -1e4], np.float32))
    assert d.entropy() == 0.0
    assert d.log_prob([1, 0]) == 0.0
    assert d.log_prob([0, 1]) == -2e4
    assert d.kl_divergence(Bernoulli(-d.logits)) == 2e4
    moderate = Bernoulli(np.array([20.0], np.float32))
    want = scipy.stats.bernoulli.entropy(scipy.special.expit(-20.0))
    np.testing.assert_allclose(moderate.entropy(), want, rtol=1e-5)


def test_switches_at_extreme_logits_always_fall_the_same_way():
    drawn = Bernoulli(np.tile(np.array([1e4, -1e4], np.float32), (50_000, 1))).sample(random.key(0))
    assert (drawn[:, 0] == 1).all() and (drawn[:, 1] == 0).all()


def test_close_gaussians_diverge_by_the_quadratic_form():
    a, b = (DiagonalGaussian(jnp.zeros(1), jnp.full(1, log_std)) for log_std in (0.0, 1e-3))
    np.testing.assert_allclose(a.kl_divergence(b), 1e-6, rtol=1e-3)


# --- the rest -----------------------------------------------------------------------


def test_half_precision_parameters_are_computed_in_float32():
    logits = normal(4).astype(jnp.bfloat16)
    d, wide = Categorical(logits), Categorical(logits.astype(np.float32))
    assert d.entropy().dtype == jnp.float32 and d.entropy() == wide.entropy()
    gaussian = DiagonalGaussian(jnp.zeros(2, jnp.bfloat16), jnp.zeros(2, jnp.bfloat16))
    assert gaussian.sample(random.key(0)).dtype == jnp.float32


def test_a_log_std_without_batch_axes_serves_all_rows():
    mean, log_std = normal(*BATCH, 3), normal(3)
    shared = DiagonalGaussian(mean, log_std)
    full = DiagonalGaussian(mean, np.broadcast_to(log_std, mean.shape))
    assert (shared.entropy() == full.entropy()).all() and shared.entropy().shape == BATCH
    assert (shared.sample(random.key(0)) == full.sample(random.key(0))).all()


@pytest.mark.parametrize(
    "other",
    [
        lambda: Bernoulli(jnp.zeros(3)),
        lambda: Categorical(jnp.zeros(3), start=1),
        lambda: Product({"a": Categorical(jnp.zeros(3))}),
    ],
)
def test_divergence_between_different_kinds_is_refused(other):
    with pytest.raises(ConfigError, match="compare distributions over the same space"):
        Categorical(jnp.zeros(3)).kl_divergence(other())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros(4), (2, 3)), r"got shape \(4,\), expected \[..., 5\]"),
        ((np.zeros(5), (2, 3), (1,)), r"start \(1,\) for 2 entries"),
        ((np.zeros(5), (2, 3), None, (3,)), r"shape \(3,\) and start None for 2"),
    ],
)
def test_multi_categorical_refuses_sizes_that_do_not_fit(arguments, message):
    with pytest.raises(ConfigError, match=message):
        MultiCategorical(*arguments)
