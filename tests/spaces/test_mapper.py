import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.errors import ConfigError
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
