"""Auto-reset strategies: who is reset, and at what cost.

`always` and `compact` are exact: every env that ends gets a fresh state from a key of its
own, so trajectories do not depend on which it is. `pool` takes a state made beforehand.
`choose` goes by the cost of a reset, counted in its traced program without compiling it.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp

from mazejax.envs.base import select
from mazejax.errors import ConfigError, did_you_mean
from mazejax.types import Array, PyTree

EXACT_STRATEGIES = ("always", "compact")
STRATEGIES = (*EXACT_STRATEGIES, "pool")

ResetRows = Callable[[Array | None], PyTree]
"""Fresh states [R, ...] for the env indices [R] int32, or [N, ...] of all for None."""

CarryOver = Callable[[Array | None, PyTree, PyTree], PyTree]
"""(rows, last states [N, ...], fresh states) -> fresh states with what outlives episodes."""

# Elements that a reset computes above which `compact` pays for its bookkeeping, whatever a
# step costs. Measured at 2048 envs on two cores, `compact` to `always`: resets of 26 to 64
# elements 0.7x to 0.9x, of 80 to 270 0.9x to 1.3x, of 2,800 to 15,000 (MinAtar) 1.1x to 1.3x.
_COMPACT_ABOVE = 500.0
_UNKNOWN_TRIP_COUNT = 16
_RANDOM_WORD_COST = 8


def reset_ended(
    strategy: str,
    state: PyTree,
    done: Array,
    reset_rows: ResetRows,
    carry_over: CarryOver | None = None,
) -> PyTree:
    """States [N, ...] in which the envs that are done [N] are fresh."""
    if strategy == "always":
        return reset_all_and_select(state, done, reset_rows, carry_over)
    return reset_compacted(state, done, reset_rows, carry_over)


def reset_all_and_select(
    state: PyTree, done: Array, reset_rows: ResetRows, carry_over: CarryOver | None = None
) -> PyTree:
    """Reset every env and keep the fresh state where it ended: best for cheap resets."""
    fresh = reset_rows(None)
    return select(done, carry_over(None, state, fresh) if carry_over else fresh, state)


def reset_compacted(
    state: PyTree, done: Array, reset_rows: ResetRows, carry_over: CarryOver | None = None
) -> PyTree:
    """Reset only the envs that ended, R rows at a time: best for expensive resets.

    Ended envs are ranked by a running sum, their indices gathered by one scatter, and
    reset in blocks until none is left, so any number of simultaneous ends is exact.
    """
    num_envs = done.shape[0]
    block = min(num_envs, _block_size(num_envs))
    rank = jnp.cumsum(done, dtype=jnp.int32) - 1
    count = rank[-1] + 1
    ended = jnp.full(num_envs + block, num_envs, jnp.int32)
    every = jnp.arange(num_envs, dtype=jnp.int32)
    # Envs that go on are sent out of bounds, to a place of their own each: unique, and dropped.
    place = jnp.where(done, rank, num_envs + block + every)
    ended = ended.at[place].set(every, mode="drop", unique_indices=True)

    def reset_block(carry: tuple[Array, PyTree]) -> tuple[Array, PyTree]:
        start, state = carry
        rows = jax.lax.dynamic_slice(ended, (start,), (block,))
        inside = jnp.minimum(rows, num_envs - 1)
        fresh = reset_rows(inside)
        if carry_over is not None:
            # From the loop's own states, and not those before it, which XLA would then copy.
            fresh = carry_over(inside, state, fresh)
        # Rows past the last ended env hold num_envs: out of bounds, hence dropped.
        state = jax.tree.map(lambda old, new: old.at[rows].set(new, mode="drop"), state, fresh)
        return start + block, state

    return jax.lax.while_loop(
        lambda carry: carry[0] < count, reset_block, (jnp.zeros((), jnp.int32), state)
    )[1]


def choose(reset: Callable, *args: Any) -> str:
    """`always` or `compact`, by the counted cost of a reset with these arguments."""
    return "compact" if primitive_cost(reset, *args) > _COMPACT_ABOVE else "always"


def _block_size(num_envs: int) -> int:
    # On the CPU one vector of 16 floats: larger blocks are handed to threads, which costs more
    # than the reset itself (twice the time at 24 rows). A GPU wants few and large blocks.
    return 16 if jax.default_backend() == "cpu" else max(32, num_envs // 32)


def check_strategy(strategy: str) -> None:
    """Raise ConfigError for an unknown strategy."""
    known = ("auto", *STRATEGIES)
    if strategy not in known:
        raise ConfigError(f"auto_reset: unknown {strategy!r}; {did_you_mean(strategy, known)}")


def primitive_cost(function: Callable, *args: Any) -> float:
    """Elements that the traced function computes, loops multiplied out; nothing is compiled.

    What nothing depends on is not computed.
    """
    return _cost(jax.make_jaxpr(function)(*args).jaxpr)


def _cost(jaxpr: Any) -> float:
    total, live = 0.0, set(_variables(jaxpr.outvars))
    for equation in reversed(jaxpr.eqns):
        if equation.effects or not live.isdisjoint(equation.outvars):
            total += _equation_cost(equation)
            live.update(_variables(equation.invars))
    return total


def _variables(atoms: Any) -> Iterator[Any]:
    return (atom for atom in atoms if isinstance(atom, jax.extend.core.Var))


def _equation_cost(equation: Any) -> float:
    inner = [_cost(sub) for sub in jax.extend.core.jaxprs_in_params(equation.params)]
    name = equation.primitive.name
    if name == "scan":
        return equation.params["length"] * sum(inner)
    if name == "while":
        return _UNKNOWN_TRIP_COUNT * sum(inner)
    if name == "cond":
        return max(inner)
    if inner:
        return sum(inner)
    size = sum(math.prod(getattr(out.aval, "shape", ())) for out in equation.outvars)
    return size * (_RANDOM_WORD_COST if name.startswith("random_bits") else 1)
