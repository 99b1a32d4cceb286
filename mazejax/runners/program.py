"""The compiled programs of a training run, built once per algorithm value.

A chunk is any number of updates in one call: the count is traced, so one program
serves every chunk size, a resumed run and a replay alike, and gives the same bits.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mazejax import random
from mazejax.algos import devices, events
from mazejax.algos.base import Algorithm, TrainState
from mazejax.algos.collect import Episodes
from mazejax.algos.metrics import Metrics
from mazejax.events.accumulator import Accumulator
from mazejax.types import Key, PyTree

MAX_UPDATES = 256
"""Updates that one call of a chunk can make; its metrics have a row for each."""

CACHED_PROGRAMS = 8


@dataclasses.dataclass(frozen=True)
class Program:
    """What a run calls: all compiled ahead of time."""

    chunk: Any
    """(state, count int32) -> (state, metrics [MAX_UPDATES]); the state is donated."""
    init: Any
    """(key) -> state."""
    shardings: Any = None
    """Where each leaf of the state lies; None on one device."""

    def start(self, key: Key) -> TrainState:
        """State before the first update."""
        return self.init(key)

    def place(self, state: TrainState) -> TrainState:
        """A state that was read from disk, on the devices where it belongs."""
        return state if self.shardings is None else jax.device_put(state, self.shardings)

    def run(self, state: TrainState, count: int) -> tuple[TrainState, Metrics]:
        """`count` updates, dispatched without waiting; metrics rows from `count` on are empty."""
        return self.chunk(state, np.int32(count))


@functools.lru_cache(maxsize=CACHED_PROGRAMS)
def compile_program(algorithm: Algorithm) -> Program:
    """The programs of an algorithm; an equal algorithm built anew gets the same ones."""
    key = jax.eval_shape(lambda: random.key(0))

    def start(key: Key) -> TrainState:
        return strong_types(algorithm.init(key))

    state = jax.eval_shape(start, key)
    places = None
    if algorithm.num_devices > 1:
        places = devices.shardings(algorithm, state)
        state = jax.tree.map(
            lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
            state,
            places,
        )
    init = jax.jit(start, out_shardings=places)
    chunk = jax.jit(
        functools.partial(run_updates, algorithm), donate_argnums=0, out_shardings=(places, None)
    )
    count = jax.ShapeDtypeStruct((), jnp.int32)
    return Program(chunk.lower(state, count).compile(), init.lower(key).compile(), places)


def run_updates(
    algorithm: Algorithm, state: TrainState, count: jax.Array
) -> tuple[TrainState, Metrics]:
    """`count` updates (traced, at most MAX_UPDATES), and a row of metrics for each."""
    one_row = jax.eval_shape(algorithm.update, state)[1]
    rows = jax.tree.map(lambda s: jnp.zeros((MAX_UPDATES, *s.shape), s.dtype), one_row)

    def one_update(
        loop: tuple[jax.Array, TrainState, Metrics],
    ) -> tuple[jax.Array, TrainState, Metrics]:
        done, state, rows = loop
        state, metrics = algorithm.update(state)
        rows = jax.tree.map(lambda all_rows, row: all_rows.at[done].set(row), rows, metrics)
        return done + 1, strong_types(state), rows

    begin = (jnp.zeros((), jnp.int32), state, rows)
    return jax.lax.while_loop(lambda loop: loop[0] < count, one_update, begin)[1:]


def strong_types(tree: PyTree) -> PyTree:
    """The tree without weak types, which would compile a second time after the first chunk."""

    def strong(leaf: jax.Array) -> jax.Array:
        return leaf if random.is_key(leaf) else jax.lax.convert_element_type(leaf, leaf.dtype)

    return jax.tree.map(strong, tree)


def host_rows(metrics: Metrics, count: int) -> list[dict[str, Accumulator]]:
    """The first `count` rows on the host; waits for the chunk."""
    arrays = jax.device_get(metrics)
    return [
        {name: jax.tree.map(lambda leaf, i=i: leaf[i], arrays[name]) for name in arrays}
        for i in range(count)
    ]


@functools.lru_cache(maxsize=CACHED_PROGRAMS)
def compile_evaluation(
    algorithm: Algorithm, num_episodes: int, max_steps: int, deterministic: bool
) -> Any:
    """(variables, key) -> Episodes [num_episodes] and their statistics, cached by value."""

    def evaluate(variables: PyTree, key: Key) -> Episodes:
        found = algorithm.evaluate(variables, key, num_episodes, max_steps, deterministic)
        rewards = events.of_rewards(found.ended, found.returns, found.lengths)
        return found.replace(statistics={**rewards, **(found.statistics or {})})

    return jax.jit(evaluate)
