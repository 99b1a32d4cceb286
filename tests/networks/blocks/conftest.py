"""What tests of blocks share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.fixture(scope="session")
def apply_block():
    """(outputs, variables) of a block with fresh weights, applied under jit.

    Checks what all blocks promise: outputs are those of each sample by itself, have the
    shapes that `jax.eval_shape` predicts, and are finite, and so is the gradient.
    """

    def apply(block, batch_ndim=1, seed=0, **inputs):
        inputs = {key: jnp.asarray(value) for key, value in inputs.items()}
        variables = jax.jit(block.init)(jax.random.key(seed), inputs)
        outputs = jax.jit(block.apply)(variables, inputs)
        shapes = jax.eval_shape(block.apply, variables, inputs)
        assert jax.tree.map(lambda x: (x.shape, x.dtype), outputs) == jax.tree.map(
            lambda x: (x.shape, x.dtype), shapes
        )
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(outputs))
        one_by_one = block.apply
        for _ in range(min(batch_ndim, *(x.ndim for x in inputs.values()))):
            one_by_one = jax.vmap(one_by_one, in_axes=(None, 0))
        alone = jax.jit(one_by_one)(variables, inputs)
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-4, atol=2e-5), outputs, alone
        )

        def loss(variables):
            leaves = jax.tree.leaves(block.apply(variables, inputs))
            return sum(jnp.sum(x**2) for x in leaves if jnp.issubdtype(x.dtype, jnp.floating))

        gradient = jax.jit(jax.grad(loss))(variables)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
        return outputs, variables

    return apply
