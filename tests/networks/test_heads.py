"""Heads: parameters of the shapes that the mapper names, small at first, in sorted order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.networks.heads import ActionHead, ValueHead
from mazejax.spaces.composite import Dict
from mazejax.spaces.mapper import DistributionMapper
from mazejax.spaces.simple import Box, Discrete, MultiBinary, MultiDiscrete

MAPPER = DistributionMapper()
PARTS = {
    "steer": Box(-1.0, 1.0, (2,)),
    "gear": Discrete(3),
    "arm": Dict({"grip": MultiBinary((2, 2)), "joints": MultiDiscrete([[2, 3], [4, 2]])}),
    "gas": Box(0.0, 1.0, ()),
}
SPACES = {
    "Discrete": (Discrete(5, start=2), 5, 0),
    "MultiDiscrete": (MultiDiscrete([2, 3, 4]), 9, 0),
    "MultiBinary": (MultiBinary((3, 2)), 6, 0),
    "Box": (Box(-1.0, 1.0, (4, 2)), 8, 8),
    "scalar Box": (Box(-1.0, 1.0, ()), 1, 1),
    # 2 + 3 + 4 + (2 + 3 + 4 + 2) + 1 outputs; spreads of steer and gas
    "nested Dict": (Dict(PARTS), 21, 3),
}
D = 6


def head(space, kernel_scale=0.01):
    """What the head computes, and its variables."""
    module = ActionHead(space, MAPPER, kernel_scale)
    return jax.jit(module.apply), jax.jit(module.init)(random.key(0), jnp.zeros((1, D)))


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("batch", [(), (7,), (2, 3), (1, 2, 3)])
def test_parameters_have_the_shapes_and_names_that_the_distribution_needs(name, batch):
    space, _, _ = SPACES[name]
    apply, variables = head(space)
    parameters = jax.eval_shape(apply, variables, jnp.zeros((*batch, D)))
    wanted = MAPPER.parameters(space)
    is_shape = lambda node: isinstance(node, tuple)  # noqa: E731
    full = jax.tree.map(lambda shape: (*batch, *shape), wanted, is_leaf=is_shape)
    assert jax.tree.map(lambda leaf: leaf.shape, parameters) == full
    assert {leaf.dtype for leaf in jax.tree.leaves(parameters)} == {jnp.dtype("float32")}
    # Spreads are broadcast to the batch, so that the distribution can be vmapped over it.
    assert MAPPER.distribution(space, parameters) is not None


@pytest.mark.parametrize("name", SPACES)
def test_the_weights_are_one_dense_layer_and_one_number_for_each_spread(name):
    space, outputs, spreads = SPACES[name]
    _, variables = head(space)
    weights = dict(variables["params"])
    dense = weights.pop("dense")
    assert dense["kernel"].shape == (outputs, D) and dense["bias"].shape == (outputs,)
    assert sum(leaf.size for leaf in weights.values()) == spreads
    assert all(key.endswith("log_std") and (leaf == 0).all() for key, leaf in weights.items())


@pytest.mark.parametrize("name", SPACES)
def test_the_first_policy_is_nearly_uniform_and_gaussians_begin_with_deviation_one(name):
    space, _, _ = SPACES[name]
    apply, variables = head(space)
    parameters = apply(variables, jax.random.normal(random.key(1), (100, D)))
    for path, leaf in jax.tree_util.tree_leaves_with_path(parameters):
        assert abs(leaf).max() < 0.05
        if path[-1].key == "log_std":
            assert (leaf == 0).all()
        else:
            assert (leaf != 0).any()


def test_the_kernel_is_orthogonal_with_the_scale():
    _, variables = head(Discrete(3), kernel_scale=0.01)
    kernel = variables["params"]["dense"]["kernel"]
    np.testing.assert_allclose(kernel @ kernel.T, 1e-4 * np.eye(3), atol=1e-9)


def test_equal_dict_spaces_in_another_order_give_the_same_function_of_the_weights():
    shuffled = {key: PARTS[key] for key in ("gas", "arm", "steer", "gear")}
    shuffled["arm"] = Dict({key: PARTS["arm"][key] for key in ("joints", "grip")})
    assert Dict(shuffled) == Dict(PARTS)
    features = jax.random.normal(random.key(1), (4, D))
    apply, variables = head(Dict(PARTS), kernel_scale=1.0)
    apply_other, other_variables = head(Dict(shuffled), kernel_scale=1.0)
    assert jax.tree.all(jax.tree.map(np.array_equal, variables, other_variables))
    mine, theirs = apply(variables, features), apply_other(variables, features)
    assert jax.tree.all(jax.tree.map(np.array_equal, mine, theirs))


def test_every_parameter_has_columns_of_its_own():
    apply, variables = head(Dict(PARTS), kernel_scale=1.0)
    # With the bias 0, 1, 2, ... and no input, each output shows the number of its column.
    weights = {**variables["params"]}
    weights["dense"] = {**weights["dense"], "bias": jnp.arange(21.0)}
    parameters = apply({"params": weights}, jnp.zeros(D))
    columns = [
        np.asarray(leaf).ravel()
        for path, leaf in jax.tree_util.tree_leaves_with_path(parameters)
        if path[-1].key != "log_std"
    ]
    np.testing.assert_array_equal(np.concatenate(columns), np.arange(21.0))


def test_the_spread_does_not_depend_on_the_observation_and_learns():
    apply, variables = head(Box(-1.0, 1.0, (2,)))

    def log_prob(variables):
        parameters = apply(variables, jax.random.normal(random.key(2), (8, D)))
        return MAPPER.distribution(Box(-1.0, 1.0, (2,)), parameters).log_prob(jnp.zeros((8, 2)))

    gradient = jax.jit(jax.grad(lambda v: log_prob(v).sum()))(variables)["params"]
    # d log N(0 | mean, 1) / d log_std = deviation^2 - 1, which is near -1 for each of 8 rows.
    np.testing.assert_allclose(gradient["log_std"], [-8.0, -8.0], rtol=1e-2)


def test_the_value_head_gives_one_float_per_row():
    module = ValueHead()
    variables = module.init(random.key(0), jnp.zeros((1, D)))
    dense = variables["params"]["dense"]
    assert dense["kernel"].shape == (D, 1) and (dense["bias"] == 0).all()
    np.testing.assert_allclose(jnp.linalg.norm(dense["kernel"]), 1.0, rtol=1e-6)
    features = jax.random.normal(random.key(1), (2, 3, D))
    values = module.apply(variables, features)
    assert values.shape == (2, 3) and values.dtype == jnp.float32
    np.testing.assert_allclose(values, features @ dense["kernel"][:, 0], rtol=1e-5)
    assert module.apply(variables, features[0, 0]).shape == ()
