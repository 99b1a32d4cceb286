"""Networks over graphs given as lists of edges as blocks: message passing.

Every edge carries a message, and a node without edges is a node like others: nothing is
divided by how many it has. Graphs given as adjacency matrices are left to
`mazejax.networks.blocks.graph`.
"""

import functools
import math
import operator
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mazejax.errors import ConfigError
from mazejax.networks.blocks.base import Block
from mazejax.networks.blocks.checks import (
    check_activation,
    check_choice,
    check_initializer,
    check_shape,
    check_widths,
)
from mazejax.networks.initializers import initializer
from mazejax.networks.layers import ACTIVATIONS
from mazejax.types import Array


class GNNBlock(Block):
    """Layers of messages along edges: nodes [..., N, hidden[-1]], and edges too if wanted.

        m_e = activation(S x_s + R x_r + F m_e + G aggregate of m_f that reach s + b)
        x_i = activation(W x_i + V aggregate of m_e that reach i + U aggregate of x_s + c)

    for edges e from s to r; U aggregates the nodes s of the edges that reach i, as they were
    before the layer. Switches say which terms there are, and what is off has no weights. If
    all of the first line are off, m_e are the features that are given. If none are given,
    the first layer has neither F nor G.

    Inputs are nodes x [..., N, D], then features of edges m [..., E, F] if there are any, and
    last, unless the field `edges` holds them, the edges [..., E, 2]. Of these, edges
    with a number that is no node's, such as -1, are padding: nobody gets their messages. What
    reaches a node without edges is zero. With a second output key come the last messages,
    [..., E, hidden[-1]], zero for padding. Gilmer et al., 2017, arXiv:1704.01212; Battaglia
    et al., 2018, arXiv:1806.01261; messages from messages: Yang et al., 2019, arXiv:1904.01561.
    """

    edges: tuple[tuple[int, int], ...] = ()
    """Edges that never change: from which node, to which; for both directions, two of them."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the layers."""
    activation: str = "relu"
    """As of `DenseBlock`."""
    aggregate: str = "mean"
    """`sum`, `mean` or `max`."""
    with_layer_norm: bool = False
    """Normalize each node and message before the activation."""
    kernel_init: str = "orthogonal"
    """As of `DenseBlock`."""
    node_to_edge: bool = True
    """Messages are made of the nodes at both ends of their edge: S and R."""
    edge_to_edge: bool = False
    """They are made of those that reached the node where their edge begins: G."""
    edge_to_itself: bool = True
    """They are made of the edge's features, then of its message of the layer before: F."""
    edge_to_node: bool = True
    """Nodes hear the messages that reach them: V."""
    node_to_node: bool = False
    """They hear the nodes at the other ends themselves: U."""
    node_to_itself: bool = True
    """They are made of what they were before: W."""

    num_inputs = (1, 2, 3)
    num_outputs = (1, 2)
    in_ndims = (2, 2, 2)

    def validate(self) -> None:
        """Raise ConfigError for edges that are no pairs, widths, and unknown choices.

        So too for switches that leave nothing to make nodes or messages of.
        """
        check_widths(self, "hidden")
        check_activation(self)
        check_choice(self, "aggregate", ("sum", "mean", "max"))
        check_initializer(self)
        wanted = (1, 2) if self.edges else (2, 3)
        if len(self.in_keys) not in wanted:
            raise ConfigError(
                f"{type(self).__name__}.in_keys: expected {wanted[0]} or {wanted[1]} with "
                f"{len(self.edges)} edges in the field, got {len(self.in_keys)}: "
                f"{', '.join(self.in_keys)}"
            )
        for edge in self.edges:
            pair = isinstance(edge, tuple) and len(edge) == 2
            if not (pair and all(isinstance(i, int) and i >= 0 for i in edge)):
                raise ConfigError(
                    f"{type(self).__name__}.edges: expected pairs of nodes, got {edge!r}"
                )
        self._check_switches(has_features=len(self.in_keys) == wanted[1])

    @nn.nowrap
    def _check_switches(self, has_features: bool) -> None:
        name = type(self).__name__
        for switch in (*_OF_EDGES, *_OF_NODES):
            if not isinstance(getattr(self, switch), bool):
                raise ConfigError(
                    f"{name}.{switch}: must be true or false, got {getattr(self, switch)!r}"
                )
        if not any(getattr(self, switch) for switch in _OF_NODES):
            raise ConfigError(f"{name}.edge_to_node: switch on one of {', '.join(_OF_NODES)}")
        if not (self.edge_to_node or len(self.out_keys) == 2):
            if has_features:
                raise ConfigError(
                    f"{name}.edge_to_node: false, so that features of edges {self.in_keys[1]!r} "
                    f"reach no output; leave them out, or give a second output key"
                )
        elif not self.node_to_edge and not has_features:
            raise ConfigError(
                f"{name}.node_to_edge: false, so that messages need features of edges; give "
                f"their key as the second of in_keys"
            )
        elif len(self.out_keys) == 2 and not any(getattr(self, switch) for switch in _OF_EDGES):
            raise ConfigError(
                f"{name}.out_keys: {self.out_keys[1]!r} would be the features of edges as they "
                f"are given; leave it out, or switch on one of {', '.join(_OF_EDGES)}"
            )

    @nn.compact
    def forward(self, nodes: Array, *rest: Array) -> Array | tuple[Array, Array]:
        """[..., N, hidden[-1]], or that and [..., E, hidden[-1]]."""
        edges = self._edges(nodes, rest)
        num_edges = len(self.edges) or rest[-1].shape[-2]
        features: Array | None = None
        if len(self.in_keys) == (2 if self.edges else 3):
            check_shape(self, 1, rest[0], (*nodes.shape[:-2], num_edges, rest[0].shape[-1]))
            features = self._listed(rest[0])
        x = self._listed(nodes)
        for i in range(len(self.hidden)):
            x, features = self._layer(i, x, features, edges)
        x = x.reshape(*nodes.shape[:-1], x.shape[-1])
        if features is None or len(self.out_keys) == 1:
            return x
        if edges.real is not None:
            features = jnp.where(edges.real[:, None], features, 0.0)
        return x, features.reshape(*nodes.shape[:-2], num_edges, features.shape[-1])

    def _listed(self, x: Array) -> Array:
        """Nodes or edges [..., N, D]; [B * N, D] in one list if samples have their own edges."""
        x = x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(jnp.float32)
        return x if self.edges else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])

    def _edges(self, nodes: Array, rest: tuple[Array, ...]) -> "_Edges":
        """The field's or the input's, checked."""
        *batch, num_nodes, _ = nodes.shape
        if self.edges:
            if (last := max(map(max, self.edges))) >= num_nodes:
                raise ConfigError(
                    f"{self.label}: edges name node {last}, but {self.in_keys[0]!r} has shape "
                    f"{nodes.shape}: {num_nodes} nodes, of which the first is 0"
                )
            return _same_edges(np.asarray(self.edges, np.int32), num_nodes)
        given = rest[-1]
        check_shape(self, len(rest), given, (*batch, given.shape[-2], 2))
        # Observations come as floats.
        given = jnp.round(given) if jnp.issubdtype(given.dtype, jnp.inexact) else given
        given = given.astype(jnp.int32)
        return _own_edges(given.reshape(math.prod(batch), *given.shape[-2:]), num_nodes)

    def _layer(
        self, i: int, nodes: Array, features: Array | None, edges: "_Edges"
    ) -> tuple[Array, Array | None]:
        """Nodes and messages after one layer."""
        last = i == len(self.hidden) - 1
        remembered = self.edge_to_itself or self.edge_to_edge
        if self.edge_to_node or (len(self.out_keys) == 2 and (remembered or last)):
            features = self._messages(i, nodes, features, edges)
        return self._nodes(i, nodes, features, edges), features

    def _messages(
        self, i: int, nodes: Array, features: Array | None, edges: "_Edges"
    ) -> Array | None:
        """[..., E, hidden[i]]; the features where nothing changes them."""
        parts: list[Array] = []
        if self.node_to_edge:
            sent = self._dense(nodes, f"sender_{i}", i, bias=True)
            parts.append(jnp.take(sent, edges.senders, axis=-2))
            parts.append(jnp.take(self._dense(nodes, f"receiver_{i}", i), edges.receivers, axis=-2))
        if self.edge_to_itself and features is not None:
            parts.append(self._dense(features, f"edge_{i}", i, bias=not parts))
        if self.edge_to_edge and features is not None:
            reached = _aggregate(self.aggregate, features, edges)
            before = self._dense(reached, f"before_{i}", i, bias=not parts)
            parts.append(jnp.take(before, edges.senders, axis=-2))
        return self._activate(parts, f"message_norm_{i}") if parts else features

    def _nodes(self, i: int, nodes: Array, features: Array | None, edges: "_Edges") -> Array:
        """[..., N, hidden[i]]."""
        parts: list[Array] = []
        if self.node_to_itself:
            parts.append(self._dense(nodes, f"node_{i}", i, bias=True))
        if self.edge_to_node and features is not None:
            heard = _aggregate(self.aggregate, features, edges)
            parts.append(self._dense(heard, f"heard_{i}", i, bias=not parts))
        if self.node_to_node:
            others = jnp.take(nodes, edges.senders, axis=-2)
            others = _aggregate(self.aggregate, others, edges)
            parts.append(self._dense(others, f"neighbor_{i}", i, bias=not parts))
        return self._activate(parts, f"node_norm_{i}")

    def _dense(self, x: Array, name: str, i: int, bias: bool = False) -> Array:
        init = initializer(self.kernel_init)
        layer = nn.Dense(self.hidden[i], use_bias=bias, kernel_init=init, name=name)
        # As one matrix: on the CPU, the gradient of a kernel that sums over samples and
        # edges takes XLA up to three times as long as that along one axis.
        flat = layer(x.reshape(math.prod(x.shape[:-1]), x.shape[-1]))
        return flat.reshape(*x.shape[:-1], self.hidden[i])

    def _activate(self, parts: list[Array], norm: str) -> Array:
        x = functools.reduce(operator.add, parts)
        # The fast variance loses digits where layers are narrow.
        x = nn.LayerNorm(use_fast_variance=False, name=norm)(x) if self.with_layer_norm else x
        return ACTIVATIONS[self.activation](x)


# --- inside -------------------------------------------------------------------------------

_OF_EDGES = ("node_to_edge", "edge_to_edge", "edge_to_itself")
_OF_NODES = ("edge_to_node", "node_to_node", "node_to_itself")


class _Edges(NamedTuple):
    """Edges between nodes of one list: M nodes and E edges, of each sample or of all."""

    senders: Array | np.ndarray
    """[E] int32; 0 for padding."""
    receivers: Array | np.ndarray
    """[E] int32; 0 for padding."""
    reached: Array | np.ndarray
    """[E] int32: where messages are added; past the last node for padding."""
    real: Array | None
    """[E] bool, false for padding; None if there is none."""
    counts: Array | np.ndarray
    """[M] float32: how many messages reach each node."""


def _same_edges(pairs: np.ndarray, num_nodes: int) -> _Edges:
    """The edges [E, 2] of every sample."""
    counts = np.bincount(pairs[:, 1], minlength=num_nodes).astype(np.float32)
    return _Edges(pairs[:, 0], pairs[:, 1], pairs[:, 1], None, counts)


def _own_edges(pairs: Array, num_nodes: int) -> _Edges:
    """Each sample's own, [B, E, 2], in one list; those that name no node are padding."""
    samples = pairs.shape[0]
    first = num_nodes * jnp.arange(samples, dtype=jnp.int32)[:, None, None]
    real = jnp.all((pairs >= 0) & (pairs < num_nodes), axis=-1)
    pairs = jnp.where(real[..., None], pairs.astype(jnp.int32) + first, 0).reshape(-1, 2)
    real = real.reshape(-1)
    reached = jnp.where(real, pairs[:, 1], samples * num_nodes)
    counts = jax.ops.segment_sum(real.astype(jnp.float32), reached, samples * num_nodes)
    return _Edges(pairs[:, 0], pairs[:, 1], reached, real, counts)


def _aggregate(how: str, messages: Array, edges: _Edges) -> Array:
    """What reaches each node, [..., M, width] of [..., E, width]."""
    num_nodes, messages = edges.counts.shape[0], jnp.moveaxis(messages, -2, 0)
    counts = jnp.expand_dims(edges.counts, range(1, messages.ndim))
    if how == "max":
        heard = jax.ops.segment_max(messages, edges.reached, num_nodes)
        heard = jnp.where(counts > 0, heard, 0.0)
    else:
        heard = jax.ops.segment_sum(messages, edges.reached, num_nodes)
        heard = heard if how == "sum" else heard / jnp.maximum(counts, 1.0)
    return jnp.moveaxis(heard, 0, -2)
