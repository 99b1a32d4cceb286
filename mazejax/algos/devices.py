"""Learners spread over devices: envs are divided, weights are on all of them.

Every device collects from its own envs, which draw as they would on one device, and
shuffles its own rows; gradients are averaged once a minibatch and metrics once an update.
Nothing of the size of a rollout ever travels.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mazejax.algos.metrics import Metrics
from mazejax.errors import ConfigError
from mazejax.events.accumulator import Accumulator
from mazejax.events.epoch import EventSummary
from mazejax.events.summary import last_row
from mazejax.types import Array, PyTree

if TYPE_CHECKING:
    from mazejax.algos.base import Algorithm, TrainState

AXIS = "devices"
"""Name of the mesh axis over which an algorithm with `num_devices` spreads its envs."""


def make_mesh(num_devices: int) -> Mesh:
    """The first devices of all processes in a row; ConfigError if there are not so many."""
    devices = jax.devices()
    if num_devices > len(devices):
        raise ConfigError(
            f"num_devices: got {num_devices}, but there are {len(devices)} "
            f"({devices[0].platform}); choose fewer"
        )
    return Mesh(np.array(devices[:num_devices]), (AXIS,))


def update(algorithm: "Algorithm", state: "TrainState") -> tuple["TrainState", Metrics]:
    """One update in which every device does its share."""
    specs = state_specs(state)
    spread = jax.shard_map(
        algorithm.on_one_device().update,
        mesh=make_mesh(algorithm.num_devices),
        in_specs=(specs,),
        out_specs=(specs, PartitionSpec()),
        check_vma=False,
    )
    return spread(state)


def shardings(algorithm: "Algorithm", state: "TrainState") -> Any:
    """Where each leaf of a train state lies: a tree of shardings."""
    mesh = make_mesh(algorithm.num_devices)
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), state_specs(state))


def state_specs(state: "TrainState") -> Any:
    """For each leaf of a train state whether it is divided by envs or the same everywhere."""

    def everywhere(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda _: PartitionSpec(), tree)

    def by_env(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda _: PartitionSpec(AXIS), tree)

    specs = everywhere(state)
    if state.collect is not None:
        envs = state.collect.envs
        collect = by_env(state.collect)
        alike = collect.envs.replace(root=everywhere(envs.root), pool=everywhere(envs.pool))
        specs = specs.replace(collect=collect.replace(envs=alike))
    if state.rewards is not None:
        rewards = specs.rewards.replace(returns=by_env(state.rewards.returns))
        specs = specs.replace(rewards=rewards)
    return specs


def merge_metrics(metrics: Metrics, axis_name: str) -> Metrics:
    """The metrics of all devices together, on each of them, in few small messages."""
    moments = {n: m.moments if isinstance(m, EventSummary) else m for n, m in metrics.items()}
    shapes = [own.count.shape for own in moments.values()]
    joined = jax.tree.map(lambda *parts: _joined(parts), *moments.values())
    parts = jax.tree.map(lambda whole: _split(whole, shapes), _merged(joined, axis_name))
    merged: Metrics = {
        name: jax.tree.map(lambda own, i=i: own[i], parts, is_leaf=lambda x: isinstance(x, list))
        for i, name in enumerate(moments)
    }
    summaries = {n: m for n, m in metrics.items() if isinstance(m, EventSummary)}
    sums = _added({n: (m.total, m.histogram) for n, m in summaries.items()}, axis_name)
    last = {n: (m.last, m.moments.count > 0) for n, m in summaries.items() if m.last is not None}
    last = jax.lax.all_gather(last, axis_name)
    for name, own in summaries.items():
        total, histogram = sums[name]
        merged[name] = own.replace(
            moments=merged[name],
            total=total,
            histogram=histogram,
            last=last_row(*last[name]) if name in last else None,
        )
    return merged


def _added(counts: PyTree, axis_name: str) -> PyTree:
    """Sums of int32 arrays over all devices, in one message."""
    leaves, structure = jax.tree.flatten(counts)
    if not leaves:
        return counts
    total = jax.lax.psum(_joined(leaves), axis_name)
    return structure.unflatten(_split(total, [leaf.shape for leaf in leaves]))


def _joined(parts: Sequence[Array]) -> Array:
    return jnp.concatenate([part.reshape(-1) for part in parts])


def _split(whole: Array, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """The parts of these shapes that were joined."""
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    parts = jnp.split(whole, ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _merged(parts: Accumulator, axis_name: str) -> Accumulator:
    """Chan's rule for any number of streams at once."""
    count = jax.lax.psum(parts.count, axis_name)
    share = parts.count / jnp.maximum(count, 1)
    mean = jax.lax.psum(parts.center * share, axis_name)
    spread = parts.m2 + parts.count * jnp.square(parts.center - mean)
    return Accumulator(
        count=count,
        center=mean,
        m2=jax.lax.psum(jnp.where(parts.count > 0, spread, 0.0), axis_name),
        min=jax.lax.pmin(parts.min, axis_name),
        max=jax.lax.pmax(parts.max, axis_name),
    )
