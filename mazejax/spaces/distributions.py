"""Distributions over actions, one class per kind of space, and their product for dicts.

Each is a pytree with leading batch axes of any rank; log-probability, entropy and
divergence are joint: summed over the entries of an action and over the heads of a dict.
Which distribution serves which space is the mapper's business.
"""

import abc
import functools
import math
import operator
from collections.abc import Iterable
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np

from mazejax import random
from mazejax.base import Pytree, static
from mazejax.errors import ConfigError
from mazejax.types import Array, Key, PyTree


class Distribution(Pytree, abc.ABC):
    """A batch [...] of distributions over the values of one space, computed in float32 or wider."""

    @abc.abstractmethod
    def sample(self, key: Key) -> PyTree:
        """One draw for each member of the batch, all from one key."""

    @abc.abstractmethod
    def mode(self) -> PyTree:
        """The likeliest value of each member of the batch."""

    @abc.abstractmethod
    def log_prob(self, action: PyTree) -> Array:
        """Joint log-probability [...] (or log-density) of a value for each member of the batch."""

    @abc.abstractmethod
    def entropy(self) -> Array:
        """Joint (differential) entropy [...] in nats."""

    @abc.abstractmethod
    def kl_divergence(self, other: Self) -> Array:
        """Joint Kullback-Leibler divergence [...]: the mean under self of log self - log other."""


class Categorical(Distribution):
    """One of n categories, int32 [...], counted from `start`.

    Logits may be -inf, or finfo.min from a mask: probability 0, never drawn. An action
    outside the categories has the log-probability finfo.min.
    """

    logits: Array
    """[..., n], unnormalized."""
    start: int = static(default=0)

    @classmethod
    def masked(cls, logits: Array, mask: Array, start: int = 0) -> "Categorical":
        """Categorical over the entries where the mask [..., n] is true; over all if none is."""
        return cls(mask_logits(logits, mask), start)

    def sample(self, key: Key) -> Array:
        # One uniform number against the cumulative weights: the largest index of positive weight
        # that does not start above it. Entries of weight 0 fail the test, whatever the rounding.
        logits = _finite(self.logits)
        weights = jnp.exp(logits - logits.max(-1, keepdims=True))
        ends = weights.cumsum(-1)
        threshold = jax.random.uniform(key, ends.shape[:-1], ends.dtype)[..., None] * ends[..., -1:]
        possible = (weights > 0) & (ends - weights <= threshold)
        return jnp.where(possible, _index(weights), 0).max(-1) + np.int32(self.start)

    def mode(self) -> Array:
        return self.logits.argmax(-1).astype(jnp.int32) + np.int32(self.start)

    def log_prob(self, action: Array) -> Array:
        log_probs = jax.nn.log_softmax(_finite(self.logits))
        index = jnp.asarray(action) - np.int32(self.start)
        # A sum over n and not a gather, whose gradient would be a scatter.
        chosen = jnp.where(_index(log_probs) == index[..., None], log_probs, 0.0).sum(-1)
        inside = (index >= 0) & (index < log_probs.shape[-1])
        return jnp.where(inside, chosen, _lowest(log_probs))

    def entropy(self) -> Array:
        log_probs = jax.nn.log_softmax(_finite(self.logits))
        return -(jnp.exp(log_probs) * log_probs).sum(-1)

    def kl_divergence(self, other: Self) -> Array:
        check_same_kind(self, other)
        mine = jax.nn.log_softmax(_finite(self.logits))
        theirs = jax.nn.log_softmax(_finite(other.logits))
        return (jnp.exp(mine) * (mine - theirs)).sum(-1)


class MultiCategorical(Distribution):
    """Independent categories, int32 [..., *shape]; entry i is one of `nvec[i]` from `start[i]`."""

    logits: Array
    """[..., sum(nvec)], one entry after the other, unnormalized."""
    nvec: tuple[int, ...] = static()
    start: tuple[int, ...] | None = static(default=None)
    """The smallest category of each entry; None means 0."""
    shape: tuple[int, ...] | None = static(default=None)
    """Of one action; None means (len(nvec),)."""

    @classmethod
    def masked(
        cls,
        logits: Array,
        mask: Array,
        nvec: tuple[int, ...],
        start: tuple[int, ...] | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> "MultiCategorical":
        """Categories where the mask [..., sum(nvec)] is true; an entry without any has all."""
        rows = mask_logits(
            _rows(logits, nvec, _lowest(logits)), _rows(mask.astype(bool), nvec, False)
        )
        flat = [rows[..., i, :n] for i, n in enumerate(nvec)]
        return cls(jnp.concatenate(flat, axis=-1), nvec, start, shape)

    def validate(self) -> None:
        num, shape, start = len(self.nvec), self.shape or (len(self.nvec),), self.start
        if math.prod(shape) != num or (start is not None and len(start) != num):
            raise ConfigError(
                f"MultiCategorical: got shape {shape} and start {start} for {num} entries of nvec; "
                f"give as many of each"
            )
        if self.logits.ndim < 1 or self.logits.shape[-1] != sum(self.nvec):
            raise ConfigError(
                f"MultiCategorical.logits: got shape {self.logits.shape}, "
                f"expected [..., {sum(self.nvec)}], the sum of nvec {self.nvec}"
            )

    def sample(self, key: Key) -> Array:
        return self._action(self._entries().sample(key))

    def mode(self) -> Array:
        return self._action(self._entries().mode())

    def log_prob(self, action: Array) -> Array:
        batch = self.logits.shape[:-1]
        index = jnp.asarray(action).reshape(*batch, len(self.nvec))
        log_probs = self._entries().log_prob(index - self._starts(index.shape))
        return _at_least_lowest(log_probs.sum(-1))

    def entropy(self) -> Array:
        return self._entries().entropy().sum(-1)

    def kl_divergence(self, other: Self) -> Array:
        check_same_kind(self, other)
        return self._entries().kl_divergence(other._entries()).sum(-1)

    def _entries(self) -> Categorical:
        """The entries as one more batch axis, padded with impossible categories."""
        return Categorical(_rows(self.logits, self.nvec, _lowest(self.logits)))

    def _action(self, index: Array) -> Array:
        action = index + self._starts(index.shape)
        return action.reshape(*index.shape[:-1], *(self.shape or index.shape[-1:]))

    def _starts(self, shape: tuple[int, ...]) -> Array:
        return jnp.broadcast_to(np.asarray(self.start or 0, np.int32), shape)


class Bernoulli(Distribution):
    """Independent switches, int8 [..., *shape]: 1 with probability sigmoid(logits).

    Logits may be -inf, or finfo.min from a mask: such a switch is always 0, with entropy 0. An
    action with a 1 there has the log-probability finfo.min.
    """

    logits: Array
    """[..., *shape]."""
    event_ndim: int = static(default=1)
    """Number of axes of one action."""

    @classmethod
    def masked(cls, logits: Array, mask: Array, event_ndim: int = 1) -> "Bernoulli":
        """Switches that stay 0 where the mask [..., *shape] is false: all, if none is true."""
        return cls(jnp.where(mask.astype(bool), logits, _lowest(logits)), event_ndim)

    def sample(self, key: Key) -> Array:
        logits = wide(self.logits)
        uniform = jax.random.uniform(key, logits.shape, logits.dtype)
        return (uniform < jax.nn.sigmoid(logits)).astype(jnp.int8)

    def mode(self) -> Array:
        return (self.logits > 0).astype(jnp.int8)

    def log_prob(self, action: Array) -> Array:
        logits = _finite(self.logits)
        signed = jnp.where(jnp.asarray(action) > 0, logits, -logits)
        return _at_least_lowest(joint(jax.nn.log_sigmoid(signed), self.event_ndim))

    def entropy(self) -> Array:
        # H = softplus(-a) + a * sigmoid(-a) with a = |logits|: no difference of large numbers.
        size = jnp.abs(_finite(self.logits))
        return joint(jax.nn.softplus(-size) + size * jax.nn.sigmoid(-size), self.event_ndim)

    def kl_divergence(self, other: Self) -> Array:
        check_same_kind(self, other)
        mine, theirs = _finite(self.logits), _finite(other.logits)

        def part(mine: Array, theirs: Array) -> Array:
            log_ratio = jax.nn.log_sigmoid(mine) - jax.nn.log_sigmoid(theirs)
            return jax.nn.sigmoid(mine) * log_ratio

        return joint(part(mine, theirs) + part(-mine, -theirs), self.event_ndim)


class Product(Distribution):
    """Independent distributions under the keys of a dict; actions are dicts of the same keys."""

    parts: dict[str, Distribution]

    def sample(self, key: Key) -> dict[str, PyTree]:
        """One draw for each member of the batch; each key of the dict has its own stream."""
        return {name: part.sample(random.stream(key, name)) for name, part in self.parts.items()}

    def mode(self) -> dict[str, PyTree]:
        return {name: part.mode() for name, part in self.parts.items()}

    def log_prob(self, action: dict[str, PyTree]) -> Array:
        # In sorted order here and below: JAX sorts dicts, and sums must not depend on that.
        log_probs = (self.parts[name].log_prob(action[name]) for name in sorted(self.parts))
        return _at_least_lowest(_total(log_probs))

    def entropy(self) -> Array:
        return _total(self.parts[name].entropy() for name in sorted(self.parts))

    def kl_divergence(self, other: Self) -> Array:
        check_same_kind(self, other)
        names = sorted(self.parts)
        return _total(self.parts[name].kl_divergence(other.parts[name]) for name in names)


def mask_logits(logits: Array, mask: Array) -> Array:
    """Logits [..., n] with finfo.min where the mask is false; unchanged rows where all of it is.

    So a row without any allowed action stays a proper distribution with finite gradients.
    """
    mask = mask.astype(bool)
    allowed = mask | ~mask.any(-1, keepdims=True)
    return jnp.where(allowed, logits, _lowest(logits))


def _rows(flat: Array, nvec: tuple[int, ...], fill: float | bool) -> Array:
    """[..., sum(nvec)] as [..., len(nvec), max(nvec)], short rows padded with a constant."""
    if len(set(nvec)) == 1:
        return flat.reshape(*flat.shape[:-1], len(nvec), nvec[0])
    rows = []
    for row in jnp.split(flat, np.cumsum(nvec)[:-1], axis=-1):
        padding = [(0, 0)] * (row.ndim - 1) + [(0, max(nvec) - row.shape[-1])]
        rows.append(jnp.pad(row, padding, constant_values=fill))
    return jnp.stack(rows, axis=-2)


def wide(values: Array) -> Array:
    """The numbers in float32, or in the dtype that they have if it is wider."""
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def _lowest(values: Array) -> float:
    return float(jnp.finfo(values.dtype).min)


def _finite(logits: Array) -> Array:
    # finfo.min instead of -inf: 0 * finfo.min is 0, where 0 * -inf is NaN.
    logits = wide(logits)
    return jnp.maximum(logits, _lowest(logits))


def _at_least_lowest(log_prob: Array) -> Array:
    """A joint log-probability, with finfo.min where those of impossible parts add up to -inf."""
    return jnp.where(log_prob < _lowest(log_prob), _lowest(log_prob), log_prob)


def _index(values: Array) -> Array:
    return jax.lax.broadcasted_iota(jnp.int32, values.shape, values.ndim - 1)


def joint(values: Array, event_ndim: int) -> Array:
    """The sum over the last axes, those of one action."""
    return values.sum(tuple(range(values.ndim - event_ndim, values.ndim)))


def _total(terms: Iterable[Array]) -> Array:
    return functools.reduce(operator.add, terms)


def check_same_kind(mine: Distribution, theirs: Distribution) -> None:
    """Raise ConfigError unless both are of one class and over the same space."""
    if jax.tree.structure(mine) != jax.tree.structure(theirs):  # type: ignore[operator]
        raise ConfigError(
            f"kl_divergence: got {type(theirs).__name__} of another structure than this "
            f"{type(mine).__name__}; compare distributions over the same space"
        )
