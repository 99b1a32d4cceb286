import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.errors import ConfigError, SpaceError
from mazejax.spaces import (
    Bernoulli,
    Box,
    Categorical,
    DiagonalGaussian,
    Dict,
    Discrete,
    DistributionMapper,
    MultiBinary,
    MultiCategorical,
    MultiDiscrete,
    Product,
    Space,
)

MAPPER = DistributionMapper()
CASES = [
    (Discrete(3, start=2), {"logits": (3,)}, Categorical),
    (MultiDiscrete([[2, 3], [4, 2]], start=1), {"logits": (11,)}, MultiCategorical),
    (MultiBinary((2, 3)), {"logits": (2, 3)}, Bernoulli),
    (Box(-1.0, 1.0, (2, 2)), {"mean": (2, 2), "log_std": (2, 2)}, DiagonalGaussian),
    (Box(0, 255, (3,), np.uint8), {"mean": (3,), "log_std": (3,)}, DiagonalGaussian),
    (Box(-1.0, np.inf, ()), {"mean": (), "log_std": ()}, DiagonalGaussian),
    (
        Dict({"gear": Discrete(3), "drive": Dict({"wheel": Box(-1.0, 1.0, (2,))})}),
        {"gear": {"logits": (3,)}, "drive": {"wheel": {"mean": (2,), "log_std": (2,)}}},
        Product,
    ),
]


def zeros(shapes, batch=()):
    return jax.tree.map(
        lambda shape: jnp.zeros((*batch, *shape)), shapes, is_leaf=lambda x: isinstance(x, tuple)
    )


@pytest.mark.parametrize(("space", "shapes", "kind"), CASES)
def test_parameters_and_distribution_follow_the_kind_of_space(space, shapes, kind):
    assert MAPPER.parameters(space) == shapes
    assert type(MAPPER.distribution(space, zeros(shapes))) is kind


@pytest.mark.parametrize(("space", "shapes", "kind"), CASES)
def test_what_the_environment_receives_lies_in_its_space(space, shapes, kind):
    batch = (4, 2)

    @jax.jit
    def act(key):
        distribution = MAPPER.distribution(space, zeros(shapes, batch))
        action = distribution.sample(key)
        return distribution.log_prob(action), distribution.entropy(), MAPPER.to_env(space, action)

    log_prob, entropy, actions = act(random.key(0))
    assert log_prob.shape == entropy.shape == batch
    for index in np.ndindex(batch):
        space.validate(jax.tree.map(lambda leaf: leaf[index], actions))  # noqa: B023


def test_boxes_are_clipped_to_their_finite_bounds_and_others_pass():
    space = Dict({"a": Box([-1.0, -np.inf], [1.0, np.inf]), "b": Discrete(3)})
    action = {"a": jnp.array([7.0, -9.0]), "b": jnp.int32(2)}
    received = MAPPER.to_env(space, action)
    assert received["a"].tolist() == [1.0, -9.0] and received["b"] == 2


def test_integer_boxes_receive_rounded_numbers_of_their_dtype():
    received = MAPPER.to_env(Box(0, 255, (3,), np.uint8), jnp.array([-4.0, 3.6, 1e6]))
    assert received.dtype == jnp.uint8 and received.tolist() == [0, 4, 255]


def test_a_mapper_is_a_value():
    assert DistributionMapper() == MAPPER and hash(DistributionMapper()) == hash(MAPPER)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"gear": {"logits": jnp.zeros(3)}}, r"^parameters: got \['gear'\], expected"),
        (jnp.zeros(3), "^parameters: got ArrayImpl, expected"),
        (
            {"gear": {"logits": jnp.zeros((5, 4))}, "wheel": {}},
            r"^parameters\['gear'\]\['logits'\]: got shape \(5, 4\), .* then \(3,\)",
        ),
        (
            {"gear": {"logits": jnp.zeros(3)}, "wheel": {"mean": jnp.zeros(2)}},
            r"^parameters\['wheel'\]: got \['mean'\], expected \['log_std', 'mean'\]",
        ),
    ],
)
def test_parameters_of_wrong_names_or_shapes_are_refused(parameters, message):
    space = Dict({"gear": Discrete(3), "wheel": Box(-1.0, 1.0, (2,))})
    with pytest.raises(ConfigError, match=message):
        MAPPER.distribution(space, parameters)


def test_an_unknown_kind_of_space_is_refused():
    class Other(Space):
        arguments = sample = clip = validate = flatten = unflatten = lambda *_: None

    with pytest.raises(ConfigError, match="got Other, expected one of Discrete"):
        MAPPER.parameters(Other())


# --- masks ----------------------------------------------------------------------------

MASKED = Dict(
    {
        "gear": Discrete(4, start=1),
        "lever": MultiDiscrete([2, 3], start=[5, 0]),
        "wheel": Box(-1.0, 1.0, (2,)),
    }
)


def masked_case(batch=()):
    """Random parameters and masks in which each entry allows something."""
    rng = np.random.default_rng(7)
    parameters = jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32),
        zeros(MAPPER.parameters(MASKED), batch),
    )
    masks = {"gear": rng.random((*batch, 4)) < 0.5, "lever": rng.random((*batch, 5)) < 0.5}
    for name, allowed in (("gear", 2), ("lever", 1), ("lever", 3)):
        masks[name][..., allowed] = True
    return parameters, jax.tree.map(jnp.asarray, masks)


def test_what_masks_exclude_has_probability_zero_and_the_rest_sums_to_one():
    parameters, masks = masked_case()
    for name in ("gear", "lever"):
        space = MASKED[name]
        distribution = MAPPER.distribution(space, parameters[name], masks[name])
        nvec = np.atleast_1d(space.nvec if name == "lever" else space.n)
        parts = np.split(np.asarray(masks[name]), np.cumsum(nvec)[:-1])
        total = 0.0
        for index in np.ndindex(*nvec):
            action = np.asarray(index).reshape(space.shape) + space.start
            probability = float(jnp.exp(distribution.log_prob(action)))
            allowed = all(part[i] for part, i in zip(parts, index, strict=True))
            assert (probability > 0.0) == allowed
            total += probability
        assert total == pytest.approx(1.0, abs=1e-6)


def test_masked_draws_and_modes_are_allowed():
    parameters, masks = masked_case((300,))
    distribution = MAPPER.distribution(MASKED, parameters, masks)
    for action in (distribution.sample(random.key(1)), distribution.mode()):
        gear = jnp.take_along_axis(masks["gear"], action["gear"][:, None] - 1, axis=1)
        lever = action["lever"] + jnp.array([[-5, 2]])
        assert gear.all() and jnp.take_along_axis(masks["lever"], lever, axis=1).all()
        assert jnp.isfinite(distribution.log_prob(action)).all()


def test_gradients_through_masks_are_finite_and_zero_where_excluded():
    parameters, masks = masked_case((300,))
    masks["gear"] = masks["gear"].at[0].set(False)  # nothing allowed: as if unmasked

    @jax.jit
    @jax.grad
    def gradient(parameters):
        distribution = MAPPER.distribution(MASKED, parameters, masks)
        action = jax.lax.stop_gradient(distribution.sample(random.key(1)))
        return (distribution.log_prob(action) + distribution.entropy()).sum()

    found = gradient(parameters)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    for name in ("gear", "lever"):
        assert (jnp.where(masks[name], 0.0, found[name]["logits"])[1:] == 0.0).all()
        assert (found[name]["logits"] != 0.0).any()
    assert (found["gear"]["logits"][0] != 0.0).all()


def test_a_mask_for_what_has_no_categories_is_refused():
    parameters, _ = masked_case()
    with pytest.raises(SpaceError, match="Box: cannot be masked"):
        MAPPER.distribution(MASKED, parameters, {"wheel": jnp.ones(2, bool)})
