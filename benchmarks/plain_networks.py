"""What `benchmarks.networks` compares with: the same networks as one writes them in flax.

Functions that make layers of `flax.linen` where they use them, called inside `Plain`.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mazejax.types import Array


class Plain(nn.Module):
    """A module that is one function of its inputs."""

    body: Callable[..., Any]

    @nn.compact
    def __call__(self, *inputs: Array) -> Any:
        """What the function returns."""
        return self.body(*inputs)


def dense(widths: tuple[int, ...], activation: str) -> Callable[[Array], Array]:
    """Dense layers, each followed by the activation."""

    def body(x: Array) -> Array:
        for width in widths:
            x = getattr(nn, activation)(nn.Dense(width)(x))
        return x

    return body


def linear(features: int) -> Callable[[Array], Array]:
    """One dense layer."""
    return lambda x: nn.Dense(features)(x)


def vgg(widths: tuple[int, ...]) -> Callable[[Array], Array]:
    """Pairs of convolutions, pooled."""

    def body(x: Array) -> Array:
        for width in widths:
            x = nn.relu(nn.Conv(width, (3, 3))(x))
            x = nn.relu(nn.Conv(width, (3, 3))(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
        return x

    return body


def strided(x: Array) -> Array:
    """The layers that `StridedConvolutionBlock` has by default."""
    for width, kernel, stride in ((8, 8, 4), (16, 4, 2), (32, 4, 2)):
        x = nn.relu(nn.Conv(width, (kernel, kernel), (stride, stride), "VALID")(x))
    return x


def masked_logits(x: Array, mask: Array) -> Array:
    """Logits of excluded actions at the lowest number, unless all are excluded."""
    allowed = mask | ~mask.any(-1, keepdims=True)
    return jnp.where(allowed, x, jnp.finfo(x.dtype).min)


def masked_mean(x: Array, mask: Array) -> Array:
    """The mean of the entries that count."""
    total = jnp.where(mask[..., None], x, 0.0).sum(-2)
    return total / jnp.maximum(mask.sum(-1, keepdims=True), 1)


def attention_of_places(x: Array) -> Array:
    """Attention of the pixels of an image to each other."""
    flat = x.reshape(x.shape[0], -1, x.shape[-1])
    query, key, value = (nn.Dense(8)(flat) for _ in range(3))
    weights = jax.nn.softmax(jnp.einsum("bqd,bkd->bqk", query, key))
    out = nn.Dense(x.shape[-1])(jnp.einsum("bqk,bkd->bqd", weights, value))
    gamma = Scale()()
    return x + gamma * out.reshape(x.shape)


class Scale(nn.Module):
    """One number that is learned."""

    @nn.compact
    def __call__(self) -> Array:
        """The number."""
        return self.param("gamma", nn.initializers.zeros, ())


def graph_convolution(x: Array, adjacency: Array) -> Array:
    """Two graph convolutions."""
    adjacency = adjacency + jnp.eye(x.shape[-2])[None]
    scale = jax.lax.rsqrt(adjacency.sum(-1))
    adjacency = scale[..., None] * adjacency * scale[..., None, :]
    for _ in range(2):
        x = nn.relu(adjacency @ nn.Dense(64)(x))
    return x


def graph_attention(x: Array, adjacency: Array) -> Array:
    """One layer of attention to neighbors with two heads."""
    neighbors = (adjacency != 0) | jnp.eye(x.shape[-2], dtype=bool)[None]
    seen = nn.DenseGeneral((2, 32))(x)
    by_head = ((2, 32), "bnhd,hd->bnh")
    asks, tells = (nn.Einsum(*by_head, use_bias=False)(seen) for _ in range(2))
    logits = nn.leaky_relu(asks[:, :, None] + tells[:, None], 0.2)
    logits = jnp.where(neighbors[..., None], logits, jnp.finfo(jnp.float32).min)
    out = jnp.einsum("bnmh,bmhd->bnhd", jax.nn.softmax(logits, axis=2), seen)
    return nn.elu(out.reshape(*x.shape[:-1], -1))


def messages(x: Array, edges: np.ndarray) -> Array:
    """Two layers of messages along edges that never change, averaged."""
    senders, receivers = edges.T
    counts = np.maximum(np.bincount(receivers, minlength=x.shape[-2]), 1)[None, :, None]
    sent = None
    for _ in range(2):
        total = nn.Dense(64)(x)[:, senders] + nn.Dense(64, use_bias=False)(x)[:, receivers]
        if sent is not None:
            total += nn.Dense(64, use_bias=False)(sent)
        sent = nn.relu(total)
        heard = jnp.zeros((*x.shape[:-1], 64)).at[:, receivers].add(sent) / counts
        x = nn.relu(nn.Dense(64)(x) + nn.Dense(64, use_bias=False)(heard))
    return x


def point_net(x: Array) -> Array:
    """Points moved by a matrix made of them, dense layers, and the largest of each feature."""
    seen = dense((64, 64, 128), "relu")(x).max(-2)
    seen = dense((64, 32), "relu")(seen)
    matrix = nn.Dense(9)(seen).reshape(-1, 3, 3) + jnp.eye(3)[None]
    return dense((64, 64, 128), "relu")(x @ matrix).max(-2)


def mlp_actor_critic(x: Array, actions: int) -> tuple[Array, Array]:
    """Policy and value of two networks of dense layers."""
    logits = nn.Dense(actions)(dense((64, 64), "tanh")(x))
    return logits, nn.Dense(1)(dense((64, 64), "tanh")(x))[..., 0]


def image_actor_critic(x: Array, actions: int) -> tuple[Array, Array]:
    """Policy and value of two networks of convolutions and dense layers."""

    def body(x: Array) -> Array:
        x = vgg((16, 32))(x)
        x = dense((128,), "relu")(x.reshape(x.shape[0], -1))
        return dense((64, 64), "tanh")(x)

    return nn.Dense(actions)(body(x)), nn.Dense(1)(body(x))[..., 0]
