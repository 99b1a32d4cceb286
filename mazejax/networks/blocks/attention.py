"""Attention as blocks: of queries to keys, of a sequence to itself, of an image to itself.

Masks are true where a query may attend; each sample has its own, whatever the number of
heads, and a query that may attend to nothing gets zeros. What the entries of the sequences
are, and which of them are padding, is left to the networks that use the blocks.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from mazejax.errors import ConfigError
from mazejax.networks.blocks.base import Block
from mazejax.networks.blocks.checks import (
    check_choice,
    check_initializer,
    check_probability,
    check_shape,
    check_widths,
)
from mazejax.networks.initializers import initializer
from mazejax.types import Array

_MASKS = ("pairs", "keys")


class MultiHeadAttentionBlock(Block):
    """What queries find in keys and values: [..., Lq, D] of [..., Lq, D] and [..., Lk, *] twice.

        w_h = softmax over keys of (q Q_h) (k K_h)^T / sqrt(D / num_heads)
        attention = [w_1 (v V_1), ..., w_heads (v V_heads)] O

    Inputs are q, k, v and, if there is a fourth, the mask. With a second output key come the
    weights, averaged over heads, [..., Lq, Lk]. The attention of a query that may attend to
    nothing is zero, and so are its weights. Vaswani et al., 2017, arXiv:1706.03762.
    """

    num_heads: int = 1
    """Heads; they share D, which must be a multiple of it."""
    mask: str = "pairs"
    """What a mask tells: `pairs` [..., Lq, Lk] or, the same for all queries, `keys` [..., Lk]."""
    residual: bool = True
    """Give q + gamma * attention, where gamma is learned and begins at 0; or the attention."""
    dropout: float = 0.0
    """Probability to drop a weight, where the caller passes an rng `dropout`."""
    bias: bool = True
    """Whether the projections have biases."""
    add_bias_kv: bool = False
    """Add a learned entry to keys and values, which every query may attend to."""
    add_zero_attn: bool = False
    """Add an entry of zeros to keys and values, which every query may attend to."""
    kernel_init: str = "lecun_normal"
    """As of `DenseBlock`."""

    num_inputs = (3, 4)
    num_outputs = (1, 2)
    in_ndims = (2, 2, 2, 1)

    def validate(self) -> None:
        """Raise ConfigError for no heads, no probability and unknown choices."""
        _check_fields(self, "num_heads")
        check_choice(self, "mask", _MASKS)

    @nn.compact
    def forward(
        self, q: Array, k: Array, v: Array, mask: Array | None = None
    ) -> Array | tuple[Array, Array]:
        """[..., Lq, D], or that and [..., Lq, Lk]."""
        _check_heads(self, q)
        check_shape(self, 1, k, (*q.shape[:-2], *k.shape[-2:]))
        check_shape(self, 2, v, (*k.shape[:-1], v.shape[-1]))
        out, weights = _Attention(
            self.num_heads,
            self.dropout,
            self.bias,
            self.add_bias_kv,
            self.add_zero_attn,
            self.kernel_init,
            name="attention",
        )(q, k, v, _mask_of_pairs(self, 3, mask, q, k))
        return _outputs(self, _add_input(self, q, out), weights)


class SelfAttentionSeqBlock(Block):
    """What entries of a sequence find in each other: [..., L, D] of [..., L, D].

    `MultiHeadAttentionBlock` whose queries, keys and values are all the one input. If there
    is a second, it is the mask; with a second output key come the weights, [..., L, L].
    """

    num_heads: int = 1
    """As of `MultiHeadAttentionBlock`."""
    mask: str = "pairs"
    """`pairs` [..., L, L] or, the same for all entries, `keys` [..., L]."""
    residual: bool = True
    """As of `MultiHeadAttentionBlock`."""
    dropout: float = 0.0
    """As of `MultiHeadAttentionBlock`."""
    bias: bool = True
    """As of `MultiHeadAttentionBlock`."""
    kernel_init: str = "lecun_normal"
    """As of `DenseBlock`."""

    num_inputs = (1, 2)
    num_outputs = (1, 2)
    in_ndims = (2, 1)

    def validate(self) -> None:
        """Raise ConfigError for no heads, no probability and unknown choices."""
        _check_fields(self, "num_heads")
        check_choice(self, "mask", _MASKS)

    @nn.compact
    def forward(self, x: Array, mask: Array | None = None) -> Array | tuple[Array, Array]:
        """[..., L, D], or that and [..., L, L]."""
        _check_heads(self, x)
        attention = _Attention(
            self.num_heads,
            self.dropout,
            self.bias,
            kernel_init=self.kernel_init,
            name="attention",
        )
        out, weights = attention(x, x, x, _mask_of_pairs(self, 1, mask, x, x))
        return _outputs(self, _add_input(self, x, out), weights)


class SelfAttentionConvBlock(Block):
    """What places of an image find in each other: [..., H, W, C] of [..., H, W, C].

        w = softmax over places of (x Q) (x K)^T,   attention = w (x V) O

    If there is a second input, it is a mask [..., H, W], true at places that may be attended
    to. With a second output key come the weights, [..., H * W, H * W]. Self-attention of
    SAGAN: Zhang et al., 2018, arXiv:1805.08318.
    """

    features: int = 8
    """Width of queries, keys and values; an eighth of C in the paper."""
    residual: bool = True
    """Give x + gamma * attention, where gamma is learned and begins at 0; or the attention."""
    dropout: float = 0.0
    """As of `MultiHeadAttentionBlock`."""
    bias: bool = True
    """Whether the projections, convolutions with kernels of 1, have biases."""
    kernel_init: str = "lecun_normal"
    """As of `DenseBlock`."""

    num_inputs = (1, 2)
    num_outputs = (1, 2)
    in_ndims = (3, 2)

    def validate(self) -> None:
        """Raise ConfigError for a width that is not positive, and no probability."""
        _check_fields(self, "features")

    @nn.compact
    def forward(self, x: Array, mask: Array | None = None) -> Array | tuple[Array, Array]:
        """[..., H, W, C], or that and [..., H * W, H * W]."""

        def project(x: Array, width: int, name: str) -> Array:
            init = initializer(self.kernel_init)
            return _project(nn.Dense(width, use_bias=self.bias, kernel_init=init, name=name), x)

        *batch, height, width, channels = x.shape
        flat = x.reshape(*batch, height * width, channels)
        if mask is not None:
            check_shape(self, 1, mask, x.shape[:-1])
            mask = mask.reshape(*batch, 1, height * width).astype(bool)
        query, key = (project(flat, self.features, name) for name in ("query", "key"))
        weights = masked_softmax(jnp.einsum("...qd,...kd->...qk", query, key), mask)
        kept = nn.Dropout(self.dropout)(weights, deterministic=not self.has_rng("dropout"))
        found = jnp.einsum("...qk,...kd->...qd", kept, project(flat, self.features, "value"))
        out = _zero_where_none(project(found, channels, "out"), mask)
        return _outputs(self, _add_input(self, x, out.reshape(x.shape)), weights)


def masked_softmax(logits: Array, mask: Array | None) -> Array:
    """Softmax over the last axis among entries where the mask is true; zeros where none is."""
    if not logits.shape[-1]:
        # Weights of no entries, of which there is no largest to subtract.
        return logits
    if mask is None:
        return jax.nn.softmax(logits, axis=-1)
    # Of finite numbers, so that a row without entries has a gradient, which is zero.
    lowest = jnp.finfo(logits.dtype).min
    weights = jax.nn.softmax(jnp.where(mask, logits, lowest), axis=-1)
    return jnp.where(mask, weights, 0.0)


# --- inside -------------------------------------------------------------------------------


class _Attention(nn.Module):
    """Multi-head attention [..., Lq, D], and weights [..., Lq, Lk] averaged over heads."""

    num_heads: int
    dropout: float
    bias: bool
    add_bias_kv: bool = False
    add_zero_attn: bool = False
    kernel_init: str = "lecun_normal"

    @nn.compact
    def __call__(self, q: Array, k: Array, v: Array, mask: Array | None) -> tuple[Array, Array]:
        """Of q [..., Lq, D], k and v [..., Lk, *], mask [..., 1 or Lq, Lk] or None."""
        num_keys = k.shape[-2]
        query, key, value = (
            self._project(x, q.shape[-1], name)
            for x, name in ((q, "query"), (k, "key"), (v, "value"))
        )
        key, value, mask = self._added(key, value, mask)
        query, key, value = (
            x.reshape(*x.shape[:-1], self.num_heads, q.shape[-1] // self.num_heads)
            for x in (query, key, value)
        )
        logits = jnp.einsum("...qhd,...khd->...hqk", query * query.shape[-1] ** -0.5, key)
        weights = masked_softmax(logits, None if mask is None else mask[..., None, :, :])
        kept = nn.Dropout(self.dropout)(weights, deterministic=not self.has_rng("dropout"))
        found = jnp.einsum("...hqk,...khd->...qhd", kept, value).reshape(q.shape)
        if mask is None and not key.shape[-3]:
            mask = jnp.zeros((*key.shape[:-3], 1, 0), bool)
        out = _zero_where_none(self._project(found, q.shape[-1], "out"), mask)
        return out, jnp.mean(weights, axis=-3)[..., :num_keys]

    def _project(self, x: Array, width: int, name: str) -> Array:
        init = initializer(self.kernel_init)
        return _project(nn.Dense(width, use_bias=self.bias, kernel_init=init, name=name), x)

    def _added(
        self, key: Array, value: Array, mask: Array | None
    ) -> tuple[Array, Array, Array | None]:
        """With the entries that every query may attend to."""
        for name, wanted in (("bias", self.add_bias_kv), ("zero", self.add_zero_attn)):
            if not wanted:
                continue
            shape, width = (*key.shape[:-2], 1, key.shape[-1]), key.shape[-1]
            init = nn.initializers.normal(width**-0.5)
            entries = [
                self.param(f"added_{part}", init, (width,)) if name == "bias" else jnp.zeros(width)
                for part in ("key", "value")
            ]
            key, value = (
                jnp.concatenate([x, jax.lax.broadcast_in_dim(e, shape, (len(shape) - 1,))], -2)
                for x, e in zip((key, value), entries, strict=True)
            )
            if mask is not None:
                mask = jnp.concatenate([mask, jnp.ones((*mask.shape[:-1], 1), bool)], -1)
        return key, value, mask


def _project(dense: nn.Dense, x: Array) -> Array:
    # As one matrix: on the CPU, the gradient of a kernel that sums over samples and entries
    # takes XLA longer than that of the same numbers along one axis; the whole block's a third.
    flat = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    return dense(flat).reshape(*x.shape[:-1], dense.features)


def _zero_where_none(out: Array, mask: Array | None) -> Array:
    """The output [..., Lq, D], zero for queries that may attend to nothing, biases too."""
    return out if mask is None else jnp.where(jnp.any(mask, axis=-1, keepdims=True), out, 0.0)


def _add_input(block: Block, x: Array, out: Array) -> Array:
    if not block.residual:
        return out
    return x + block.param("gamma", nn.initializers.zeros_init(), ()) * out


def _outputs(block: Block, out: Array, weights: Array) -> Array | tuple[Array, Array]:
    return out if len(block.out_keys) == 1 else (out, weights)


def _mask_of_pairs(
    block: Block, index: int, mask: Array | None, q: Array, k: Array
) -> Array | None:
    """The block's mask as [..., 1 or Lq, Lk] bool."""
    if mask is None:
        return None
    if block.mask == "keys":
        check_shape(block, index, mask, k.shape[:-1])
        return mask.astype(bool)[..., None, :]
    check_shape(block, index, mask, (*q.shape[:-1], k.shape[-2]))
    return mask.astype(bool)


def _check_fields(block: Block, width: str) -> None:
    check_widths(block, width)
    check_probability(block, "dropout")
    check_initializer(block)


def _check_heads(block: Block, q: Array) -> None:
    if q.shape[-1] % block.num_heads:
        raise ConfigError(
            f"{block.label}: {block.in_keys[0]!r} has shape {q.shape}, expected a last axis that "
            f"num_heads={block.num_heads} divides"
        )
