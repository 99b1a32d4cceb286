"""Statistics of observations: estimated by playing, stored in files and read from them.

`estimate` plays the env inside `ObservationNormalization` and gives back the same stack
with statistics. They are then constants: training, evaluation and deployment all see the
same numbers. What is made of them is the matter of `mazejax.wrappers.normalization`.
"""

import io
import itertools
import os
import zipfile
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mazejax import files, random
from mazejax.base import is_concrete, jit
from mazejax.envs.base import Env
from mazejax.envs.episode import Policy, random_policy
from mazejax.envs.vector import VectorEnv, VectorState
from mazejax.errors import ConfigError, EnvError, FileError, did_you_mean
from mazejax.events.accumulator import Accumulator
from mazejax.types import Array, Key, PyTree
from mazejax.wrappers.base import Wrapper, find
from mazejax.wrappers.normalization import ObservationNormalization
from mazejax.wrappers.normalization_strategies import NormalizationStrategy, Statistics, Summary
from mazejax.wrappers.observations import named

MAX_FILE_BYTES = 256 * 2**20
"""Largest file of statistics that is read."""

# What NumPy and zipfile raise for bytes that are no archive of arrays.
_DAMAGE = (ValueError, OSError, EOFError, KeyError, RuntimeError, MemoryError,
           zipfile.BadZipFile, zlib.error)  # fmt: skip

_Summaries = dict[str, dict[str, Accumulator]]
"""By step key and name of the observation, one for each of its numbers: [*shape]."""


def estimate(
    env: Env,
    key: Key,
    num_samples: int | None = None,
    policy: Policy | None = None,
    num_envs: int = 16,
) -> Env:
    """The env with the statistics that its `ObservationNormalization` needs, estimated.

    `num_envs` copies are played side by side, `num_samples` flat steps in all (None takes the
    wrapper's own number), by a policy that sees observations as they are before they are
    normalized and acts in the env inside the wrapper; by default every allowed action is equally
    likely. All observations that an active actor answers count, so that none is of the end of an
    episode. The numbers follow from the arguments alone. Several such wrappers are estimated from
    the inside out.
    """
    find(env, ObservationNormalization)
    for name, size in (("num_samples", num_samples), ("num_envs", num_envs)):
        missing = size is None and name == "num_samples"
        if not missing and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise ConfigError(f"{name}: must be a positive integer, got {size!r}")

    def with_statistics(wrapper: ObservationNormalization) -> ObservationNormalization:
        if not wrapper.estimated:
            return wrapper
        bare, number = wrapper.replace(statistics=None), num_samples or wrapper.num_samples
        found = _estimated(bare, key, number, policy, min(num_envs, number))
        if is_concrete(found):
            # Of NumPy: what compiled programs are keyed by is read at every call.
            found = jax.device_get(found)
            _check_finite(wrapper, found)
        return wrapper.replace(statistics=found)

    return _rebuilt(env, with_statistics)


def is_missing(env: Env) -> bool:
    """Whether a wrapper of the env has to be given statistics before it can be observed."""
    return any(
        wrapper.estimated.keys() - (wrapper.statistics or {}) for wrapper in normalizers(env)
    )


def save_statistics(path: str | os.PathLike, env: Env) -> None:
    """Write the statistics that were estimated for an env as `.npz`; its numbers, no code."""
    find(env, ObservationNormalization)
    if is_missing(env):
        raise EnvError(f"{env}: has no statistics to save yet; call estimate(env, key) first")
    arrays = {
        _entry_name(i, name, statistic): np.asarray(number)
        for i, wrapper in enumerate(normalizers(env))
        for name, statistics in (wrapper.statistics or {}).items()
        for statistic, number in statistics.items()
    }
    files.write_npz(path, arrays)


def load_statistics(path: str | os.PathLike, env: Env) -> Env:
    """The env with the statistics of a file; FileError that names what does not fit the env."""
    find(env, ObservationNormalization)
    stored = _read(path)
    wanted = {
        _entry_name(i, name, statistic): _statistics_shape(wrapper, name)
        for i, wrapper in enumerate(normalizers(env))
        for name, strategy in wrapper.estimated.items()
        for statistic in strategy.names
    }
    for name in sorted(stored.keys() - wanted):
        raise FileError(
            f"{path}: holds {name!r}, which {env} has not; {did_you_mean(name, wanted)}"
        )
    for name, shape in wanted.items():
        if name not in stored:
            raise FileError(f"{path}: holds no {name!r}, which {env} needs; estimate it again")
        if stored[name].shape != shape:
            raise FileError(
                f"{path}: {name!r} has shape {stored[name].shape}, {env} needs {shape}; estimate "
                f"it again"
            )
    position = itertools.count()

    def with_statistics(wrapper: ObservationNormalization) -> ObservationNormalization:
        i = next(position)
        statistics = {
            name: {s: stored[_entry_name(i, name, s)] for s in strategy.names}
            for name, strategy in wrapper.estimated.items()
        }
        return wrapper.replace(statistics=statistics or None)

    return _rebuilt(env, with_statistics)


def normalizers(env: Env) -> list[ObservationNormalization]:
    """The wrappers of an env that normalize observations, from the inside out."""
    found = []
    while isinstance(env, Wrapper):
        if isinstance(env, ObservationNormalization):
            found.append(env)
        env = env.env
    return found[::-1]


def _rebuilt(env: Env, change: Callable) -> Any:
    """The stack with `change` of every wrapper that normalizes, made from the inside out."""
    if not isinstance(env, Wrapper):
        return env
    inside = _rebuilt(env.env, change)
    if inside is not env.env:
        env = env.replace(env=inside)
    return change(env) if isinstance(env, ObservationNormalization) else env


# --- sampling ---------------------------------------------------------------------------


class _Playing(NamedTuple):
    state: VectorState
    obs: PyTree
    summaries: _Summaries


def _sample(
    wrapper: ObservationNormalization,
    key: Key,
    num_samples: int,
    policy: Policy | None,
    num_envs: int,
) -> dict[str, Statistics]:
    """The statistics that the wrapper needs, by name of the observation."""
    envs = VectorEnv(wrapper.env, num_envs)
    act = random_policy(wrapper.env) if policy is None else policy

    def one_flat_step(now: _Playing, t: Array) -> tuple[_Playing, None]:
        counts = t * num_envs + jnp.arange(num_envs, dtype=jnp.int32) < num_samples
        state, obs, summaries = now
        for actor in envs.actors:
            active = envs.actor_active(state)
            where = active & counts.reshape(-1, *(1,) * (active.ndim - 1))
            summary = _add(summaries[actor.step_key], named(obs), where)
            summaries = {**summaries, actor.step_key: summary}
            maze_states = jax.vmap(wrapper.env.maze_state)(state.envs)
            keys = envs.keys(state, "policy")
            action = jax.vmap(act, (0, 0, 0, None))(keys, obs, maze_states, actor)
            step = envs.step(state, action)
            state, obs = step.state, step.obs
        return _Playing(state, obs, summaries), None

    obs, state = envs.reset(random.stream(random.as_key(key), "observation_statistics"))
    start = _Playing(state, obs, _empty(wrapper))
    steps = jnp.arange(-(-num_samples // num_envs), dtype=jnp.int32)
    end = jax.lax.scan(one_flat_step, start, steps)[0]
    return {
        name: strategy.estimate(_joined(strategy, name, end.summaries))
        for name, strategy in wrapper.estimated.items()
    }


_estimated = jit(_sample, static_argnames=("num_samples", "policy", "num_envs"))


def _empty(wrapper: ObservationNormalization) -> _Summaries:
    return {
        step_key: {
            name: Accumulator.empty(part.shape)
            for name, part in named(space).items()
            if name in wrapper.boxes(step_key) and name in wrapper.estimated
        }
        for step_key, space in wrapper.env.observation_spaces.items()
    }


def _add(
    summaries: dict[str, Accumulator], obs: dict[str, Array], where: Array
) -> dict[str, Accumulator]:
    """With observations [N, ...] or [N, A, ...] counted in where the mask [N] or [N, A] is."""

    def add(summary: Accumulator, values: Array) -> Accumulator:
        samples = values.reshape(-1, *summary.mean.shape)
        mask = where.reshape(-1, *(1,) * summary.mean.ndim)
        return summary.merge(Accumulator.of(samples, jnp.broadcast_to(mask, samples.shape), 0))

    return {name: add(summary, obs[name]) for name, summary in summaries.items()}


def _joined(strategy: NormalizationStrategy, name: str, summaries: _Summaries) -> Summary:
    """What is known of an observation over the axes of its strategy, from all step keys."""
    parts = [part for by_name in summaries.values() for n, part in by_name.items() if n == name]
    shared = [_shared_axes(strategy, part.mean.shape) for part in parts]

    def total(values: list[Array], reduce: Any = jnp.sum) -> Array:
        rows = [reduce(v, axes, keepdims=True) for v, axes in zip(values, shared, strict=True)]
        if strategy.axis is None:
            rows = [row.reshape(()) for row in rows]
        return reduce(jnp.stack(rows), 0)

    def like(number: Array, part: Accumulator) -> Array:
        return number.reshape(number.shape or (1,) * part.mean.ndim)

    # As floats: all numbers of many images are more than an int32 counts.
    weights = [part.count.astype(jnp.float32) for part in parts]
    count = jnp.maximum(total(weights), 1.0)
    shares = [weight / like(count, part) for weight, part in zip(weights, parts, strict=True)]
    weighted = list(zip(shares, parts, strict=True))
    mean = total([share * part.mean for share, part in weighted])
    within = total([part.m2 / like(count, part) for part in parts])
    between = total([share * jnp.square(part.mean - like(mean, part)) for share, part in weighted])
    lowest = total([part.min for part in parts], jnp.min)
    highest = total([part.max for part in parts], jnp.max)
    # Rounding must not make a spread of what is always the same.
    std = jnp.where(lowest < highest, jnp.sqrt(within + between), 0.0)
    is_seen = lowest <= highest
    return Summary(mean, std, jnp.where(is_seen, lowest, 0.0), jnp.where(is_seen, highest, 0.0))


def _shared_axes(strategy: NormalizationStrategy, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Axes of an observation [*shape] that share statistics."""
    kept = strategy.statistics_shape(shape)
    if not kept:
        return tuple(range(len(shape)))
    return tuple(i for i, size in enumerate(kept) if size == 1)


def _statistics_shape(wrapper: ObservationNormalization, name: str) -> tuple[int, ...]:
    return wrapper.estimated[name].statistics_shape(wrapper.boxes()[name][0].shape)


def _check_finite(wrapper: ObservationNormalization, statistics: dict[str, Statistics]) -> None:
    for name, numbers in statistics.items():
        for statistic, number in numbers.items():
            if not np.isfinite(number).all():
                raise EnvError(
                    f"{wrapper.env}: the {statistic} of the observation {name!r} is not finite; "
                    f"find the nan or inf in it, or exclude it"
                )


# --- files ------------------------------------------------------------------------------


def _entry_name(i: int, name: str, statistic: str) -> str:
    """Name in a file: of the observation and the statistic; of further wrappers with a number."""
    return f"{name}/{statistic}" if i == 0 else f"{i}:{name}/{statistic}"


def _read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    data = files.read_bytes(path, MAX_FILE_BYTES, "observation_statistics.MAX_FILE_BYTES")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_FILE_BYTES:
                raise ValueError("it unpacks to more than observation_statistics.MAX_FILE_BYTES")
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except _DAMAGE as error:
        raise FileError(f"{path}: holds no statistics of observations ({error})") from None
    for name, array in arrays.items():
        if array.dtype != np.float32 or not np.isfinite(array).all():
            raise FileError(f"{path}: {name} is damaged, expected finite float32 numbers")
    return arrays
