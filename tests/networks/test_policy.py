"""`ActorCritic`: pure init and apply on observations of any space and any leading axes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.base import jit
from mazejax.errors import SpaceError
from mazejax.networks.template import MLPActorCritic
from mazejax.spaces.composite import Dict
from mazejax.spaces.simple import Box, Discrete, MultiBinary, MultiDiscrete

OBSERVATIONS = {
    "Box": Box(-np.inf, np.inf, (4,)),
    "pixels": Box(0, 255, (6, 5, 3), "uint8"),
    "scalar Box": Box(-1.0, 1.0, ()),
    "Discrete": Discrete(3, start=-1),
    "MultiDiscrete": MultiDiscrete([[2, 3], [4, 2]]),
    "MultiBinary": MultiBinary(5),
    "nested Dict": Dict(
        {
            "image": Box(0, 255, (2, 2, 3), "uint8"),
            "inner": Dict({"kind": Discrete(3), "on": MultiBinary(2)}),
            "levels": MultiDiscrete([2, 3]),
        }
    ),
}
ACTIONS = {
    "Discrete": Discrete(2),
    "Box": Box(-1.0, 1.0, (3,)),
    "nested Dict": Dict(
        {"b": Dict({"x": MultiBinary(2), "m": MultiDiscrete([2, 3])}), "a": Box(0, 1)}
    ),
}
TEMPLATE = MLPActorCritic((4,))


init = jit(lambda network, key: network.init(key))
apply = jit(lambda network, variables, obs: network.apply(variables, obs)[0])


def built(observation="Box", action="Discrete"):
    network = TEMPLATE.build(OBSERVATIONS[observation], ACTIONS[action])
    return network, init(network, random.key(0))


def observations(space, batch):
    keys = jax.random.split(random.key(1), max(1, int(np.prod(batch))))
    flat = jax.vmap(space.sample)(keys)
    return jax.tree.map(lambda leaf: leaf.reshape(*batch, *leaf.shape[1:]), flat)


@pytest.mark.parametrize("batch", [(), (7,), (2, 3), (1, 2, 3)])
@pytest.mark.parametrize("name", OBSERVATIONS)
def test_observations_of_any_space_and_any_leading_axes_get_a_value_and_a_distribution(name, batch):
    network = TEMPLATE.build(OBSERVATIONS[name], ACTIONS["Discrete"])
    variables = jax.eval_shape(network.init, random.key(0))

    def evaluate(variables):
        output, carry = network.apply(variables, observations(OBSERVATIONS[name], batch))
        assert carry == ()
        action = output.distribution.mode()
        return output.value, action, output.distribution.log_prob(action)

    value, action, log_prob = jax.eval_shape(evaluate, variables)
    assert (value.shape, value.dtype) == (batch, jnp.float32)
    assert (action.shape, action.dtype) == (batch, jnp.int32)
    assert (log_prob.shape, log_prob.dtype) == (batch, jnp.float32)


@pytest.mark.parametrize("batch", [(), (2, 3)])
@pytest.mark.parametrize("name", ACTIONS)
def test_actions_of_any_space_are_drawn_with_any_leading_axes(name, batch):
    network, variables = built(action=name)

    def draw(variables, key):
        output, _ = network.apply(variables, jnp.ones((*batch, 4)))
        action = output.distribution.sample(key)
        return output.distribution.log_prob(action), network.to_env(action)

    log_prob, action = jax.jit(draw)(variables, random.key(2))
    assert log_prob.shape == batch
    rows = jax.tree.map(lambda leaf: np.asarray(leaf)[(0,) * len(batch)], action)
    ACTIONS[name].validate(rows)
    wanted = jax.eval_shape(ACTIONS[name].sample, random.key(0))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), action) == jax.tree.map(
        lambda leaf: ((*batch, *leaf.shape), leaf.dtype), wanted
    )


def test_rows_are_evaluated_independently_of_each_other():
    network, variables = built("nested Dict")
    obs = jax.device_get(observations(OBSERVATIONS["nested Dict"], (3,)))
    together = apply(network, variables, obs)
    for i in range(3):
        alone = apply(network, variables, jax.tree.map(lambda leaf, i=i: leaf[i], obs))
        np.testing.assert_allclose(alone.value, together.value[i], atol=1e-6)
        np.testing.assert_allclose(
            alone.distribution.logits, together.distribution.logits[i], atol=1e-6
        )


def test_every_part_of_a_dict_observation_reaches_policy_and_value():
    network, variables = built("nested Dict")
    space = OBSERVATIONS["nested Dict"]

    def outputs(features):
        parameters, value = network.module.apply(variables, features)
        return jnp.append(parameters["logits"], value)

    assert space.flat_size == 12 + 3 + 2 + 5
    jacobian = jax.jit(jax.jacobian(outputs))(jnp.linspace(-1, 1, 22))
    assert jacobian.shape == (3, 22) and (jacobian != 0).all()


def test_the_policy_and_the_value_share_no_weight():
    network, variables = built()
    obs = observations(OBSERVATIONS["Box"], (8,))

    def value(variables):
        return jnp.square(network.apply(variables, obs)[0].value).sum()

    def log_prob(variables):
        distribution = network.apply(variables, obs)[0].distribution
        return distribution.log_prob(jnp.zeros(8, jnp.int32)).sum()

    both = jax.jit(lambda v: (jax.grad(value)(v), jax.grad(log_prob)(v)))(variables)
    for of_value, of_policy in zip(*map(jax.tree.leaves, jax.device_get(both)), strict=True):
        assert ((of_value != 0) ^ (of_policy != 0)).all(), "every weight serves one of them"


def test_initial_variables_follow_from_the_key_alone():
    network, variables = built()
    again, other = init(network, random.key(0)), init(network, random.key(1))
    assert jax.tree.all(jax.tree.map(np.array_equal, variables, again))
    kernel = lambda variables: variables["params"]["torso"]["first"]["kernel"]  # noqa: E731
    assert (kernel(variables) != kernel(other)).all()
    threefry = init(network, jax.random.key(0))
    assert kernel(threefry).shape == kernel(variables).shape


@pytest.mark.parametrize(
    ("observation", "action", "count"),
    [
        # First layers 2 x (4 x 4 + 4), policy 4 x 2 + 2, value 4 x 1 + 1
        ("Box", "Discrete", 2 * 20 + 10 + 5),
        # Policy 4 x 3 + 3, and 3 spreads
        ("Box", "Box", 2 * 20 + 15 + 3 + 5),
        # 90 pixels
        ("pixels", "Discrete", 2 * (90 * 4 + 4) + 10 + 5),
        # 12 + 3 + 2 + 5 inputs; 2 + 5 + 1 outputs, and 1 spread
        ("nested Dict", "nested Dict", 2 * (22 * 4 + 4) + (4 * 8 + 8) + 1 + 5),
    ],
)
def test_the_number_of_parameters_is_that_counted_by_hand(observation, action, count):
    network, variables = built(observation, action)
    assert network.num_parameters() == count
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == count


def test_an_observation_of_another_shape_is_named():
    network, variables = built()
    with pytest.raises(SpaceError, match=r"got an array of shape \(3,\), expected \[\.\.\., 4\]"):
        network.apply(variables, jnp.zeros(3))


def test_networks_for_equal_spaces_are_equal_and_share_a_compiled_program():
    traces = []

    @jit
    def value(network, variables, obs):
        traces.append(network)
        return network.apply(variables, obs)[0].value

    one, variables = built()
    other = MLPActorCritic([4]).build(Box(-np.inf, np.inf, (4,)), Discrete(2))
    assert one == other and hash(one) == hash(other)
    np.testing.assert_array_equal(
        value(one, variables, jnp.ones(4)), value(other, variables, jnp.ones(4))
    )
    assert len(traces) == 1
    assert one != TEMPLATE.build(OBSERVATIONS["Box"], Discrete(3))


def test_boxed_actions_are_clipped_for_the_env_and_others_stay():
    network, _ = built(action="nested Dict")
    action = {"a": jnp.array(7.0), "b": {"x": jnp.array([1, 0]), "m": jnp.array([1, 2])}}
    taken = network.to_env(action)
    assert taken["a"] == 1.0
    np.testing.assert_array_equal(taken["b"]["x"], [1, 0])
    np.testing.assert_array_equal(taken["b"]["m"], [1, 2])


def test_a_network_without_memory_has_an_empty_carry():
    network, variables = built()
    carry = network.initial_carry(5)
    assert jax.tree.leaves(carry) == []
    assert network.apply(variables, jnp.zeros((5, 4)), carry)[1] == carry
