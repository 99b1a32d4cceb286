"""Networks over graphs as blocks: graph convolution, graph attention, message passing.

Convolution and attention take the graph as an adjacency matrix, message passing as a list of
edges. A node without neighbors is a node like others: nothing is divided by how many it has.
"""

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mazejax.errors import ConfigError, did_you_mean
from mazejax.networks.blocks.attention import check_probability, check_shape, masked_softmax
from mazejax.networks.blocks.base import Block
from mazejax.networks.blocks.checks import check_activation, check_choice, check_widths
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
        _check_lengths(self, "activation")
        _check_activations(self)
        initializer(self.kernel_init)
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
        check_widths(self, "hidden", "num_heads")
        _check_lengths(self, "activation", "num_heads")
        _check_activations(self)
        check_probability(self, "dropout")
        initializer(self.kernel_init)

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
                nodes = nodes.reshape(*nodes.shape[:-2], -1)
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


class GNNBlock(Block):
    """Layers of messages along edges: nodes [..., N, hidden[-1]], and edges too if wanted.

        m_e = activation(S x_s + R x_r + F m_e + b)               for edges e from s to r
        x_i = activation(W x_i + V aggregate of m_e that reach i + c)

    Inputs are nodes x [..., N, D], then features of edges m [..., E, F] if there are any, and
    last, unless the field `edges` holds them, the edges [..., E, 2] int32. Of these, edges
    with a number that is no node's, such as -1, are padding: nobody gets their messages. What
    reaches a node without edges is zero. With a second output key come the last messages,
    [..., E, hidden[-1]], zero for padding. Gilmer et al., 2017, arXiv:1704.01212; Battaglia
    et al., 2018, arXiv:1806.01261.
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

    num_inputs = (1, 2, 3)
    num_outputs = (1, 2)
    in_ndims = (2, 2, 2)

    def validate(self) -> None:
        """Raise ConfigError for edges that are no pairs, widths, and unknown choices."""
        check_widths(self, "hidden")
        check_activation(self)
        check_choice(self, "aggregate", ("sum", "mean", "max"))
        initializer(self.kernel_init)
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
        if not jnp.issubdtype(given.dtype, jnp.integer):
            raise ConfigError(
                f"{self.label}: {self.in_keys[-1]!r} has dtype {given.dtype}, expected integers"
            )
        return _own_edges(given.reshape(math.prod(batch), *given.shape[-2:]), num_nodes)

    def _layer(
        self, i: int, nodes: Array, features: Array | None, edges: "_Edges"
    ) -> tuple[Array, Array]:
        """Nodes and messages after one layer."""

        def dense(x: Array, part: str, bias: bool = False) -> Array:
            init, name = initializer(self.kernel_init), f"{part}_{i}"
            layer = nn.Dense(self.hidden[i], use_bias=bias, kernel_init=init, name=name)
            # As one matrix: on the CPU, the gradient of a kernel that sums over samples and
            # edges takes XLA up to three times as long as that along one axis.
            flat = layer(x.reshape(math.prod(x.shape[:-1]), x.shape[-1]))
            return flat.reshape(*x.shape[:-1], self.hidden[i])

        def activate(x: Array, part: str) -> Array:
            x = nn.LayerNorm(name=f"{part}_norm_{i}")(x) if self.with_layer_norm else x
            return ACTIVATIONS[self.activation](x)

        messages = jnp.take(dense(nodes, "sender", bias=True), edges.senders, axis=-2)
        messages += jnp.take(dense(nodes, "receiver"), edges.receivers, axis=-2)
        if features is not None:
            messages += dense(features, "edge")
        messages = activate(messages, "message")
        heard = _aggregate(self.aggregate, messages, edges)
        nodes = dense(nodes, "node", bias=True) + dense(heard, "heard")
        return activate(nodes, "node"), messages


def normalized_adjacency(adjacency: Array, node_self_importance: Array | float = 1.0) -> Array:
    """A^ = D^-1/2 (A + lambda I) D^-1/2, [..., N, N]; rows of D that are not positive give zero."""
    own = jnp.expand_dims(jnp.eye(adjacency.shape[-1]), range(adjacency.ndim - 2))
    adjacency = adjacency + node_self_importance * own
    degree = jnp.sum(adjacency, axis=-1)
    there = degree > 0
    scale = jnp.where(there, jax.lax.rsqrt(jnp.where(there, degree, 1.0)), 0.0)
    return scale[..., :, None] * adjacency * scale[..., None, :]


# --- inside -------------------------------------------------------------------------------


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


def _check_activations(block: Any) -> None:
    for name in _each(block.activation, block.hidden):
        if name not in ACTIVATIONS:
            raise ConfigError(
                f"{type(block).__name__}.activation: unknown {name!r}; "
                f"{did_you_mean(str(name), ACTIVATIONS)}"
            )


def _check_adjacency(block: Block, nodes: Array, adjacency: Array) -> None:
    num_nodes = nodes.shape[-2]
    if adjacency.shape != (num_nodes, num_nodes):
        check_shape(block, 1, adjacency, (*nodes.shape[:-1], num_nodes))
