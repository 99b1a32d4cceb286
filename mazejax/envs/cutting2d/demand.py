"""What is ordered next: the demand generators of Cutting-2D.

A generator is a hook of the core env: pure, with a state of its own that travels in the
env's state. Write another one by subclassing `DemandGenerator`.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mazejax import random
from mazejax.base import Pytree, static
from mazejax.errors import ConfigError
from mazejax.types import Array, Key, PyTree

Size = tuple[int, int]
"""Width and height."""

_MOST_COMPARED = 64
"""Orders up to which a lookup compares all of them, which fuses; more are gathered."""


class DemandGenerator(Pytree):
    """The stream of orders; `init` once an episode, `next` once before every flat step."""

    compile_time: ClassVar[bool] = True

    def init(self, key: Key) -> PyTree:
        """State at the beginning of an episode."""
        raise NotImplementedError

    def next(self, key: Key, state: PyTree) -> tuple[PyTree, Array]:
        """The state after one more order, and the order: (width, height), int [2]."""
        raise NotImplementedError

    def check(self, raw_piece_size: Size) -> None:
        """Raise ConfigError if an order may come that no raw piece can serve; optional."""


class StaticDemand(DemandGenerator):
    """The same order in every step."""

    order: Size = static(default=(1, 2))
    """Width and height."""

    def validate(self) -> None:
        """Raise ConfigError for a bad size."""
        check_size(self.order, "StaticDemand.order")

    def init(self, key: Key) -> PyTree:
        """Nothing."""
        return ()

    def next(self, key: Key, state: PyTree) -> tuple[PyTree, Array]:
        """The order, int32 [2]."""
        return (), jnp.asarray(self.order, jnp.int32)

    def check(self, raw_piece_size: Size) -> None:
        """Raise ConfigError unless the order fits into a raw piece."""
        _check_fits(self.order, raw_piece_size, "StaticDemand.order")


class CyclicDemand(DemandGenerator):
    """A list of orders, from the first to the last and again.

    The six of the default have the area of one raw piece of 4 x 3: 180 steps use up 30.
    """

    orders: tuple[Size, ...] = static(default=((1, 2), (1, 2), (1, 1), (2, 2), (1, 2), (1, 1)))
    """Width and height of each."""

    def validate(self) -> None:
        """Raise ConfigError for a list without orders or a bad size."""
        if not isinstance(self.orders, tuple) or not self.orders:
            raise ConfigError(
                f"CyclicDemand.orders: expected a tuple of at least one (width, height), "
                f"got {self.orders!r}"
            )
        for i, order in enumerate(self.orders):
            check_size(order, f"CyclicDemand.orders[{i}]")

    def init(self, key: Key) -> Array:
        """Index of the next order, as small an int as holds it, []."""
        return jnp.zeros((), np.min_scalar_type(-len(self.orders) - 1))

    def next(self, key: Key, state: Array) -> tuple[Array, Array]:
        """The order at the index, int32 [2]; the index goes round."""
        orders = jnp.asarray(self.orders, jnp.int32)
        if len(self.orders) <= _MOST_COMPARED:
            here = jnp.arange(len(orders), dtype=state.dtype) == state
            order = jnp.where(here[:, None], orders, 0).sum(axis=0)
        else:
            order = orders[state]
        following = state + 1
        return jnp.where(following == len(self.orders), 0, following), order

    def check(self, raw_piece_size: Size) -> None:
        """Raise ConfigError unless every order fits into a raw piece."""
        for i, order in enumerate(self.orders):
            _check_fits(order, raw_piece_size, f"CyclicDemand.orders[{i}]")


class RandomDemand(DemandGenerator):
    """Orders of independent random sizes: width and height uniform between two bounds."""

    smallest: Size = static(default=(1, 1))
    """Least width and height."""
    largest: Size = static(default=(2, 2))
    """Greatest width and height; they belong to what may be drawn."""
    rotate: bool = static(default=True)
    """Whether width and height change places in half of the orders."""

    def validate(self) -> None:
        """Raise ConfigError for bad sizes, or bounds in the wrong order."""
        check_size(self.smallest, "RandomDemand.smallest")
        check_size(self.largest, "RandomDemand.largest")
        if self.smallest[0] > self.largest[0] or self.smallest[1] > self.largest[1]:
            raise ConfigError(
                f"RandomDemand.smallest: got {self.smallest}, expected at most "
                f"{self.largest}, the largest"
            )

    def init(self, key: Key) -> PyTree:
        """Nothing."""
        return ()

    def next(self, key: Key, state: PyTree) -> tuple[PyTree, Array]:
        """A fresh order, int32 [2]."""
        key_width, key_height, key_turn = jax.random.split(key, 3)
        width, height = (
            low + random.randint(side_key, (), high - low + 1)
            for side_key, low, high in zip(
                (key_width, key_height), self.smallest, self.largest, strict=True
            )
        )
        return (), _turned(key_turn, jnp.stack([width, height]), self.rotate)

    def check(self, raw_piece_size: Size) -> None:
        """Raise ConfigError unless the largest order fits into a raw piece."""
        _check_fits(self.largest, raw_piece_size, "RandomDemand.largest")


class PeriodState(Pytree):
    """Where a `MixedPeriodicDemand` is in its period."""

    pieces: Array
    """What is not ordered yet of each raw piece, (0, 0) where nothing is, int [R, 2]."""
    orders_left: Array
    """Orders until the period is over, int32 []."""


class MixedPeriodicDemand(DemandGenerator):
    """Orders that fill raw pieces without waste: a perfect solution is known.

    In every period of `num_orders` the generator cuts `num_raw_pieces` of its own into
    strips, each from a piece and along a side chosen at random, until nothing is left. Who
    cuts the same strips from the same pieces uses `num_raw_pieces` a period and keeps no
    residual, and by the area nobody can use fewer. Other periods have other orders.
    """

    raw_piece_size: Size = static()
    """The core env's."""
    num_raw_pieces: int = static(default=3)
    """Raw pieces that a period uses up, R."""
    num_orders: int = static(default=10)
    """Orders of a period."""
    rotate: bool = static(default=True)
    """Whether width and height change places in half of the orders."""

    def validate(self) -> None:
        """Raise ConfigError for bad numbers, or more orders than can be cut in strips."""
        check_size(self.raw_piece_size, "MixedPeriodicDemand.raw_piece_size")
        for name in ("num_raw_pieces", "num_orders"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise ConfigError(
                    f"MixedPeriodicDemand.{name}: must be a positive integer, "
                    f"got {getattr(self, name)!r}"
                )
        most = self.num_raw_pieces * (sum(self.raw_piece_size) - 1)
        if not self.num_raw_pieces <= self.num_orders <= most:
            raise ConfigError(
                f"MixedPeriodicDemand.num_orders: got {self.num_orders}, expected from "
                f"{self.num_raw_pieces} to {most} for {self.num_raw_pieces} raw pieces"
            )

    def init(self, key: Key) -> PeriodState:
        """A period that is over."""
        dtype = np.min_scalar_type(-1 - max(self.raw_piece_size))
        pieces = jnp.zeros((self.num_raw_pieces, 2), dtype)
        return PeriodState(pieces, jnp.zeros((), jnp.int32))

    def next(self, key: Key, state: PeriodState) -> tuple[PeriodState, Array]:
        """A strip of one of the pieces, or all of it, int32 [2]; every choice equally likely."""
        key_strip, key_turn = jax.random.split(key)
        is_new = state.orders_left == 0
        raw = jnp.broadcast_to(
            jnp.asarray(self.raw_piece_size, jnp.int32), (self.num_raw_pieces, 2)
        )
        pieces = jnp.where(is_new, raw, state.pieces.astype(jnp.int32))
        orders_left = jnp.where(is_new, self.num_orders, state.orders_left)

        strips, choices = _strips(pieces, orders_left)
        ends = jnp.cumsum(choices.ravel())
        # The bias is below the number of choices / 2^30.
        drawn = random.randint(key_strip, (), 2**30) % ends[-1]
        chosen = (jnp.argmax(ends > drawn) == jnp.arange(ends.size)).reshape(choices.shape)
        step = drawn - (ends.reshape(choices.shape) - choices)  # [R, 2], counted where chosen
        thickness = jnp.where(step < strips, step + 1, pieces)
        left = pieces - jnp.where(chosen, thickness, 0)
        cut = jnp.where(chosen, thickness, pieces)
        order = jnp.where(chosen.any(axis=1, keepdims=True), cut, 0).sum(axis=0)
        left = jnp.where((left > 0).all(axis=1, keepdims=True), left, 0)
        after = PeriodState(left.astype(state.pieces.dtype), orders_left - 1)
        return after, _turned(key_turn, order, self.rotate)

    def check(self, raw_piece_size: Size) -> None:
        """Raise ConfigError unless the raw pieces are those of the env."""
        if tuple(raw_piece_size) != tuple(self.raw_piece_size):
            raise ConfigError(
                f"MixedPeriodicDemand.raw_piece_size: got {self.raw_piece_size}, expected "
                f"{raw_piece_size}, the core env's"
            )


def check_size(size: Any, where: str) -> None:
    """Raise ConfigError unless it is a pair of integers from 1 to 32767."""
    good = isinstance(size, tuple) and len(size) == 2
    # Areas are computed in int32.
    if not good or not all(type(side) is int and 1 <= side <= 32767 for side in size):
        raise ConfigError(
            f"{where}: expected (width, height), two integers from 1 to 32767, got {size!r}"
        )


def _check_fits(order: Size, raw_piece_size: Size, where: str) -> None:
    small, large = sorted(order), sorted(raw_piece_size)
    if small[0] > large[0] or small[1] > large[1]:
        raise ConfigError(
            f"{where}: got {order}, which fits into a raw piece of {raw_piece_size} in no "
            f"direction; order less, or make raw_piece_size larger"
        )


def _turned(key: Key, order: Array, rotate: bool) -> Array:
    if not rotate:
        return order
    return jnp.where(random.randint(key, (), 2) == 1, order[::-1], order)


def _strips(pieces: Array, orders_left: Array) -> tuple[Array, Array]:
    """By piece and side [R, 2]: strips 1, 2, ... thick that may be cut, and these with the whole.

    A piece of w x h gives from 1 to w + h - 1 orders. A choice is allowed if the orders that
    are left after it lie between the least and the most that the pieces still give.
    """
    is_open = (pieces > 0).all(axis=1)
    most = jnp.where(is_open, pieces.sum(axis=1) - 1, 0)
    spare = most.sum() - orders_left
    thickest = jnp.minimum(pieces - 1, spare + 1)
    can_split = is_open & (is_open.sum() < orders_left)
    strips = jnp.where(can_split[:, None], thickest, 0)
    can_close = is_open & (most <= spare + 1)
    return strips, strips + can_close[:, None]
