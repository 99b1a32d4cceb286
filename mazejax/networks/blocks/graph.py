"""Networks over graphs given as adjacency matrices as blocks: graph convolution and attention.

A node without neighbors is a node like others: nothing is divided by how many it has. Graphs
given as lists of edges are left to `mazejax.networks.blocks.gnn`.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mazejax.errors import ConfigError
from mazejax.networks.blocks.attention import masked_softmax
from mazejax.networks.blocks.base import Block
from mazejax.networks.blocks.checks import (
    check_activation,
    check_initializer,
    check_number,
    check_probability,
    check_shape,
    check_widths,
)
from mazejax.networks.initializers import initializer
from mazejax.networks.layers import ACTIVATIONS
from mazejax.types import Array


class GraphConvBlock(Block):
    """Graph convolutions, each followed by the activation: nodes [..., N, hidden[-1]].

        H' = activation(A^ H W + b),   A^ = D^-1/2 (A + lambda I) D^-1/2

    of nodes H [..., N, D] and adjacency A [..., N, N] or, one for all samples, [N, N]. D is
    diagonal and holds the sums of the rows of A + lambda I; where a sum is not positive, the
    row and the column are zero. Kipf & Welling, 2016, arXiv:1609.02907.
    """

    hidden: tuple[int, ...] = (64,)
    """Widths of the layers."""
    activation: str | tuple[str, ...] = "relu"
    """As of `DenseBlock`; one for all layers or one for each."""
    bias: bool = True
    """Whether layers have biases."""
    node_self_importance: float = 1.0
    """lambda: how much a node counts among its neighbors."""
    trainable_node_self_importance: bool = False
    """Learn lambda, one for all layers, from there."""
    preprocess_adjacency: bool = True
    """Make A^ of the adjacency; or take it to be A^ already."""
    kernel_init: str = "orthogonal"
    """As of `DenseBlock`."""

    num_inputs = (2,)
    in_ndims = (2, 2)

    def validate(self) -> None:
        """Raise ConfigError for widths that are not positive and choices that do not fit."""
        check_widths(self, "hidden")
        check_number(self, "node_self_importance")
        _check_lengths(self, "activation")
        check_activation(self, several=True)
        check_initializer(self)
        if self.trainable_node_self_importance and not self.preprocess_adjacency:
            raise ConfigError(
                f"{type(self).__name__}.trainable_node_self_importance: there is no lambda to "
                "learn with preprocess_adjacency=False"
            )

    @nn.compact
    def forward(self, nodes: Array, adjacency: Array) -> Array:
        """[..., N, hidden[-1]]."""
        _check_adjacency(self, nodes, adjacency)
        adjacency = adjacency.astype(jnp.float32)
        if self.preprocess_adjacency:
            adjacency = normalized_adjacency(adjacency, self._self_importance())
        init, names = initializer(self.kernel_init), _each(self.activation, self.hidden)
        for i, (width, activation) in enumerate(zip(self.hidden, names, strict=True)):
            layer = nn.Dense(width, use_bias=False, kernel_init=init, name=f"dense_{i}")
            nodes = jnp.einsum("...nm,...md->...nd", adjacency, layer(nodes))
            nodes = ACTIVATIONS[activation](_add_bias(self, f"bias_{i}", nodes))
        return nodes

    def _self_importance(self) -> Array | float:
        if not self.trainable_node_self_importance:
            return self.node_self_importance
        start = nn.initializers.constant(self.node_self_importance)
        return self.param("node_self_importance", start, ())


class GraphAttentionBlock(Block):
    """Layers of attention to neighbors, each followed by the activation: nodes [..., N, *].

        e_ij = leaky_relu(a . W h_i + c . W h_j),   w_i = softmax of e_ij over neighbors j
        h'_i = activation(sum_j w_ij W h_j + b)

    for each head, heads side by side: [..., N, num_heads * hidden[-1]], or [..., N,
    hidden[-1]] if the last layer averages them. Inputs are nodes [..., N, D] and adjacency
    [..., N, N] or, one for all samples, [N, N]: j is a neighbor of i where entry i, j is not
    zero, and every node is its own. Velickovic et al., 2017, arXiv:1710.10903.
    """

    hidden: tuple[int, ...] = (64,)
    """Widths of each head of the layers."""
    activation: str | tuple[str, ...] = "elu"
    """As of `DenseBlock`; one for all layers or one for each."""
    num_heads: int | tuple[int, ...] = 1
    """Heads; one number for all layers or one for each."""
    alpha: float = 0.2
    """Slope of the leaky relu below zero."""
    average_last_heads: bool = False
    """Average the heads of the last layer, before its activation."""
    dropout: float = 0.0
    """Probability to drop a weight w_ij, where the caller passes an rng `dropout`."""
    bias: bool = True
    """Whether layers have biases."""
    kernel_init: str = "orthogonal"
    """As of `DenseBlock`."""

    num_inputs = (2,)
    in_ndims = (2, 2)

    def validate(self) -> None:
        """Raise ConfigError for widths that are not positive and choices that do not fit."""
        check_widths(self, "hidden")
        check_widths(self, "num_heads", several=True)
        check_number(self, "alpha")
        _check_lengths(self, "activation", "num_heads")
        check_activation(self, several=True)
        check_probability(self, "dropout")
        check_initializer(self)

    @nn.compact
    def forward(self, nodes: Array, adjacency: Array) -> Array:
        """[..., N, num_heads * hidden[-1]], or [..., N, hidden[-1]] of averaged heads."""
        _check_adjacency(self, nodes, adjacency)
        own = np.eye(nodes.shape[-2], dtype=bool)
        neighbors = (adjacency != 0) | jnp.expand_dims(own, range(adjacency.ndim - 2))
        # To [..., 1, N, N]: as many axes as the weights of the heads have.
        missing = range(nodes.ndim - adjacency.ndim)
        neighbors = jnp.expand_dims(neighbors[..., None, :, :], missing)
        heads, names = _each(self.num_heads, self.hidden), _each(self.activation, self.hidden)
        for i, activation in enumerate(names):
            nodes = self._attend(i, heads[i], nodes, neighbors)
            if self.average_last_heads and i == len(self.hidden) - 1:
                nodes = jnp.mean(nodes, axis=-2)
            else:
                nodes = nodes.reshape(*nodes.shape[:-2], heads[i] * self.hidden[i])
            nodes = ACTIVATIONS[activation](_add_bias(self, f"bias_{i}", nodes))
        return nodes

    def _attend(self, i: int, heads: int, nodes: Array, neighbors: Array) -> Array:
        """[..., N, heads, hidden[i]]."""
        width = self.hidden[i]
        init = initializer(self.kernel_init)
        dense = nn.Dense(heads * width, use_bias=False, kernel_init=init, name=f"dense_{i}")
        seen = dense(nodes).reshape(*nodes.shape[:-1], heads, width)
        attention_init = nn.initializers.normal(width**-0.5)
        kernels = self.param(f"attention_{i}", attention_init, (2, heads, width))
        asks, tells = (jnp.einsum("...nhd,hd->...hn", seen, kernel) for kernel in kernels)
        logits = jax.nn.leaky_relu(asks[..., :, None] + tells[..., None, :], self.alpha)
        weights = masked_softmax(logits, neighbors)
        weights = nn.Dropout(self.dropout)(weights, deterministic=not self.has_rng("dropout"))
        return jnp.einsum("...hnm,...mhd->...nhd", weights, seen)


def normalized_adjacency(adjacency: Array, node_self_importance: Array | float = 1.0) -> Array:
    """A^ = D^-1/2 (A + lambda I) D^-1/2, [..., N, N]; rows of D that are not positive give zero."""
    own = jnp.expand_dims(jnp.eye(adjacency.shape[-1]), range(adjacency.ndim - 2))
    adjacency = adjacency + node_self_importance * own
    degree = jnp.sum(adjacency, axis=-1)
    there = degree > 0
    scale = jnp.where(there, jax.lax.rsqrt(jnp.where(there, degree, 1.0)), 0.0)
    return scale[..., :, None] * adjacency * scale[..., None, :]


# --- inside -------------------------------------------------------------------------------


def _add_bias(block: Any, name: str, x: Array) -> Array:
    if not block.bias:
        return x
    bias = block.param(name, nn.initializers.zeros_init(), (x.shape[-1],))
    return x + jnp.expand_dims(bias, range(x.ndim - 1))


def _each(value: Any, layers: tuple) -> tuple:
    """One value for each layer."""
    return value if isinstance(value, tuple) else (value,) * len(layers)


def _check_lengths(block: Any, *fields: str) -> None:
    """Each field is one choice for all layers, or one for each."""
    for field in fields:
        value = getattr(block, field)
        if isinstance(value, tuple) and len(value) != len(block.hidden):
            raise ConfigError(
                f"{type(block).__name__}.{field}: expected one, or one for each of "
                f"{len(block.hidden)} layers, got {value!r}"
            )


def _check_adjacency(block: Block, nodes: Array, adjacency: Array) -> None:
    num_nodes = nodes.shape[-2]
    if adjacency.shape != (num_nodes, num_nodes):
        check_shape(block, 1, adjacency, (*nodes.shape[:-1], num_nodes))
