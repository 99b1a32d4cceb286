"""Evaluation of a policy on episodes of its own, apart from training's draws."""

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np

from mazejax import random
from mazejax.algos.base import Algorithm
from mazejax.errors import ConfigError
from mazejax.events.epoch import EventSummary
from mazejax.events.report import Report, merge_summaries, report
from mazejax.runners.program import compile_evaluation
from mazejax.types import PyTree


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Returns and lengths of finished evaluation episodes."""

    returns: np.ndarray
    """[episodes] float32."""
    lengths: np.ndarray
    """[episodes] int32, flat steps."""
    unfinished: int
    """Episodes that did not end within the allowed steps; they are not in the arrays."""
    statistics: Mapping[str, EventSummary] = dataclasses.field(default_factory=dict, repr=False)
    """Of the events of the finished episodes, where they are kept."""

    @property
    def mean_return(self) -> float:
        """Mean of the returns; nan if no episode finished."""
        return float(self.returns.mean()) if self.returns.size else float("nan")

    @property
    def kpis(self) -> dict[str, float]:
        """Mean of each KPI over the episodes."""
        tag = "eval_BaseEnvEvents/kpi/mean/"
        scalars = self.report().scalars
        return {t.removeprefix(tag): v for t, v in scalars.items() if t.startswith(tag)}

    def report(self, totals: dict[str, float] | None = None) -> Report:
        """Statistics of events by tag, as writers take them; `totals` go on from before."""
        return report("eval", self.statistics, totals)

    def summary(self) -> dict[str, float]:
        """Returns, lengths and what did not finish, for writers; absent what did not happen."""
        scalars: dict[str, float] = {}
        for name, values in (("return", self.returns), ("length", self.lengths)):
            if values.size:
                numbers = {"mean": values.mean(), "std": values.std()}
                numbers |= {"min": values.min(), "max": values.max()}
                scalars |= {f"eval/{name}_{key}": float(v) for key, v in numbers.items()}
        return scalars | ({"eval/unfinished": float(self.unfinished)} if self.unfinished else {})

    def __str__(self) -> str:
        if not self.returns.size:
            return f"no episode of {self.unfinished} ended within the allowed steps"
        note = f", {self.unfinished} unfinished" if self.unfinished else ""
        return (
            f"return {self.mean_return:.1f} ± {self.returns.std():.1f} "
            f"(min {self.returns.min():.1f}, max {self.returns.max():.1f}), "
            f"length {self.lengths.mean():.1f}, {self.returns.size} episodes{note}"
            + "".join(f", {name} {value:.4g}" for name, value in self.kpis.items())
        )


def evaluate(
    algorithm: Algorithm,
    variables: PyTree,
    seed: int,
    episodes: int = 100,
    max_steps: int = 100_000,
    deterministic: bool = True,
) -> Evaluation:
    """Run the policy for that many episodes; an equal algorithm compiles once.

    All 64 bits of the seed count.
    """
    check_sizes(episodes, max_steps)
    program = compile_evaluation(algorithm, episodes, max_steps, deterministic)
    result = jax.device_get(program(variables, random.key(seed)))
    ended = np.asarray(result.ended)
    unfinished = int((~ended).sum())
    statistics = merge_summaries([result.statistics])
    return Evaluation(result.returns[ended], result.lengths[ended], unfinished, statistics)


def check_sizes(episodes: int, max_steps: int) -> None:
    """Raise ConfigError unless both are positive."""
    if episodes < 1 or max_steps < 1:
        raise ConfigError(f"episodes and max_steps: must be positive, got {episodes}, {max_steps}")
