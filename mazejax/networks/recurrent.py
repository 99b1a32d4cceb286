"""Recurrent layers over sequences [T, ..., D] in which episodes begin anywhere: LSTM and GRU.

The products of a step's gates are one, and the gradients of both kernels one product each of
all steps, whose sums over time would otherwise be in the scan. Who keeps a carry between
calls, and where it is stored, is left to the policies.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mazejax.errors import ConfigError
from mazejax.types import Array, PyTree

_ROWS_IN_SCAN = 4
"""Rows of a step from which its input's product is in the scan on the CPU, see `_shares`."""


class LSTMCarry(NamedTuple):
    """What an LSTM remembers."""

    cell: Array
    """c, [..., H] float32."""
    hidden: Array
    """h, [..., H] float32: the last output."""


class LSTM(nn.Module):
    """Long short-term memory with forget gates, the carry zero where an episode begins.

        i, f, o = sigmoid(W x_t + U h_{t-1} + b), one each
        g = tanh(W x_t + U h_{t-1} + b)
        c_t = f * c_{t-1} + i * g
        h_t = o * tanh(c_t)

    Kernels hold the gates side by side in the order i, f, g, o. Hochreiter & Schmidhuber,
    1997; forget gates: Gers et al., 2000.
    """

    features: int
    """H."""

    @nn.compact
    def __call__(self, x: Array, carry: LSTMCarry, begins: Array | None) -> tuple[Array, LSTMCarry]:
        """Outputs [T, ..., H] for x [T, ..., D], and the carry after the last step.

        `carry` [..., H] is that before the first step. Where `begins` [T, ...] bool is
        true, an episode begins with x[t]: whatever the carry was, it is zero before step t.
        None begins nowhere, which is quicker.
        """
        _check_shapes("LSTM", x, begins, carry, 2 * [(*x.shape[1:-1], self.features)])
        width = 4 * self.features
        kernel = self.param("input_kernel", nn.initializers.lecun_normal(), (x.shape[-1], width))
        recurrent = self.param("recurrent_kernel", _orthogonal_gates, (self.features, width))
        bias = self.param("bias", _remembering_bias, (width,))
        carry = LSTMCarry(*carry)
        if x.shape[0] == 1:
            now = jnp.split(_project(x[0], kernel, bias), 4, axis=-1)
            carry, _ = _lstm_step(now, recurrent, _reset(_first(begins), carry))
            return carry.hidden[None], carry
        return _lstm_steps(x, _Weights(kernel, bias, recurrent), carry, begins)

    @nn.nowrap
    def initial_carry(self, batch_shape: tuple[int, ...]) -> LSTMCarry:
        """The carry at the beginning of episodes: zeros [*batch_shape, H] float32."""
        zeros = jnp.zeros((*batch_shape, self.features), jnp.float32)
        return LSTMCarry(zeros, zeros)


class GRU(nn.Module):
    """Gated recurrent unit, the carry zero where an episode begins.

        r, z = sigmoid(W x_t + b + U h_{t-1}), one each
        n = tanh(W x_t + b + r * (U h_{t-1} + d))
        h_t = (1 - z) * n + z * h_{t-1}

    Kernels hold r, z, n side by side; d is `recurrent_bias`. Cho et al., 2014,
    arXiv:1406.1078, in the variant whose reset gate acts after the recurrent product
    (version 1 of that paper; cuDNN, flax and PyTorch have it too).
    """

    features: int
    """H."""

    @nn.compact
    def __call__(self, x: Array, carry: Array, begins: Array | None) -> tuple[Array, Array]:
        """Outputs [T, ..., H] for x [T, ..., D], and the carry after the last step.

        `carry` [..., H] is that before the first step. Where `begins` [T, ...] bool is
        true, an episode begins with x[t]: whatever the carry was, it is zero before step t.
        None begins nowhere, which is quicker.
        """
        _check_shapes("GRU", x, begins, carry, [(*x.shape[1:-1], self.features)])
        width, zeros = 3 * self.features, nn.initializers.zeros_init()
        kernel = self.param("input_kernel", nn.initializers.lecun_normal(), (x.shape[-1], width))
        bias = self.param("bias", zeros, (width,))
        recurrent = self.param("recurrent_kernel", _orthogonal_gates, (self.features, width))
        recurrent_bias = self.param("recurrent_bias", zeros, (self.features,))
        if x.shape[0] == 1:
            now = jnp.split(_project(x[0], kernel, bias), 3, axis=-1)
            carry, _ = _gru_step(now, recurrent, recurrent_bias, _reset(_first(begins), carry))
            return carry[None], carry
        weights = _Weights(kernel, bias, recurrent, recurrent_bias)
        return _gru_steps(x, weights, carry, begins)

    @nn.nowrap
    def initial_carry(self, batch_shape: tuple[int, ...]) -> Array:
        """The carry at the beginning of episodes: zeros [*batch_shape, H] float32."""
        return jnp.zeros((*batch_shape, self.features), jnp.float32)


class _Weights(NamedTuple):
    """Of one layer; tangents of them may be symbolic zeros."""

    kernel: Array
    """[D, G], all gates side by side."""
    bias: Array
    """[G]."""
    recurrent: Array
    """[H, G]."""
    recurrent_bias: Any = None
    """[H] of a GRU; None of an LSTM."""


# --- LSTM ---------------------------------------------------------------------------------


class _LSTMSlopes(NamedTuple):
    """Derivatives of one step, [..., H]: of what by what, gates before their nonlinearity."""

    cell_i: Array
    cell_f: Array
    cell_g: Array
    cell_cell: Array
    """Of c_t by c_{t-1}."""
    hidden_o: Array
    hidden_cell: Array
    """Of h_t by c_t."""


def _lstm_step(
    driven: list[Array], recurrent: Array, carry: LSTMCarry
) -> tuple[LSTMCarry, _LSTMSlopes]:
    """The next carry, from the input's share of each gate [..., H], and the step's slopes."""
    gates = jnp.split(carry.hidden @ recurrent, 4, axis=-1)
    i, f, g, o = (share + gate for share, gate in zip(driven, gates, strict=True))
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
    cell = f * carry.cell + i * g
    squashed = jnp.tanh(cell)
    slopes = _LSTMSlopes(
        cell_i=g * i * (1 - i),
        cell_f=carry.cell * f * (1 - f),
        cell_g=i * (1 - g * g),
        cell_cell=f,
        hidden_o=squashed * o * (1 - o),
        hidden_cell=o * (1 - squashed * squashed),
    )
    return LSTMCarry(cell, o * squashed), slopes


def _lstm_scan(
    x: Array, weights: _Weights, carry: LSTMCarry, begins: Array | None
) -> tuple[LSTMCarry, tuple[Array, _LSTMSlopes]]:
    read, shares = _shares(x, weights, 4)

    def one_step(carry: LSTMCarry, now: tuple) -> tuple[LSTMCarry, tuple[Array, _LSTMSlopes]]:
        row, begins = now
        carry, slopes = _lstm_step(shares(row), weights.recurrent, _reset(begins, carry))
        return carry, (carry.hidden, slopes)

    return jax.lax.scan(one_step, carry, (read, begins))


@jax.custom_jvp
def _lstm_steps(
    x: Array, weights: _Weights, carry: LSTMCarry, begins: Array | None
) -> tuple[Array, LSTMCarry]:
    """Hidden states [T, ..., H] and the last carry."""
    carry, (hidden, _) = _lstm_scan(x, weights, carry, begins)
    return hidden, carry


def _lstm_steps_jvp(primals: tuple, tangents: tuple) -> tuple[PyTree, PyTree]:
    x, weights, carry, begins = primals
    d_x, d_weights, d_carry = _filled(*tangents)
    last, (hidden, slopes) = _lstm_scan(x, weights, carry, begins)
    before = _hidden_before(hidden, carry.hidden, begins)
    d_gates = _d_project(x, weights, d_x, d_weights) + _flat_product(before, d_weights.recurrent)
    recurrent = weights.recurrent

    def one_tangent(d_carry: LSTMCarry, now: tuple) -> tuple[LSTMCarry, Array]:
        d_gates, slope, begins = now
        d_cell, d_hidden = _reset(begins, d_carry)
        i, f, g, o = jnp.split(d_gates + d_hidden @ recurrent, 4, axis=-1)
        d_cell = slope.cell_cell * d_cell + slope.cell_i * i + slope.cell_f * f + slope.cell_g * g
        d_hidden = slope.hidden_cell * d_cell + slope.hidden_o * o
        return LSTMCarry(d_cell, d_hidden), d_hidden

    d_last, d_hidden = jax.lax.scan(one_tangent, d_carry, (d_gates, slopes, begins))
    return (hidden, last), (d_hidden, d_last)


_lstm_steps.defjvp(_lstm_steps_jvp, symbolic_zeros=True)


# --- GRU ----------------------------------------------------------------------------------


class _GRUSlopes(NamedTuple):
    """Derivatives of h_t in one step, [..., H], by gates before their nonlinearity."""

    r: Array
    z: Array
    n_input: Array
    """By the input's share of n."""
    n_recurrent: Array
    """By the share of n that the reset gate multiplies."""
    hidden: Array
    """By h_{t-1}, gates held."""


def _gru_step(
    driven: list[Array], recurrent: Array, recurrent_bias: Array, hidden: Array
) -> tuple[Array, _GRUSlopes]:
    """The next hidden state, from the input's share of each gate [..., H], and its slopes."""
    gates = jnp.split(hidden @ recurrent, 3, axis=-1)
    r = jax.nn.sigmoid(driven[0] + gates[0])
    z = jax.nn.sigmoid(driven[1] + gates[1])
    proposed = gates[2] + _like(recurrent_bias, hidden)
    n = jnp.tanh(driven[2] + r * proposed)
    by_n = (1 - z) * (1 - n * n)
    slopes = _GRUSlopes(
        r=by_n * proposed * r * (1 - r),
        z=(hidden - n) * z * (1 - z),
        n_input=by_n,
        n_recurrent=by_n * r,
        hidden=z,
    )
    return (1 - z) * n + z * hidden, slopes


def _gru_scan(
    x: Array, weights: _Weights, carry: Array, begins: Array | None
) -> tuple[Array, tuple[Array, _GRUSlopes]]:
    read, shares = _shares(x, weights, 3)
    recurrent = (weights.recurrent, weights.recurrent_bias)

    def one_step(carry: Array, now: tuple) -> tuple[Array, tuple[Array, _GRUSlopes]]:
        row, begins = now
        hidden, slopes = _gru_step(shares(row), *recurrent, _reset(begins, carry))
        return hidden, (hidden, slopes)

    return jax.lax.scan(one_step, carry, (read, begins))


@jax.custom_jvp
def _gru_steps(
    x: Array, weights: _Weights, carry: Array, begins: Array | None
) -> tuple[Array, Array]:
    """Hidden states [T, ..., H] and the last of them."""
    carry, (hidden, _) = _gru_scan(x, weights, carry, begins)
    return hidden, carry


def _gru_steps_jvp(primals: tuple, tangents: tuple) -> tuple[PyTree, PyTree]:
    x, weights, carry, begins = primals
    d_x, d_weights, d_carry = _filled(*tangents)
    last, (hidden, slopes) = _gru_scan(x, weights, carry, begins)
    before = _hidden_before(hidden, carry, begins)
    r, z, n = jnp.split(_flat_product(before, d_weights.recurrent), 3, axis=-1)
    r_input, z_input, n_input = jnp.split(_d_project(x, weights, d_x, d_weights), 3, axis=-1)
    d_pushed = slopes.r * (r + r_input) + slopes.z * (z + z_input) + slopes.n_input * n_input
    d_pushed += slopes.n_recurrent * (n + _like(d_weights.recurrent_bias, n))
    recurrent = weights.recurrent

    def one_tangent(d_hidden: Array, now: tuple) -> tuple[Array, Array]:
        d_pushed, slope, begins = now
        d_hidden = _reset(begins, d_hidden)
        r, z, n = jnp.split(d_hidden @ recurrent, 3, axis=-1)
        by_gates = slope.r * r + slope.z * z + slope.n_recurrent * n
        d_hidden = d_pushed + by_gates + slope.hidden * d_hidden
        return d_hidden, d_hidden

    d_last, d_hidden = jax.lax.scan(one_tangent, d_carry, (d_pushed, slopes, begins))
    return (hidden, last), (d_hidden, d_last)


_gru_steps.defjvp(_gru_steps_jvp, symbolic_zeros=True)


# --- both ---------------------------------------------------------------------------------


def _project(x: Array, kernel: Array, bias: Array) -> Array:
    """The input's share of the gates, [T, ..., G] of x [T, ..., D]."""
    out = _flat_product(x, kernel)
    return out + _like(bias, out)


def _d_project(x: Array, weights: _Weights, d_x: Array | None, d_weights: _Weights) -> Array:
    """The tangent of `_project`; None is that of an x which does not change."""
    out = _project(x, d_weights.kernel, d_weights.bias)
    return out if d_x is None else out + _flat_product(d_x, weights.kernel)


def _filled(
    d_x: Any, d_weights: _Weights, d_carry: PyTree, _: Any
) -> tuple[Array | None, _Weights, PyTree]:
    """Tangents with zeros as arrays; but None for x, whose product with the kernel is large."""

    def fill(tangent: Any) -> Array:
        is_zero = isinstance(tangent, jax.custom_derivatives.SymbolicZero)
        return jnp.zeros(tangent.shape, tangent.dtype) if is_zero else tangent

    changes = not isinstance(d_x, jax.custom_derivatives.SymbolicZero)
    return d_x if changes else None, *jax.tree.map(fill, (d_weights, d_carry))


def _shares(x: Array, weights: _Weights, num_gates: int) -> tuple[PyTree, Callable]:
    """What the scan reads, [T, ...], and the input's share of each gate as a function of its row.

    On the CPU the product is the step's own, whose result stays in the cache: of 512 rows and
    16 steps that is a fifth faster than one product of all steps, and of 4 rows no slower.
    Of fewer, and where each product is a kernel to launch, all steps are one product.
    """
    if jax.default_backend() == "cpu" and math.prod(x.shape[1:-1]) >= _ROWS_IN_SCAN:
        return x, lambda row: jnp.split(_project(row, *weights[:2]), num_gates, axis=-1)
    # Split before the scan: on the CPU, a body that slices the gates from its step's row
    # takes up to 1.8 times as long.
    return jnp.split(_project(x, *weights[:2]), num_gates, axis=-1), lambda gates: gates


def _flat_product(x: Array, kernel: Array) -> Array:
    # As one matrix: on the CPU, the gradient of a kernel that sums over the two axes T and N
    # takes XLA a quarter longer than that of the same numbers along one axis.
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], kernel.shape[-1])


def _first(begins: Array | None) -> Array | None:
    return None if begins is None else begins[0]


def _reset(begins: Array | None, carry: PyTree) -> PyTree:
    """The carry [..., H], zero where episodes begin: selected, so that nan and inf end too."""
    if begins is None:
        return carry
    return jax.tree.map(lambda leaf: jnp.where(begins[..., None], 0.0, leaf), carry)


def _hidden_before(hidden: Array, first: Array, begins: Array | None) -> Array:
    """What each step multiplied by the recurrent kernel, [T, ..., H]."""
    return _reset(begins, jnp.concatenate([first[None], hidden[:-1]]))


def _like(bias: Array, x: Array) -> Array:
    return jnp.expand_dims(bias, range(x.ndim - 1))


def _orthogonal_gates(key: Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> Array:
    """Orthogonal kernels [H, H], one for each gate, drawn independently, side by side."""
    features, width = shape
    init: Callable = nn.initializers.orthogonal()
    keys = jax.random.split(key, width // features)
    return jnp.concatenate([init(k, (features, features), dtype) for k in keys], axis=1)


def _remembering_bias(key: Array, shape: tuple[int], dtype: Any = jnp.float32) -> Array:
    # 1 at the forget gate, so that the cell keeps sigmoid(1) = 0.73 of itself per step
    # before it has learned what to keep, and not half: Jozefowicz et al., 2015.
    quarter = shape[0] // 4
    return jnp.zeros(shape, dtype).at[quarter : 2 * quarter].set(1.0)


def _check_shapes(
    name: str, x: Array, begins: Array | None, carry: PyTree, wanted: list[tuple[int, ...]]
) -> None:
    if begins is not None and begins.shape != x.shape[:-1]:
        raise ConfigError(
            f"{name}: got begins of shape {begins.shape}, expected {x.shape[:-1]} for x of shape "
            f"{x.shape}; a single step has a time axis too: x[None], begins[None]"
        )
    shapes = [leaf.shape for leaf in jax.tree.leaves(carry)]
    if shapes != wanted:
        raise ConfigError(
            f"{name}: got a carry of shapes {shapes}, expected {wanted} for x of shape {x.shape}; "
            f"start from initial_carry({x.shape[1:-1]})"
        )
