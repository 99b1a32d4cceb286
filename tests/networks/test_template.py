"""Templates: what they accept, and what they build."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.errors import ConfigError
from mazejax.networks.template import MLPActorCritic
from mazejax.spaces.base import Space
from mazejax.spaces.simple import Box, Discrete

OBSERVATION, ACTION = Box(-1.0, 1.0, (3,)), Discrete(2)


def shapes(template):
    network = template.build(OBSERVATION, ACTION)
    return jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(network.init, random.key(0)))


def test_the_default_is_two_networks_of_two_layers_of_64():
    torso = shapes(MLPActorCritic())["params"]["torso"]
    assert torso["first"]["kernel"] == (3, 128)
    assert torso["left_1"]["kernel"] == torso["right_1"]["kernel"] == (64, 64)


@pytest.mark.parametrize("hidden", [(), (1,), (5, 3, 2)])
def test_any_number_of_layers_of_any_width_can_be_built(hidden):
    params = shapes(MLPActorCritic(hidden))["params"]
    last = hidden[-1] if hidden else 3
    assert params["policy"]["dense"]["kernel"] == (2, last)
    assert params["value"]["dense"]["kernel"] == (last, 1)
    kernels = 1 + 2 * (len(hidden) - 1) if hidden else 0
    assert len(params.get("torso", {})) == kernels


def test_a_list_of_widths_is_the_tuple_of_them():
    assert MLPActorCritic([8, 8]) == MLPActorCritic((8, 8))
    assert MLPActorCritic(tuple(np.array([8, 8]))) == MLPActorCritic((8, 8))
    assert hash(MLPActorCritic([8, 8])) == hash(MLPActorCritic((8, 8)))


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_the_activation_is_used(activation):
    network = MLPActorCritic((4,), activation).build(OBSERVATION, ACTION)
    variables = jax.jit(network.init)(random.key(0))
    obs = jnp.array([[0.5, -1.0, 2.0]])
    weights = variables["params"]
    # Of 4 policy and 4 value units, the last four make the value.
    hidden = getattr(jnp, activation, jax.nn.relu)(obs @ weights["torso"]["first"]["kernel"][:, 4:])
    expected = hidden @ weights["value"]["dense"]["kernel"][:, 0]
    np.testing.assert_allclose(network.apply(variables, obs)[0].value, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"activation": "tan"}, "activation: unknown 'tan'; did you mean 'tanh'?"),
        (
            {"activation": "swish"},
            "activation: unknown 'swish'; known names: elu, gelu, relu",
        ),
        ({"activation": None}, "activation: unknown None; known names: elu, gelu, relu"),
        ({"hidden": 64}, "hidden: must be positive integers such as (64, 64), got 64"),
        ({"hidden": (0,)}, "hidden: must be positive integers such as (64, 64), got (0,)"),
        ({"hidden": (8, -1)}, "got (8, -1)"),
        ({"hidden": (2.0,)}, "got (2.0,)"),
        ({"hidden": (True,)}, "got (True,)"),
        ({"hidden": "64"}, "got ('6', '4')"),
        ({"hidden": None}, "got None"),
    ],
)
def test_wrong_fields_meet_one_sentence(fields, message):
    with pytest.raises(ConfigError) as error:
        MLPActorCritic(**fields)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_replacing_a_field_validates_again():
    with pytest.raises(ConfigError, match="hidden: must be"):
        MLPActorCritic().replace(hidden=(-1,))
    with pytest.raises(ConfigError, match="did you mean 'hidden'"):
        MLPActorCritic().replace(hiden=(8,))


def test_an_action_space_without_a_distribution_is_named():
    class Sequence(Space):
        def arguments(self):
            return (), {}

        sample = validate = clip = flatten = unflatten = None

    network = MLPActorCritic().build(OBSERVATION, Sequence())
    with pytest.raises(ConfigError, match="got Sequence, expected one of Discrete"):
        network.init(random.key(0))
