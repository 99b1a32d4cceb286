"""Many trainings as one compiled program: a lane for each algorithm and seed.

Algorithms of one structure differ in numbers only, which become traced arguments under
`vmap`; what they have in common stays constant and is folded. Lanes run in chunks that
fit the memory, spread over devices by `shard_map`, so that no lane waits for another
device's.
"""

import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
from jax.interpreters import partial_eval
from jax.sharding import Mesh, PartitionSpec

from mazejax import random
from mazejax.algos.base import Algorithm
from mazejax.types import Array, PyTree

FREE_SHARE = 0.5
"""Of the free memory, the most that lanes are planned to take: predictions were 0.8 to 1.8
times what XLA then took for PPO, A2C and ES of several sizes."""

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


class Lane(NamedTuple):
    """What is kept of a training."""

    episodes: Array
    """Episodes that ended in each update, [num_updates] int32."""
    train_return: Array
    """Mean of their returns, [num_updates] float32; 0 where none ended."""
    eval_return: Array
    """Returns of the evaluation's episodes after the last update, [E] float32."""
    eval_ended: Array
    """Which of them ended within the allowed steps, [E] bool."""
    finite: Array
    """Whether all learned variables are finite, bool."""


@dataclasses.dataclass(frozen=True)
class LaneProgram:
    """Compiled lanes and what they start from."""

    compiled: Any
    """(numbers, key words), [chunk, ...] each -> Lane [chunk, ...]."""
    starts: PyTree
    """(numbers, key words) of all lanes, [lanes, ...] each; algorithm by algorithm."""
    num_lanes: int
    lanes_per_chunk: int
    bytes_per_lane: int
    """Predicted peak."""

    def __str__(self) -> str:
        """What will run, in one line."""
        num_chunks = math.ceil(self.num_lanes / self.lanes_per_chunk)
        size = f"{self.bytes_per_lane / 2**20:,.3g} MiB each"
        if num_chunks == 1:
            return f"{self.num_lanes} runs at once, {size}"
        return f"{self.num_lanes} runs in {num_chunks} chunks of {self.lanes_per_chunk}, {size}"

    def run(self) -> Iterator[Lane]:
        """Results on the host, chunk by chunk, [lanes of the chunk, ...]."""
        size = self.lanes_per_chunk
        for begin in range(0, self.num_lanes, size):
            # The last chunk repeats its last lane, so that one program serves all chunks.
            rows = np.minimum(np.arange(begin, begin + size), self.num_lanes - 1)
            lanes = jax.device_get(
                self.compiled(*jax.tree.map(lambda x, r=rows: x[r], self.starts))
            )
            left = min(size, self.num_lanes - begin)
            yield jax.tree.map(lambda x, n=left: x[:n], lanes)


def compile_lanes(
    algorithms: Sequence[Algorithm],
    seeds: Sequence[int],
    num_episodes: int,
    max_steps: int,
    devices: Sequence[jax.Device],
    memory: float,
) -> LaneProgram:
    """The program for algorithms of one structure, each with each of the seeds.

    A lane is what `algorithm.train(random.key(seed))` is, and the evaluation of its last
    variables. The draws are the same; rounding is not, even between chunks of other sizes,
    and after some hundred gradient steps the trajectories part. `memory` is what all lanes
    of a chunk may take, in bytes.
    """
    # Nobody reads them here.
    varying, rebuild = _split([algorithm.replace(statistics="none") for algorithm in algorithms])

    def one_lane(numbers: list[Array], words: Array) -> Lane:
        algorithm, key = rebuild(numbers), random.wrap_words(words)
        state, metrics = algorithm.train(key)
        episodes = algorithm.evaluate(state.variables, key, num_episodes, max_steps)
        returns = metrics["train/episode_return"]
        finite = _all_finite(state.variables)
        return Lane(returns.count, returns.mean, episodes.returns, episodes.ended, finite)

    words = np.stack([jax.random.key_data(random.key(seed)) for seed in seeds])
    numbers = [np.repeat(column, len(seeds), axis=0) for column in varying]
    starts = (numbers, np.tile(words, (len(algorithms), 1)))
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), starts)
    bytes_per_lane = peak_bytes(_without_dead_code(jax.make_jaxpr(one_lane)(*one).jaxpr))
    num_lanes = len(algorithms) * len(seeds)
    devices = devices[:num_lanes]
    size = chunk_size(num_lanes, bytes_per_lane, memory, len(devices))
    chunk = jax.tree.map(lambda x: jax.ShapeDtypeStruct((size, *x.shape), x.dtype), one)
    program = _spread(one_lane, devices).lower(*chunk).compile()
    return LaneProgram(program, starts, num_lanes, size, bytes_per_lane)


def group(algorithms: Iterable[Algorithm]) -> list[list[int]]:
    """Indices of the algorithms that one program can run: those of equal structure."""
    groups: dict[Any, list[int]] = {}
    for index, algorithm in enumerate(algorithms):
        leaves, structure = jax.tree.flatten(algorithm)
        groups.setdefault((structure, *map(np.shape, leaves)), []).append(index)
    return list(groups.values())


def chunk_size(num_lanes: int, bytes_per_lane: int, memory: float, num_devices: int) -> int:
    """Lanes of one chunk: equal chunks, as few as fit, a multiple of the devices.

    One lane on each device is the least, whatever the memory.
    """
    on_each = max(1, int(memory // max(bytes_per_lane, 1)) // num_devices)
    num_chunks = math.ceil(num_lanes / (on_each * num_devices))
    return math.ceil(num_lanes / (num_chunks * num_devices)) * num_devices


def peak_bytes(jaxpr: Any) -> int:
    """Most bytes alive at once of what a traced program makes, its arguments not counted.

    Every value counts from the equation that makes it to the last that reads it; loops
    count once. Nothing is compiled. XLA fuses some values away and copies others.
    """
    last_read = {v: i for i, equation in enumerate(jaxpr.eqns) for v in _variables(equation.invars)}
    last_read |= dict.fromkeys(_variables(jaxpr.outvars), len(jaxpr.eqns))
    alive: dict[Any, int] = {}
    peak = 0
    for i, equation in enumerate(jaxpr.eqns):
        alive |= {v: _bytes(v) for v in equation.outvars if v in last_read}
        within = map(peak_bytes, jax.extend.core.jaxprs_in_params(equation.params))
        peak = max(peak, sum(alive.values()) + max(within, default=0))
        for v in _variables(equation.invars):
            if last_read[v] == i:
                alive.pop(v, None)
    return peak


def _without_dead_code(jaxpr: Any) -> Any:
    return partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[0]


def free_memory(devices: Sequence[jax.Device]) -> float:
    """Bytes that lanes may take on these devices together, a share of what is free now.

    A power of two, so that a sweep that is repeated is chunked as before.
    """
    stats = [device.memory_stats() for device in devices]
    if devices[0].platform == "cpu" or not all(stats):
        free = _free_host_memory()
    else:
        free = len(devices) * min(s["bytes_limit"] - s["bytes_in_use"] for s in stats)
    return 2.0 ** math.floor(math.log2(max(FREE_SHARE * free, 1.0)))


def _split(algorithms: Sequence[Algorithm]) -> tuple[list[np.ndarray], Callable]:
    """The leaves in which algorithms differ, [algorithms, ...] each, and the way back."""
    structure = jax.tree.structure(algorithms[0])
    columns = list(zip(*map(jax.tree.leaves, algorithms), strict=True))
    varies = [not all(x is c[0] or np.array_equal(x, c[0]) for x in c) for c in columns]

    def rebuild(numbers: list[Array]) -> Algorithm:
        given = iter(numbers)
        pairs = zip(columns, varies, strict=True)
        algorithm: Algorithm = structure.unflatten(
            [next(given) if traced else column[0] for column, traced in pairs]
        )
        return algorithm

    numbers = [
        np.stack(column).astype(jnp.result_type(*column))
        for column, traced in zip(columns, varies, strict=True)
        if traced
    ]
    return numbers, rebuild


def _spread(one_lane: Callable, devices: Sequence[jax.Device]) -> Any:
    """The function over lanes, [chunk, ...], the same number of them on each device."""
    # Not by sharded arguments: loops that wait for all lanes would then ask all devices.
    spec = PartitionSpec("lanes")
    return jax.jit(
        jax.shard_map(
            jax.vmap(one_lane),
            mesh=Mesh(np.array(devices), ("lanes",)),
            in_specs=spec,
            out_specs=spec,
            check_vma=False,
        )
    )


def _all_finite(variables: PyTree) -> Array:
    leaves = [x for x in jax.tree.leaves(variables) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.stack([jnp.ones((), bool), *(jnp.isfinite(x).all() for x in leaves)]).all()


def _variables(atoms: Iterable[Any]) -> list[Any]:
    return [atom for atom in atoms if isinstance(atom, jax.extend.core.Var)]


def _bytes(variable: Any) -> int:
    shape, dtype = getattr(variable.aval, "shape", ()), getattr(variable.aval, "dtype", None)
    return math.prod(shape) * dtype.itemsize if dtype is not None else 0


def _free_host_memory() -> float:
    """Bytes that the system and the process's control group leave, as far as they tell."""
    try:
        fields = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        free = 1024.0 * int(fields["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):  # no Linux
        return 0.5 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit, used = (
            float((_CGROUP / f"memory.{name}").read_text()) for name in ("max", "current")
        )
    except (OSError, ValueError):  # no limit: there is no such file, or it says "max"
        return free
    return min(free, limit - used)
