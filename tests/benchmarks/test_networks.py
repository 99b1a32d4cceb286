"""Each pair of networks that is timed is of one mathematics."""

import math

import jax
import pytest

from benchmarks import networks
from mazejax import registry


@pytest.mark.parametrize("name", networks.cases())
def test_both_sides_have_outputs_of_the_same_shapes_and_as_many_weights(name):
    case = networks.cases()[name]()
    arrays = tuple(case[1].values())
    seen = []
    for apply, init in networks.contenders(case):
        weights = jax.eval_shape(init)
        outputs = jax.tree.leaves(jax.eval_shape(apply, weights, arrays))
        count = sum(math.prod(x.shape) for x in jax.tree.leaves(weights))
        seen.append((sorted(x.shape for x in outputs), count))
    assert seen[0] == seen[1]


def test_every_block_has_a_case():
    # The action head is in those of the templates.
    assert {*registry.blocks.names()} - {"ActionHeadBlock"} <= {*networks.cases()}
