"""The host loop around compiled updates: chunks, reports, evaluation, checkpoints, stops.

One chunk is kept in flight while the metrics of the one before are read, so the device
never waits for the host. Nothing here changes what is learned: bits do not depend on
chunk sizes, evaluations, checkpoints or interruptions.
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mazejax import files, random
from mazejax.algos.base import Algorithm, TrainState
from mazejax.algos.metrics import Metrics, merge_rows
from mazejax.errors import MazejaxError
from mazejax.events.distribution import Distribution
from mazejax.events.report import merge_summaries, report
from mazejax.runners import checkpoint
from mazejax.runners.console import ConsoleWriter
from mazejax.runners.evaluation import Evaluation, evaluate
from mazejax.runners.finite import first_nonfinite, nonfinite_error
from mazejax.runners.program import MAX_UPDATES, Program, host_rows
from mazejax.runners.progress import Progress
from mazejax.runners.settings import RunSettings, spread
from mazejax.runners.signals import StopRequest
from mazejax.runners.writers import MetricsWriter
from mazejax.types import PyTree

CHUNK_SECONDS = 0.5
"""What a chunk should take: short enough to see progress, long enough to hide the host."""

MAX_ROWS = 1000
"""Rows of metrics that a whole run writes at most; updates in between are merged."""


@dataclasses.dataclass
class Best:
    """The best evaluation so far, with the very parameters that were evaluated."""

    mean_return: float = float("-inf")
    variables: PyTree | None = None


@dataclasses.dataclass
class InFlight:
    """A dispatched chunk whose metrics have not been read."""

    first: int
    count: int
    metrics: Metrics


@dataclasses.dataclass
class TrainingLoop:
    """One run's loop; `run` returns the state at the end and why it ended."""

    algorithm: Algorithm
    program: Program
    settings: RunSettings
    seed: int
    directory: Path
    writers: list[MetricsWriter]
    progress: Progress
    best: Best
    on_best: Callable[[Best, int], None]
    totals: dict[str, float]
    """What statistics of events add up to over the whole run, by tag."""
    console: ConsoleWriter | None = None
    """Where statistics of events are shown to a person."""

    def run(self, state: TrainState, stop: StopRequest) -> TrainState:
        """Train from the state to the last update, a stop request or the target return."""
        self._done = self._saved = int(state.updates)
        self._last = self.algorithm.num_updates
        self._merge = max(1, -(-self._last // MAX_ROWS))
        self._unwritten: list[dict[str, Any]] = []
        self._seconds_per_update = 0.0
        self._clock = time.perf_counter()
        self.solved = False
        evaluations = spread(self.settings.num_evaluations, self._last)
        checkpoints = spread(self.settings.num_checkpoints, self._last)
        if not self._done:
            self._save(state)
        in_flight: InFlight | None = None
        while self._done < self._last and stop.signal is None and not self.solved:
            count = self._next_count(evaluations | checkpoints)
            state, metrics = self.program.run(state, count)
            self._report(in_flight)
            in_flight = InFlight(self._done, count, metrics)
            self._done += count
            if self._done in evaluations | checkpoints:
                self._report(in_flight)
                in_flight = None
            if self._done in evaluations:
                self._evaluate(state)
            if self._done in checkpoints:
                self._save(state)
        self._report(in_flight)
        self._write_rows(flush=True)
        if self._saved != self._done:
            self._save(state)
        return state

    def _next_count(self, boundaries: frozenset[int]) -> int:
        """Updates until the next boundary, at most what fits into one chunk's time."""
        boundary = min((b for b in boundaries if b > self._done), default=self._last)
        count = min(boundary, self._last) - self._done
        known = self._seconds_per_update > 0.0
        fitting = int(CHUNK_SECONDS / self._seconds_per_update) if known else 1
        return min(count, MAX_UPDATES, max(1, fitting))

    def _report(self, chunk: InFlight | None) -> None:
        """Wait for a chunk, check that it is finite, and hand its metrics on."""
        if chunk is None:
            return
        rows = host_rows(chunk.metrics, chunk.count)
        now = time.perf_counter()
        self._seconds_per_update = (now - self._clock) / chunk.count
        self._clock = now
        for i, row in enumerate(rows):
            self._check_finite(row, chunk.first + i + 1)
            self._unwritten.append(row)
            self._write_rows(update=chunk.first + i + 1)
        latest = merge_rows(rows).get("train/episode_return")
        steps = (chunk.first + chunk.count) * self.algorithm.steps_per_update
        self.progress.update(steps, self._speed(), latest["mean"] if latest else None)

    def _write_rows(self, update: int = 0, flush: bool = False) -> None:
        """Write the rows that belong together: the same ones whatever the chunks were."""
        if not self._unwritten or not (flush or update % self._merge == 0):
            return
        summary = merge_rows(self._unwritten)
        scalars = {name: values["mean"] for name, values in summary.items()}
        if "train/episode_return" in summary:
            scalars["train/episodes"] = summary["train/episode_return"]["count"]
        scalars["time/steps_per_second"] = self._speed()
        events = report("train", merge_summaries(self._unwritten), self.totals)
        self._write(update or self._done, scalars | events.scalars, events.distributions)
        self._unwritten = []

    def _speed(self) -> float:
        """Env steps per second of the last chunk."""
        return self.algorithm.steps_per_update / max(self._seconds_per_update, 1e-9)

    def _write(
        self, update: int, scalars: dict[str, float], distributions: dict[str, Distribution]
    ) -> None:
        for writer in self.writers:
            writer.write(update * self.algorithm.steps_per_update, scalars, distributions)

    def _evaluate(self, state: TrainState) -> None:
        """Evaluate on keys of its own; keep the parameters if they are the best so far."""
        # Copied before the next chunk is given the state's buffers; they are alike on all devices.
        variables = jax.tree.map(lambda leaf: jnp.copy(leaf.addressable_data(0)), state.variables)
        settings = self.settings
        result = evaluate(
            self.algorithm,
            variables,
            self.seed,
            settings.eval_episodes,
            settings.max_episode_steps,
        )
        events = result.report(self.totals)
        self._write(self._done, result.summary() | events.scalars, events.distributions)
        better = result.mean_return > self.best.mean_return
        if better:
            self.best.mean_return, self.best.variables = result.mean_return, variables
            self.on_best(self.best, self._done)
        self._announce(result, better)
        target = settings.target_return
        self.solved = target is not None and result.mean_return >= target
        self._clock = time.perf_counter()

    def _announce(self, result: Evaluation, better: bool) -> None:
        steps = self._done * self.algorithm.steps_per_update
        self.progress.message(f"{steps:>11,} steps  eval {result}{'  best' if better else ''}")
        if self.console is not None and self.settings.print_statistics == "evaluations":
            self.console.show()

    def _save(self, state: TrainState) -> None:
        best = self.best.mean_return
        metadata = {
            "steps": self._done * self.algorithm.steps_per_update,
            "best_return": best if np.isfinite(best) else None,
            "totals": self._totals_so_far(),
        }
        checkpoint.save(
            self.directory, self._done, state, metadata, keep=self.settings.keep_checkpoints
        )
        self._saved = self._done
        for writer in self.writers:
            writer.flush()
        self._clock = time.perf_counter()

    def _totals_so_far(self) -> dict[str, float]:
        """The totals with what is not yet written: a run that goes on from here will not see it."""
        totals = dict(self.totals)
        report("train", merge_summaries(self._unwritten), totals)
        return totals

    def _check_finite(self, row: dict[str, Any], update: int) -> None:
        """Raise for the first quantity that is not finite, with the good state on disk."""
        quantity = first_nonfinite(row)
        if quantity is None:
            return
        where = (
            f"update {update}: {quantity} is not finite; the state before it is the checkpoint "
            f"{update - 1} in {self.directory}, the batch is {self._keep_evidence(update)}"
        )
        raise nonfinite_error(quantity, where, self.algorithm.env)

    def _keep_evidence(self, update: int) -> Path:
        """Save the state before the update, and what it collected, by replaying exactly."""
        template = jax.eval_shape(self.algorithm.init, random.key(self.seed))
        begin = max((s for s in checkpoint.steps(self.directory) if s < update), default=None)
        if begin is None:
            raise MazejaxError(f"update {update}: not finite, and no checkpoint before it is left")
        state = self.program.place(checkpoint.restore(self.directory, template, begin))
        while begin < update - 1:
            count = min(update - 1 - begin, MAX_UPDATES)
            state, _ = self.program.run(state, count)
            begin += count
        if begin not in checkpoint.steps(self.directory):
            checkpoint.save(self.directory, begin, state, {"steps": None}, keep=None)
        rollout = jax.jit(self.algorithm.collect)(state)[1]
        arrays = {
            jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(rollout)
        }
        path = self.directory / f"nonfinite_update_{update}.npz"
        files.write_npz(path, arrays)
        return path
