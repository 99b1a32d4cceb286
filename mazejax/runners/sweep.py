"""`sweep`: hyper-parameters times seeds, trained side by side and compared honestly.

    result = mazejax.sweep("ppo", {"learning_rate": [1e-3, 3e-3]}, env="CartPole-v1")
    print(result); result.plot(); result.best_algorithm

All runs of one structure are lanes of one compiled program: `grid` makes the algorithms,
`lanes` the programs, `statistics` the intervals. Runs that are to be kept are those of `train`.
"""

import csv
import dataclasses
import functools
import io
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from mazejax import files
from mazejax.algos.base import Algorithm
from mazejax.envs.base import Env
from mazejax.errors import ConfigError
from mazejax.runners import lanes, run_statistics
from mazejax.runners.config import config_fields
from mazejax.runners.grid import Configuration, Grid, expand, format_value
from mazejax.runners.lanes import Lane
from mazejax.runners.progress import choose_progress
from mazejax.runners.run_context import RunContext
from mazejax.runners.settings import RunSettings
from mazejax.runners.statistics import Interval, bootstrap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_CURVE_ROWS = 200
"""Points of a learning curve; where there are more updates, neighbours are merged."""

_MEASURED = ("iqm", "low", "high", "mean", "min", "max", "training")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Sweep:
    """What C configurations did with S seeds; it prints as a table, the best one first.

    The table judges a run by the mean return of its final evaluation. `iqm` is the
    interquartile mean over seeds, within [`low`, `high`] by a 95% bootstrap interval;
    `training` is that of the mean return during training, which also tells who learned
    faster. A run that diverged counts as the worst run of the sweep that did not.
    """

    configurations: tuple[Configuration, ...]
    """[C], in the grid's order."""
    seeds: tuple[int, ...]
    """[S]."""
    returns: np.ndarray
    """Mean return of the final evaluation, [C, S] float64; nan where learning diverged."""
    unfinished: np.ndarray
    """Episodes of it that did not end within the allowed steps, [C, S] int64."""
    steps: np.ndarray
    """Env steps at the points of the learning curves, [C, R] int64."""
    curves: np.ndarray
    """Mean return of the training episodes that ended since the point before, [C, S, R]
    float64; nan where none did, and after the last point of a shorter curve."""

    @functools.cached_property
    def table(self) -> list[dict[str, Any]]:
        """A row for each configuration, best first: its values, then what was measured."""
        return [self._row(i) for i in self._ranking]

    @property
    def best(self) -> Configuration:
        """The configuration of the highest `iqm`.

        Of equal ones it is that of fewer diverged runs, then that of the highest `training`.
        """
        return self.configurations[self._ranking[0]]

    @property
    def best_algorithm(self) -> Algorithm:
        """The algorithm of the best configuration."""
        return self.best.algorithm

    def plot(self, most: int = 8) -> "Figure":
        """Matplotlib figure of the best `most` configurations: learning curves and final returns.

        Lines are interquartile means over seeds, bands and bars their 95% intervals.
        """
        from mazejax.rendering.plots import Curve, plot_comparison

        shown = self._ranking[:most]
        labels = _distinct([str(self.configurations[i]) for i in shown])
        curves, scores = {}, {}
        for label, i in zip(labels, shown, strict=True):
            points = np.array([_summary(column) for column in self.curves[i].T])
            curves[label] = Curve(self.steps[i], *points.T)
            scores[label] = self._final[i]
        return plot_comparison(curves, scores, title=f"{self._title}, {len(self.seeds)} seeds")

    def to_csv(self, path: str | os.PathLike) -> None:
        """Write the table as comma-separated values."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.table[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.table)
        files.write_text(path, text.getvalue())

    def save(self, directory: str | os.PathLike) -> None:
        """Write `table.csv`, `runs.npz` (all arrays in the grid's order) and `curves.png`."""
        folder = Path(directory)
        files.make_folder(folder)
        self.to_csv(folder / "table.csv")
        names = ("returns", "unfinished", "steps", "curves")
        arrays = {name: getattr(self, name) for name in names}
        files.write_npz(folder / "runs.npz", {"seeds": np.array(self.seeds), **arrays})
        with files.atomic_file(folder / "curves.png") as file:
            self.plot().savefig(file, format="png")

    def __repr__(self) -> str:
        """The table as text; what never happened has no column."""
        head = (
            f"{self._title}: configurations x seeds = {self.returns.shape[0]} x {len(self.seeds)}"
        )
        keys = [*self.configurations[0].values, "iqm", "interval", *_MEASURED[3:]]
        keys += [name for name in ("diverged", "unfinished") if any(r[name] for r in self.table)]
        return "\n".join([head, *_aligned(keys, [self._texts(row) for row in self.table])])

    @property
    def _title(self) -> str:
        algorithms = [configuration.algorithm for configuration in self.configurations]
        envs = dict.fromkeys(str(algorithm.env) for algorithm in algorithms)
        return f"{type(algorithms[0]).__name__} on {' and '.join(envs)}"

    @functools.cached_property
    def _final(self) -> list[Interval]:
        """Interquartile mean of each configuration's final returns, in the grid's order."""
        return [bootstrap(row) for row in self._counted]

    @functools.cached_property
    def _counted(self) -> np.ndarray:
        """Final returns in which runs that diverged have the worst of the others', [C, S]."""
        diverged = np.isnan(self.returns)
        worst = np.nan if diverged.all() else np.nanmin(self.returns)
        return np.where(diverged, worst, self.returns)

    @functools.cached_property
    def _training(self) -> list[float]:
        """Interquartile mean of each configuration's mean return over its env steps."""
        spans = np.diff(self.steps, prepend=0)[:, None]
        weights = np.where(np.isnan(self.curves), 0, spans)
        total = np.sum(np.nan_to_num(self.curves) * weights, axis=-1)
        count = np.sum(weights, axis=-1)
        means = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        return [_summary(row).value for row in means]

    @functools.cached_property
    def _ranking(self) -> list[int]:
        """Configurations from the best to the worst."""
        scores = [final.value for final in self._final]
        keys = np.nan_to_num(
            [scores, -np.isnan(self.returns).sum(axis=1), self._training], nan=-np.inf
        )
        return np.lexsort(-keys[::-1]).tolist()  # of equals the first in the grid's order

    def _row(self, i: int) -> dict[str, Any]:
        counted = self._counted[i]
        measured = (*self._final[i], counted.mean(), counted.min(), counted.max())
        numbers = map(float, (*measured, self._training[i]))
        return {
            **self.configurations[i].values,
            "seeds": len(self.seeds),
            **dict(zip(_MEASURED, numbers, strict=True)),
            "diverged": int(np.isnan(self.returns[i]).sum()),
            "unfinished": int(self.unfinished[i].sum()),
        }

    def _texts(self, row: dict[str, Any]) -> dict[str, str]:
        """The row as texts; all returns with as many decimals as four digits of the largest."""
        largest = np.nanmax(np.abs(self._counted), initial=1e-6)
        decimals = int(np.clip(3 - math.floor(math.log10(largest)), 0, 9))
        texts = {key: format_value(value) for key, value in row.items()}
        texts |= {name: f"{row[name]:.{decimals}f}" for name in _MEASURED}
        return texts | {"interval": f"[{texts['low']}, {texts['high']}]"}


def sweep(
    algorithm: str | Algorithm,
    grid: Grid,
    seeds: int | Sequence[int] = 8,
    *,
    env: str | Env | None = None,
    env_parameters: dict[str, Any] | None = None,
    eval_episodes: int = 32,
    max_episode_steps: int = 100_000,
    memory: float | None = None,
    devices: Sequence[jax.Device] | None = None,
    progress: str = "auto",
    **fields: Any,
) -> Sweep:
    """Every configuration of the grid trained with every seed, and how they compare.

    `grid` has lists of values by field, of which all combinations are run, or is a list of
    configurations; keys may be dotted, as in `network.hidden` or `env.gravity`. Numbers
    vary within one compiled program, sizes and choices need a program each. `seeds` is a
    list, or n for 0 to n - 1. `algorithm`, `env` and further fields are as for `train`.

    A run is `algorithm.train(mazejax.random.key(seed))`, then `eval_episodes` episodes of
    its last policy by its mode, in the same worlds for every configuration; those that do
    not end within `max_episode_steps` count as they stand. `memory` is what runs may take
    at a time, in bytes (by default up to half of what is free): chunks of them are spread
    over `devices`, by default all of this process. Chunks of the same size on as many
    devices give the same numbers again.
    """
    settings = RunSettings(
        eval_episodes=eval_episodes, max_episode_steps=max_episode_steps, progress=progress
    )
    _refuse_settings(fields)
    numbers = _check_seeds(seeds)
    base = RunContext(algorithm, env, env_parameters=env_parameters, **fields).algorithm
    base = run_statistics.settled(base, None, numbers[0])  # the same for all, or lanes would differ
    configurations = tuple(expand(base, grid))
    _refuse_own_devices(configurations)
    if memory is not None and not memory > 0:
        raise ConfigError(f"memory: must be a positive number of bytes, got {memory!r}")
    devices = jax.local_devices() if devices is None else list(devices)
    if not devices:
        raise ConfigError("devices: got none, expected some of jax.devices(), or None for all")
    results = _train_all(configurations, numbers, settings, devices, memory)
    steps, curves = _learning_curves(configurations, results)
    finite = np.stack([lane.finite for lane in results])
    returns = np.stack([lane.eval_return.mean(axis=-1, dtype=np.float64) for lane in results])
    return Sweep(
        configurations=configurations,
        seeds=numbers,
        returns=np.where(finite & np.isfinite(returns), returns, np.nan),
        unfinished=np.stack([np.sum(~lane.eval_ended, axis=-1) for lane in results]),
        steps=steps,
        curves=curves,
    )


def _train_all(
    configurations: Sequence[Configuration],
    seeds: tuple[int, ...],
    settings: RunSettings,
    devices: Sequence[jax.Device],
    memory: float | None,
) -> list[Lane]:
    """Results of each configuration, [S, ...]."""
    algorithms = [configuration.algorithm for configuration in configurations]
    steps = [algorithm.num_updates * algorithm.steps_per_update for algorithm in algorithms]
    progress = choose_progress(settings.progress, sum(steps) * len(seeds), 0)
    groups, done, results = lanes.group(algorithms), 0, dict[int, Lane]()
    try:
        for number, members in enumerate(groups):
            progress.message(f"program {number + 1} of {len(groups)}: compiling ...")
            program = lanes.compile_lanes(
                [algorithms[i] for i in members],
                seeds,
                settings.eval_episodes,
                settings.max_episode_steps,
                devices,
                lanes.free_memory(devices) if memory is None else memory,
            )
            progress.message(str(program))
            chunks, clock = [], time.perf_counter()
            for chunk in program.run():
                chunks.append(chunk)
                taken = len(chunk.finite) * steps[members[0]]
                begin, clock = clock, time.perf_counter()
                done += taken
                progress.update(done, taken / (clock - begin), float(np.mean(chunk.eval_return)))
            results |= dict(zip(members, _apart(chunks, len(members)), strict=True))
    finally:
        progress.close()
    return [results[i] for i in range(len(algorithms))]


def _apart(chunks: Sequence[Lane], count: int) -> list[Lane]:
    """The lanes of each of `count` algorithms, [S, ...]."""
    joined = jax.tree.map(lambda *parts: np.concatenate(parts), *chunks)
    return [jax.tree.map(lambda x, i=i: np.split(x, count)[i], joined) for i in range(count)]


def _learning_curves(
    configurations: Sequence[Configuration], results: Sequence[Lane]
) -> tuple[np.ndarray, np.ndarray]:
    """Steps [C, R] and mean returns [C, S, R] of training, shorter ones filled up with nan."""
    longest = max(lane.episodes.shape[-1] for lane in results)
    num_rows = min(longest, MAX_CURVE_ROWS)
    steps, curves = [], []
    for configuration, lane in zip(configurations, results, strict=True):
        num_updates = lane.episodes.shape[-1]
        rows = min(num_updates, num_rows)
        edges = np.arange(rows + 1) * num_updates // rows
        count = lane.episodes.astype(np.float64)
        total = np.where(count > 0, count * lane.train_return, 0.0)
        counts, totals = (np.add.reduceat(x, edges[:-1], axis=-1) for x in (count, total))
        curve = np.where(counts > 0, totals / np.maximum(counts, 1.0), np.nan)
        empty = num_rows - rows
        curves.append(np.pad(curve, ((0, 0), (0, empty)), constant_values=np.nan))
        ends = edges[1:] * configuration.algorithm.steps_per_update
        steps.append(np.pad(ends, (0, empty), mode="edge"))
    return np.stack(steps), np.stack(curves)


def _summary(values: np.ndarray) -> Interval:
    """Interquartile mean and interval of what is there, nan where nothing is."""
    there = values[~np.isnan(values)]
    return bootstrap(there) if there.size else Interval(np.nan, np.nan, np.nan)


def _distinct(labels: list[str]) -> list[str]:
    """The labels, numbered if two objects among the values look alike."""
    if len(set(labels)) == len(labels):
        return labels
    return [f"{i + 1}: {label}" for i, label in enumerate(labels)]


def _aligned(keys: Sequence[str], rows: Sequence[dict[str, str]]) -> list[str]:
    """Lines of a table, columns flush right."""
    names = {"iqm": "IQM", "interval": "95% interval"}
    columns = [[names.get(key, key), *(row[key] for row in rows)] for key in keys]
    widths = [max(map(len, column)) for column in columns]
    lines = zip(*columns, strict=True)
    return ["  ".join(t.rjust(w) for t, w in zip(line, widths, strict=True)) for line in lines]


def _refuse_settings(fields: dict[str, Any]) -> None:
    for field in config_fields(RunSettings):
        if field.name in fields:
            raise ConfigError(
                f"{field.name}: is for single runs; a sweep evaluates once, after the last "
                f"update, and writes nothing: remove it"
            )


def _refuse_own_devices(configurations: Sequence[Configuration]) -> None:
    for name, alone in (("num_devices", 1), ("axis_name", None)):
        given = [getattr(c.algorithm, name) for c in configurations]
        if given != [alone] * len(given):
            raise ConfigError(
                f"{name}: got {given[0]}, but a sweep spreads whole runs over its devices; "
                f"leave it at {alone}"
            )


def _check_seeds(seeds: Any) -> tuple[int, ...]:
    if isinstance(seeds, (int, np.integer)) and not isinstance(seeds, bool):
        seeds = range(seeds)
    try:
        given = list(seeds)
    except TypeError:
        raise ConfigError(f"seeds: expected a number of them or a list, got {seeds!r}") from None
    whole = [isinstance(s, (int, np.integer)) and not isinstance(s, bool) for s in given]
    distinct = all(whole) and len(set(given)) == len(given) > 0
    if not distinct or min(given) < 0 or max(given) >= 2**31:
        raise ConfigError(
            f"seeds: expected one at least, distinct whole numbers from 0 to 2^31 - 1, got {given}"
        )
    return tuple(map(int, given))
