"""Output heads: from features to the parameters of distributions and to values."""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from mazejax.networks.initializers import initializer, probability_bias
from mazejax.networks.layers import OutputDense
from mazejax.spaces.base import Space
from mazejax.spaces.mapper import DistributionMapper
from mazejax.types import Array, PyTree

VALUE = "value"
"""The key under which a critic gives its values, [...] or [..., 1]."""


def head_shapes(space: Space, mapper: DistributionMapper) -> dict[str, tuple[int, ...]]:
    """The keys under which a policy gives the parameters of its distributions, with shapes.

    "logits" of a Discrete action, "gear/logits" of one called "gear" in a Dict.
    """
    flat = by_path(mapper.parameters(space))
    return {"/".join(path): shape for path, shape in flat.items()}


class ActionHead(nn.Module):
    """Parameters of the action distribution from features [..., D].

    One dense layer yields all that depends on the observation, in the order of sorted
    names, as equal Dict spaces may list their keys in any order; spreads of Gaussians
    (`log_std`) are weights of their own that start at 0. Small initial weights make the
    first policy nearly uniform.
    """

    action_space: Space
    mapper: DistributionMapper
    kernel_scale: float = 0.01
    kernel_init: str = "orthogonal"
    """As `initializer` knows it."""
    probabilities: tuple[tuple[str, float], ...] = ()
    """With which heads of bits begin, by name; the name of an action that is no Dict is ""."""

    @nn.compact
    def __call__(self, features: Array) -> PyTree:
        """Parameters, each [..., *shape], nested as the mapper nests them."""
        wanted = dict(sorted(by_path(self.mapper.parameters(self.action_space)).items()))
        free = {path for path in wanted if path[-1] == "log_std"}
        width = sum(math.prod(shape) for path, shape in wanted.items() if path not in free)
        init = initializer(self.kernel_init, self.kernel_scale)
        out = OutputDense(width, init, self._biases(wanted, free), name="dense")(features)
        batch, start, parameters = out.shape[:-1], 0, {}
        for path, shape in wanted.items():
            if path in free:
                spread = self.param("/".join(path), nn.initializers.zeros_init(), shape)
                parameters[path] = jnp.broadcast_to(spread, (*batch, *shape))
            else:
                part = out[..., start : start + math.prod(shape)]
                parameters[path] = part.reshape((*batch, *shape))
                start += math.prod(shape)
        return nested(parameters)

    def _biases(self, wanted: dict[tuple[str, ...], Any], free: set) -> tuple[float, ...]:
        """Where the outputs begin; () for 0 everywhere."""
        if not self.probabilities:
            return ()
        begin = {name: probability_bias(p) for name, p in self.probabilities}
        each = [
            (begin.get("/".join(path[:-1]), 0.0), math.prod(shape))
            for path, shape in wanted.items()
            if path not in free
        ]
        return tuple(bias for bias, size in each for _ in range(size))


class ValueHead(nn.Module):
    """One value from features [..., D]: [...] float32."""

    kernel_scale: float = 1.0

    @nn.compact
    def __call__(self, features: Array) -> Array:
        """Values [...]."""
        init = nn.initializers.orthogonal(self.kernel_scale)
        return nn.Dense(1, kernel_init=init, name="dense")(features)[..., 0]


def by_path(tree: dict[str, Any], prefix: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """The leaves of nested dicts by the names that lead to them."""
    flat: dict[tuple[str, ...], Any] = {}
    for name, value in tree.items():
        inner = by_path(value, (*prefix, name)) if isinstance(value, dict) else {}
        flat.update(inner or {(*prefix, name): value})
    return flat


def nested(flat: dict[tuple[str, ...], Any]) -> PyTree:
    """Nested dicts of leaves by path."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        node = tree
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = value
    return tree
