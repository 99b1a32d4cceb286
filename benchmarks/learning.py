"""Proof of learning: 8 seeds of every shipped experiment, judged on fresh episodes.

Settings are those of `mazejax train experiment=NAME`; seeds are trained as lanes of one
program and judged by their last parameters. `python -m benchmarks.learning [NAME ...]`
chooses experiments; what was measured before stays in the JSON file.
"""

import dataclasses
import json
import sys
import time
from typing import Any

from benchmarks.measure import RESULTS, machine

import jax  # isort: skip  # after the XLA flags that measure sets
import jax.numpy as jnp
import numpy as np

import mazejax
from mazejax import random, registry
from mazejax.algos.base import Algorithm
from mazejax.conf import experiments
from mazejax.errors import ConfigError, did_you_mean
from mazejax.runners.config import TEMPLATE, from_config
from mazejax.runners.statistics import bootstrap

SEEDS = 8
EPISODES = 100
PATH = RESULTS / "learning.json"


@dataclasses.dataclass(frozen=True)
class Goal:
    """What an experiment must reach, as the interquartile mean over seeds."""

    target: float
    """Mean return of an episode."""
    drawn: bool = False
    """Whether actions are drawn in evaluation; else they are the mode."""
    lanes: int = SEEDS
    """Seeds trained side by side; the others follow. Many share what a loop costs beside its
    arithmetic, one alone keeps its weights in the cache and waits for no other's episodes."""


GOALS = {
    "cartpole": Goal(500),
    "acrobot": Goal(-100),
    "pendulum": Goal(-200),
    "mountain_car_continuous": Goal(90),
    # The optimum is -31; random allowed cuts earn -33.7.
    "cutting2d": Goal(-31),
    "foraging": Goal(15.5),
    "landmark_tour": Goal(4.6),
    "grid_maze": Goal(0.9),
    "job_shop": Goal(-57),
    "t_maze": Goal(3.9),
    "cartpole_a2c": Goal(500),
    "cutting2d_a2c": Goal(-31),
    "cartpole_es": Goal(500, lanes=1),
    "pendulum_es": Goal(-200, lanes=1),
    "cutting2d_es": Goal(-32, lanes=1),
    # What the README of gymnax 1.0.1 publishes for the PPO of gymnax-blines, whose evaluation
    # draws; it trained for 10 million steps.
    "breakout": Goal(28, drawn=True, lanes=1),
    "asterix": Goal(15, drawn=True, lanes=1),
    "breakout_convolution": Goal(28, drawn=True, lanes=1),
}


@dataclasses.dataclass(frozen=True)
class Learned:
    """What the seeds of one experiment learned."""

    experiment: str
    env: str
    algorithm: str
    steps: int
    """Env steps that one seed made."""
    seconds: float
    """Of training all seeds, compile time apart."""
    compile_seconds: float
    returns: list[float]
    """Mean return of each seed's evaluation, sorted."""
    unfinished: int
    """Evaluation episodes that did not end; they do not count."""
    iqm: float
    low: float
    high: float
    """Between these the interquartile mean lies with 95 % confidence, by the bootstrap."""
    target: float

    @property
    def steps_per_second(self) -> float:
        """Of all seeds together."""
        return len(self.returns) * self.steps / self.seconds

    @property
    def reached(self) -> bool:
        """Whether the interquartile mean is at or above the target."""
        return self.iqm >= self.target


def algorithm_of(name: str) -> Algorithm:
    """The learner of an experiment with its env."""
    settings = experiments.load(name)
    learner = registry.algorithms.get(experiments.algorithm_name(settings))
    env = mazejax.make(settings["env"], **settings.get("env_parameters", {}))
    fields = {**settings.get("algorithm", {}), "total_steps": settings["total_steps"]}
    template = experiments.choices(settings).get("algorithm/network")
    if template is not None:
        fields["network"] = {TEMPLATE: template, **fields.get("network", {})}
    return from_config(learner, fields, env=env)


def learn(name: str, goal: Goal) -> Learned:
    """Train and evaluate all seeds of an experiment."""
    algorithm = algorithm_of(name)

    def train(key: jax.Array) -> tuple[Any, Any]:
        state, metrics = algorithm.train(key)
        return state.variables, metrics.get("population/env_steps")

    def evaluate(variables: Any, key: jax.Array) -> Any:
        return algorithm.evaluate(variables, key, EPISODES, deterministic=not goal.drawn)

    keys = jax.vmap(random.key)(jnp.arange(SEEDS))
    begin = time.perf_counter()
    program = jax.jit(lambda keys: jax.lax.map(train, keys, batch_size=goal.lanes))
    compiled = program.lower(keys).compile()
    compile_seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    variables, made = jax.block_until_ready(compiled(keys))
    seconds = time.perf_counter() - begin
    episodes = jax.device_get(jax.jit(jax.vmap(evaluate))(variables, keys))
    returns = np.mean(episodes.returns, axis=1, where=episodes.ended)
    iqm = bootstrap(returns)
    return Learned(
        experiment=name,
        env=experiments.load(name)["env"],
        algorithm=type(algorithm).__name__,
        steps=_steps(algorithm, made),
        seconds=seconds,
        compile_seconds=compile_seconds,
        returns=sorted(returns.tolist()),
        unfinished=int((~episodes.ended).sum()),
        iqm=iqm.value,
        low=iqm.low,
        high=iqm.high,
        target=goal.target,
    )


def report(results: list[Learned]) -> None:
    """Print the table of what was learned in this run."""
    from rich.console import Console
    from rich.table import Table

    columns = ("env", "algorithm", "steps", "seconds", "k steps/s", "returns by seed")
    table = Table(*columns, "IQM", "target", "reached", box=None)
    for row in results:
        table.add_row(
            row.env,
            row.algorithm,
            f"{row.steps:,}",
            f"{row.seconds:.0f}",
            f"{row.steps_per_second / 1e3:.0f}",
            " ".join(f"{value:.4g}" for value in row.returns),
            f"{row.iqm:.4g} [{row.low:.4g}, {row.high:.4g}]",
            f"{row.target:g}",
            "yes" if row.reached else "NO",
        )
    Console(soft_wrap=True, width=200).print(table)


def save(row: Learned) -> None:
    """Write a row into the JSON file with versions and machine; other rows stay."""
    content = json.loads(PATH.read_text()) if PATH.exists() else {"results": {}}
    measured = {"steps_per_second": row.steps_per_second, "reached": row.reached}
    content["results"][row.experiment] = {
        **dataclasses.asdict(row),
        **measured,
        "machine": machine(),
    }
    PATH.parent.mkdir(parents=True, exist_ok=True)
    PATH.write_text(json.dumps(content, indent=1))


def main(names: list[str]) -> list[Learned]:
    """Learn these experiments; all that have a goal without names."""
    for name in names:
        if name not in GOALS:
            raise ConfigError(f"learning: no goal for {name!r}; {did_you_mean(name, GOALS)}")
    results = []
    for name in names or GOALS:
        print(f"{name} ...", flush=True)
        results.append(learn(name, GOALS[name]))
        save(results[-1])
    report(results)
    print(f"\n{machine()}\nwritten to {PATH}")
    return results


def _steps(algorithm: Algorithm, made: Any) -> int:
    """Env steps of one seed; episodes of ES have their own lengths, here the mean over seeds."""
    if made is None:
        return algorithm.num_updates * algorithm.steps_per_update
    return round(float(np.sum(made.mean, axis=-1).mean()))


if __name__ == "__main__":
    main(sys.argv[1:])
