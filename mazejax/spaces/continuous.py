"""Distributions over Boxes: Gaussians on the whole line, and two that keep to finite bounds.

What is drawn within bounds is a Gaussian or a Beta number carried to the Box by a
bijection, whose Jacobian is part of the density. Log-probabilities are finite at the
bounds too, which rounding reaches though the mathematics does not.
"""

import math
from typing import Any, Self

import jax
import jax.numpy as jnp
import jax.scipy.special
import numpy as np

from mazejax.base import static
from mazejax.errors import ConfigError
from mazejax.spaces.base import Space
from mazejax.spaces.distributions import Distribution, check_same_kind, joint, wide
from mazejax.spaces.simple import Box
from mazejax.spaces.stirling import log_rest, stirling_rest, stirling_slope
from mazejax.types import Array, Key

# A mixture of normals with these (weight, standard deviation) is near the logistic law L of
# variance pi^2 / 12, for which log cosh(x) + log 2 = E|x + L|: that is met to 4.1e-6 for all x.
# By least squares, as the tables of Monahan and Stefanski, 1992, "Normal scale mixture
# approximations to F*(z) and computation of the logistic-normal integral".
_LOGISTIC = (
    (0.149791, 0.510977),
    (0.501401, 0.759796),
    (0.312252, 1.123821),
    (0.036556, 1.650037),
)


class DiagonalGaussian(Distribution):
    """Independent normal numbers, float [..., *shape]."""

    mean: Array
    """[..., *shape]."""
    log_std: Array
    """[..., *shape], or without (some of) the batch axes of the mean."""
    event_ndim: int = static(default=1)
    """Number of axes of one action."""

    def sample(self, key: Key) -> Array:
        mean, log_std = self._parameters()
        return mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape, mean.dtype)

    def mode(self) -> Array:
        return self._parameters()[0]

    def log_prob(self, action: Array) -> Array:
        mean, log_std = self._parameters()
        deviation = (action - mean) * jnp.exp(-log_std)
        log_density = -0.5 * jnp.square(deviation) - log_std - 0.5 * math.log(2 * math.pi)
        return joint(log_density, self.event_ndim)

    def entropy(self) -> Array:
        _, log_std = self._parameters()
        return joint(log_std + 0.5 * math.log(2 * math.pi * math.e), self.event_ndim)

    def kl_divergence(self, other: Self) -> Array:
        check_same_kind(self, other)
        mean, log_std = self._parameters()
        other_mean, other_log_std = other._parameters()
        log_ratio = log_std - other_log_std
        distance = (mean - other_mean) * jnp.exp(-other_log_std)
        # expm1: for nearly equal widths exp(2 x) - 1 - 2 x would cancel.
        divergence = 0.5 * (jnp.expm1(2 * log_ratio) + jnp.square(distance)) - log_ratio
        return joint(divergence, self.event_ndim)

    def _parameters(self) -> tuple[Array, Array]:
        mean, log_std = wide(self.mean), wide(self.log_std)
        return mean, jnp.broadcast_to(log_std, mean.shape)


class SquashedGaussian(Distribution):
    """Independent numbers center + halfwidth * tanh(x) with x normal, float [..., *shape].

    An action at a bound has the density of the closest number inside that x tells apart:
    at least 2^-25 of the width away from the bound, where |x| is below 8.7.
    """

    mean: Array
    """[..., *shape], of x."""
    log_std: Array
    """[..., *shape], of x, or without (some of) the batch axes of the mean."""
    space: Box = static()
    """Of the actions, with finite bounds."""

    def validate(self) -> None:
        check_bounded(self.space, type(self).__name__)

    def sample(self, key: Key) -> Array:
        return self._squashed(self._gaussian().sample(key))

    def mode(self) -> Array:
        """The squashed mean, which is also the median.

        The density itself is largest elsewhere, and for a wide Gaussian at both bounds.
        """
        return self._squashed(self._gaussian().mode())

    def log_prob(self, action: Array) -> Array:
        above, below, width = _distances(self.space, action, wide(self.mean))
        log_above, log_below = jnp.log(above), jnp.log(below)
        # The slope of the bijection is halfwidth * (1 - tanh(x)^2) = 2 * above * below / width.
        log_slope = math.log(2) + log_above + log_below - jnp.log(width)
        return self._gaussian().log_prob(0.5 * (log_above - log_below)) - self._joint(log_slope)

    def entropy(self) -> Array:
        """That of the Gaussian plus the mean log slope, [...].

        H = H(x) + log halfwidth + 2 log 2 - 2 E|x + L|, L logistic with variance pi^2 / 12.
        There is no closed form; with L a mixture of 4 normals it is an estimate without
        draws, for each entry exact to 1e-5 (beside rounding) at every mean and spread, and
        smooth in both.
        """
        gaussian = self._gaussian()
        mean, log_std = wide(self.mean), jnp.broadcast_to(wide(self.log_std), self.mean.shape)
        variance = jnp.exp(2 * log_std)
        distance = jnp.zeros_like(mean)
        for weight, spread in _LOGISTIC:
            distance += weight * _mean_distance(mean, jnp.sqrt(variance + spread**2))
        low, high = _bounds(self.space, mean)
        log_slope = jnp.log(0.5 * (high - low)) + 2 * (math.log(2) - distance)
        return gaussian.entropy() + self._joint(log_slope)

    def kl_divergence(self, other: Self) -> Array:
        """That of the Gaussians, [...]: a bijection that both share changes nothing."""
        check_same_kind(self, other)
        return self._gaussian().kl_divergence(other._gaussian())

    def _gaussian(self) -> DiagonalGaussian:
        return DiagonalGaussian(self.mean, self.log_std, len(self.space.shape))

    def _squashed(self, x: Array) -> Array:
        low, high = _bounds(self.space, x)
        half = 0.5 * (high - low)
        return jnp.clip(low + half + half * jnp.tanh(x), low, high)

    def _joint(self, values: Array) -> Array:
        return joint(values, len(self.space.shape))


class Beta(Distribution):
    """Independent numbers low + width * y with y of a Beta law, float [..., *shape].

    Its density is proportional to y^(alpha - 1) (1 - y)^(beta - 1). An action at a bound has the
    density of the closest number inside, at least 2^-25 of the width away.
    """

    alpha: Array
    """[..., *shape], at least 1: larger ones draw towards the high bound."""
    beta: Array
    """[..., *shape], at least 1: larger ones draw towards the low bound."""
    space: Box = static()
    """Of the actions, with finite bounds."""

    @classmethod
    def unimodal(cls, alpha: Array, beta: Array, space: Box) -> "Beta":
        """With softplus + 1 of any two numbers, so that the density has one peak."""
        return cls(jax.nn.softplus(wide(alpha)) + 1, jax.nn.softplus(wide(beta)) + 1, space)

    def validate(self) -> None:
        check_bounded(self.space, type(self).__name__)

    def sample(self, key: Key) -> Array:
        alpha, beta = self._parameters()
        return self._scaled(jax.random.beta(key, alpha, beta, alpha.shape, alpha.dtype))

    def mode(self) -> Array:
        """The likeliest value, [..., *shape]; the center where all are equally likely."""
        alpha, beta = self._parameters()
        total = (alpha - 1) + (beta - 1)
        peak = (alpha - 1) / jnp.where(total > 0, total, 1)
        return self._scaled(jnp.where(total > 0, peak, 0.5))

    def log_prob(self, action: Array) -> Array:
        alpha, beta = self._parameters()
        above, below, width = _distances(self.space, action, alpha)
        total, y, one_minus_y = alpha + beta, above / width, below / width
        # Around the mean m: y / m = 1 + x and (1 - y) / (1 - m) = 1 + z. As alpha x + beta z is 0,
        # the large parts of the logarithms, x and z themselves, need not be added up.
        excess = y * beta - one_minus_y * alpha
        x, z = excess / alpha, -excess / beta
        ratio = (alpha - 1) * log_rest(x, y * (total / alpha)) - x
        ratio += (beta - 1) * log_rest(z, one_minus_y * (total / beta)) - z
        return self._joint(_log_at_mean(alpha, beta) + ratio - jnp.log(width))

    def entropy(self) -> Array:
        alpha, beta = self._parameters()
        total = alpha + beta
        slopes = (alpha - 1) * stirling_slope(alpha) + (beta - 1) * stirling_slope(beta)
        slopes -= (total - 2) * stirling_slope(total)
        inverses = 0.5 - 0.5 / alpha - 0.5 / beta + 1 / total
        low, high = _bounds(self.space, alpha)
        return self._joint(inverses - slopes - _log_at_mean(alpha, beta) + jnp.log(high - low))

    def kl_divergence(self, other: Self) -> Array:
        check_same_kind(self, other)
        alpha, beta = self._parameters()
        other_alpha, other_beta = other._parameters()
        more_alpha, more_beta = other_alpha - alpha, other_beta - beta
        total, other_total = alpha + beta, other_alpha + other_beta
        # Of the means: m / other_m = 1 + x and (1 - m) / (1 - other_m) = 1 + z, as in log_prob.
        excess = (alpha / total) * more_beta - (beta / total) * more_alpha
        growth = other_total / total
        x, z = excess / other_alpha, -excess / other_beta
        divergence = -other_alpha * log_rest(x, alpha / other_alpha * growth)
        divergence -= other_beta * log_rest(z, beta / other_beta * growth)
        divergence += _stirling_divergence(alpha, more_alpha)
        divergence += _stirling_divergence(beta, more_beta)
        return self._joint(divergence - _stirling_divergence(total, more_alpha + more_beta))

    def _parameters(self) -> tuple[Array, Array]:
        return wide(self.alpha), wide(self.beta)

    def _scaled(self, y: Array) -> Array:
        low, high = _bounds(self.space, y)
        return jnp.clip(low + (high - low) * y, low, high)

    def _joint(self, values: Array) -> Array:
        return joint(values, len(self.space.shape))


def check_bounded(space: Space, where: str) -> None:
    """Raise ConfigError unless the space is a Box with finite bounds apart from each other."""
    hint = "use 'diagonal_gaussian' or give the Box other bounds"
    if not isinstance(space, Box):
        raise ConfigError(
            f"{where}: got {type(space).__name__}, expected a Box with finite bounds; "
            f"choose a distribution for this kind of space"
        )
    low, high, inside_low, inside_high = _limits(space, np.dtype(np.float32))
    for name, bound in (("low", low), ("high", high)):
        if not np.isfinite(bound).all():
            index = _first(~np.isfinite(bound))
            raise ConfigError(
                f"{where}: got a Box with {name} {bound[index]!s} at entry {index}, expected "
                f"finite bounds; {hint}"
            )
    with np.errstate(over="ignore"):
        usable = np.isfinite(high - low) & (high - low > _NARROWEST) & (inside_low <= inside_high)
    if not usable.all():
        index = _first(~usable)
        raise ConfigError(
            f"{where}: got a Box from {low[index]!s} to {high[index]!s} at entry {index}, expected "
            f"a width that float32 can hold and numbers between the bounds; {hint}"
        )


_NARROWEST = 1e-30
"""Smallest width of a Box: 2^-25 of it is still a normal float32."""


def _limits(space: Box, dtype: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """low, high, and the closest numbers inside that count as different from them, [*shape]."""
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = space.low.astype(dtype), space.high.astype(dtype)
        # 2^-25 of the width in float32: for [-1, 1] the spacing of the numbers next to the bounds.
        margin = (high - low) * (np.finfo(dtype).eps / 4)
        inside_low = np.maximum(np.nextafter(low, high), low + margin)
        inside_high = np.minimum(np.nextafter(high, low), high - margin)
    return low, high, inside_low, inside_high


def _bounds(space: Box, like: Array) -> tuple[Array, Array]:
    """The bounds in the shape [..., *shape] and dtype of another array."""
    low, high, _, _ = _limits(space, like.dtype)
    return jnp.broadcast_to(low, like.shape), jnp.broadcast_to(high, like.shape)


def _distances(space: Box, action: Array, like: Array) -> tuple[Array, Array, Array]:
    """How far the action is from low and from high, both above 0, and how far those are apart."""
    limits = (jnp.broadcast_to(limit, like.shape) for limit in _limits(space, like.dtype))
    low, high, inside_low, inside_high = limits
    action = jnp.clip(jnp.asarray(action).astype(like.dtype), inside_low, inside_high)
    # Near a bound the difference from it is exact in floating point.
    return action - low, high - action, high - low


def _mean_distance(mean: Array, std: Array) -> Array:
    """E|x| of a normal number."""
    ratio = mean / std
    density = math.sqrt(2 / math.pi) * jnp.exp(-0.5 * jnp.square(ratio))
    return std * density + mean * jax.scipy.special.erf(ratio * math.sqrt(0.5))


def _log_at_mean(alpha: Array, beta: Array) -> Array:
    """The log-density m^(alpha - 1) (1 - m)^(beta - 1) / B(alpha, beta) at a Beta number's mean."""
    total = alpha + beta
    rest = stirling_rest(alpha) + stirling_rest(beta) - stirling_rest(total)
    logs = jnp.log(total / alpha) + jnp.log(total / beta) + jnp.log(total / (2 * math.pi))
    return 0.5 * logs - rest


def _stirling_divergence(x: Array, more: Array) -> Array:
    """What is small of log Gamma(x + more) - log Gamma(x) - more * digamma(x)."""
    rest = stirling_rest(x + more) - stirling_rest(x) - more * stirling_slope(x)
    return rest - 0.5 * log_rest(more / x, (x + more) / x)


def _first(wrong: np.ndarray) -> tuple[int, ...]:
    return tuple(np.argwhere(wrong)[0].tolist())
