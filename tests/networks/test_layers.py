"""Twin networks: their first layers are one product, and yet they share no weight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mazejax import random
from mazejax.networks.layers import ACTIVATIONS, TwinDense


def both(features, **fields):
    """What the module computes, its variables, and a batch of inputs [5, features]."""
    module = TwinDense(**fields)
    x = np.random.default_rng(0).normal(size=(5, features)).astype(np.float32)
    return jax.jit(module.apply), jax.jit(module.init)(random.key(0), x), x


def test_each_output_is_that_of_a_plain_network_with_its_half_of_the_first_layer():
    apply, variables, x = both(3, hidden=(4, 6, 2))
    weights = jax.tree.map(np.asarray, variables["params"])
    for side, half in (("left", np.s_[:4]), ("right", np.s_[4:])):
        first = weights["first"]
        hidden = np.tanh(x @ first["kernel"][:, half] + first["bias"][half])
        for i in (1, 2):
            layer = weights[f"{side}_{i}"]
            hidden = np.tanh(hidden @ layer["kernel"] + layer["bias"])
        got = apply(variables, x)[side == "right"]
        assert got.shape == (5, 2)
        np.testing.assert_allclose(got, hidden, atol=1e-6)


@pytest.mark.parametrize("features", [3, 4, 20])
def test_both_halves_of_the_first_kernel_are_orthogonal_and_drawn_independently(features):
    _, variables, _ = both(features, hidden=(4,))
    left, right = np.split(np.asarray(variables["params"]["first"]["kernel"]), 2, axis=1)
    for half in (left, right):
        # A scale of sqrt(2): the smaller Gram matrix is 2 I.
        gram = half.T @ half if features >= 4 else half @ half.T
        np.testing.assert_allclose(gram, 2 * np.eye(min(features, 4)), atol=1e-5)
    assert abs(left - right).max() > 0.1


def test_later_kernels_are_orthogonal_with_the_scale_and_biases_begin_at_zero():
    _, variables, _ = both(3, hidden=(4, 4), kernel_scale=0.5)
    weights = variables["params"]
    for side in ("left_1", "right_1"):
        kernel = weights[side]["kernel"]
        np.testing.assert_allclose(kernel.T @ kernel, 0.25 * np.eye(4), atol=1e-6)
    biases = [layer["bias"] for layer in weights.values()]
    assert len(biases) == 3 and all((bias == 0).all() for bias in biases)


def test_no_weight_reaches_both_outputs():
    apply, variables, x = both(3, hidden=(4, 5))
    for side, own, other in ((0, "left_1", "right_1"), (1, "right_1", "left_1")):

        def total(variables, side=side):
            return jnp.square(apply(variables, x)[side]).sum()

        gradient = jax.jit(jax.grad(total))(variables)["params"]
        halves = np.split(np.asarray(gradient["first"]["kernel"]), 2, axis=1)
        assert (halves[1 - side] == 0).all() and (halves[side] != 0).all()
        assert (gradient[other]["kernel"] == 0).all() and (gradient[other]["bias"] == 0).all()
        assert (gradient[own]["kernel"] != 0).all()


def test_without_hidden_layers_both_outputs_are_the_input():
    apply, variables, x = both(3, hidden=())
    assert jax.tree.leaves(variables) == []
    left, right = apply(variables, x)
    np.testing.assert_array_equal(left, x)
    np.testing.assert_array_equal(right, x)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_is_the_one_that_it_is_named_after(name):
    # softplus-like values at 1: silu = sigmoid(1), gelu = Phi(1) by the tanh approximation.
    at_one = {"tanh": 0.7615942, "relu": 1.0, "gelu": 0.841192, "silu": 0.7310586, "elu": 1.0}
    below = {
        "tanh": -0.7615942,
        "relu": 0.0,
        "gelu": -0.158808,
        "silu": -0.2689414,
        "elu": -0.632121,
    }
    function = ACTIVATIONS[name]
    np.testing.assert_allclose(
        function(jnp.array([1.0, -1.0])), [at_one[name], below[name]], atol=1e-5
    )
    apply, variables, x = both(3, hidden=(4,), activation=name)
    first = variables["params"]["first"]
    left, _ = apply(variables, x)
    np.testing.assert_allclose(left, function(x @ first["kernel"][:, :4]), atol=1e-6)


def test_rows_do_not_influence_each_other_and_may_have_any_leading_axes():
    apply, variables, x = both(3, hidden=(4, 2))
    flat = apply(variables, x)
    deep = apply(variables, x.reshape(5, 1, 1, 3))
    one = apply(variables, x[2])
    for side in (0, 1):
        assert deep[side].shape == (5, 1, 1, 2) and one[side].shape == (2,)
        np.testing.assert_allclose(deep[side][:, 0, 0], flat[side], atol=1e-6)
        np.testing.assert_allclose(one[side], flat[side][2], atol=1e-6)
