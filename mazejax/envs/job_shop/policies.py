"""Baselines: priority dispatching rules, and a dispatch order that is given.

The rules are deterministic; of several jobs that are equal the first is dispatched.
They read the exact state, so they work with every observation conversion.
"""

from typing import ClassVar, Literal

import jax.numpy as jnp

from mazejax.base import Pytree, static
from mazejax.envs.job_shop.core import JobShopState, NextOperations, next_operations
from mazejax.errors import ConfigError, did_you_mean
from mazejax.types import ActorID, Array, Key, PyTree

_RULES = ("spt", "mwkr", "fifo")
_CANDIDATES = ("all", "active", "non_delay")


class DispatchingRule(Pytree):
    """Dispatches, of the candidates, the job that a priority rule puts first.

        spt         shortest next operation
        mwkr        most work remaining
        fifo        longest in the queue of its machine: the job that was ready first

    Candidates are all jobs with operations left, or those of one machine: of the machine
    that could finish an operation first, those that can start before (`active`, the
    schedules of Giffler and Thompson, 1960), or of the machine that could start one first,
    those that can start then (`non_delay`, which is what simulating the rules in a
    shop does: a machine never waits while a job waits for it).
    """

    compile_time: ClassVar[bool] = True

    rule: Literal["spt", "mwkr", "fifo"] = static(default="mwkr")
    candidates: Literal["all", "active", "non_delay"] = static(default="non_delay")

    def validate(self) -> None:
        """Raise ConfigError for unknown names."""
        for name, known in (("rule", _RULES), ("candidates", _CANDIDATES)):
            value = getattr(self, name)
            if value not in known:
                raise ConfigError(
                    f"DispatchingRule.{name}: unknown {value!r}; {did_you_mean(str(value), known)}"
                )

    def __call__(self, key: Key, obs: PyTree, maze_state: JobShopState, actor: ActorID) -> Array:
        """The job, int32 []."""
        operations = next_operations(maze_state)
        candidates = _candidates(self.candidates, operations)
        priority = _priority(self.rule, maze_state, operations).astype(jnp.int32)
        last = jnp.iinfo(jnp.int32).max
        return jnp.argmin(jnp.where(candidates, priority, last)).astype(jnp.int32)


class DispatchOrder(Pytree):
    """Dispatches jobs in a given order, such as one of `OPTIMAL_ORDERS`."""

    compile_time: ClassVar[bool] = True

    order: tuple[int, ...] = static()
    """[J M]: the job of each step."""

    def __call__(self, key: Key, obs: PyTree, maze_state: JobShopState, actor: ActorID) -> Array:
        """The job whose turn it is, by the number of operations dispatched so far; int32 []."""
        dispatched = maze_state.next_operation.sum(dtype=jnp.int32)
        return jnp.asarray(self.order, jnp.int32)[jnp.minimum(dispatched, len(self.order) - 1)]


def _priority(rule: str, state: JobShopState, operations: NextOperations) -> Array:
    """What the rule minimizes, [J]."""
    if rule == "spt":
        return operations.duration
    if rule == "fifo":
        return state.job_ready
    return -jnp.where(state.starts < 0, state.durations, 0).sum(axis=1)


def _candidates(kind: str, operations: NextOperations) -> Array:
    """Jobs that the rule may choose, [J] bool."""
    if kind == "all":
        return operations.is_open
    start = operations.earliest_start.astype(jnp.int32)
    end = start + operations.duration
    first = jnp.where(
        operations.is_open, end if kind == "active" else start, jnp.iinfo(jnp.int32).max
    )
    is_first = jnp.arange(first.shape[0]) == jnp.argmin(first)
    machine = jnp.sum(jnp.where(is_first, operations.machine, 0), dtype=jnp.int8)
    in_time = start < first.min() if kind == "active" else start == first.min()
    return operations.is_open & (operations.machine == machine) & in_time
