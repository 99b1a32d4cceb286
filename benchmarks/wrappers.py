"""What a stack of five wrappers costs: env steps per second and compile time beside the bare env.

A cheap env shows what wrappers take, a dear one what is left of it in practice. The ratio is
that of the bare env's speed that is left; it must be at least 0.90 on CartPole-v1 and 0.97 on
Breakout-MinAtar, and compiling may take at most twice as long. Cases `each` have every wrapper
by itself, which says where the time goes. Trajectories are stored, as learners have them: of
observations that are only summed up, XLA would compute none for the bare env.
`python -m benchmarks.wrappers [case ...]` takes words that select cases by their names.
"""

import itertools
import sys
from collections.abc import Callable

from benchmarks.env_step import ours
from benchmarks.measure import Contender, Measured, report, run_cases

import mazejax  # isort: skip  # after the XLA flags that measure sets
from mazejax.wrappers import wrap

_ALWAYS = {
    "RewardScaling": {"scale": 0.5},
    "RewardClipping": {"min_val": -1.0, "max_val": 1.0},
    "TimeLimit": {"max_steps": 400},
    "DictObservation": {},
}
_NORMALIZATION = {
    "default_strategy_config": {"clip_range": [-3.0, 3.0]},
    "default_statistics": {"mean": 0.1, "std": 0.5},
}
STACKS = {
    "CartPole-v1": {"ObservationNormalization": _NORMALIZATION, **_ALWAYS},
    "gymnax/Breakout-MinAtar": {"StickyActions": {}, **_ALWAYS},
}
"""Five each, innermost first: numbers are normalized, by statistics that are given; planes of
pixels, which are 0 and 1 already, are not, but their actions are sticky, as of Atari games."""

ALONE = {
    "StickyActions": {},
    "ObservationNormalization": _NORMALIZATION,
    "ObservationStack": {"stack_config": [{"observation": "observation", "stack_steps": 4}]},
    "ReturnNormalization": {},
    "Monitoring": {},
    **_ALWAYS,
}
"""What `each` looks at."""

LENGTHS = {
    "CartPole-v1": {64: 20_000, 1024: 2000, 16384: 150},
    "gymnax/Breakout-MinAtar": {64: 1000, 1024: 60, 16384: 5},
}
"""Steps of a round by env and number of envs."""

ALL = "five wrappers"

LEAST = {"CartPole-v1": 0.90, "gymnax/Breakout-MinAtar": 0.97}
"""Part of the bare env's speed that must be left."""


def contenders(name: str, num_envs: int, length: int) -> list[Contender]:
    """The bare env and the wrapped one."""
    env = mazejax.make(name)
    return [
        ours(env, num_envs, length, trajectory=True, label="bare"),
        ours(wrap(env, STACKS[name]), num_envs, length, trajectory=True, label=ALL),
    ]


def each(name: str, num_envs: int, length: int) -> list[Contender]:
    """The bare env, and every wrapper alone around it."""
    env = mazejax.make(name)
    alone = [
        ours(wrap(env, {wrapper: fields}), num_envs, length, trajectory=True, label=wrapper)
        for wrapper, fields in ALONE.items()
    ]
    return [ours(env, num_envs, length, trajectory=True, label="bare"), *alone]


def cases() -> dict[str, Callable[[], list[Contender]]]:
    """All cases by name; their contenders are built when they run."""
    table: dict[str, Callable[[], list[Contender]]] = {}
    for name, lengths in LENGTHS.items():
        for n, length in lengths.items():
            table[f"{name} {n}"] = lambda name=name, n=n, t=length: contenders(name, n, t)
        table[f"{name} each"] = lambda name=name, t=lengths[1024]: each(name, 1024, t)
    return table


def verdict(bare: Measured, wrapped: Measured) -> str:
    """One line: what is left of the speed, what compiling takes, and whether that is enough."""
    least = LEAST[bare.case.split()[0]]
    compiling = wrapped.compile_seconds / bare.compile_seconds
    is_enough = wrapped.ratio >= least and compiling <= 2.0
    return (
        f"{bare.case}: {wrapped.ratio:.3f} of the speed (must: {least:.2f}), compiled in "
        f"{compiling:.2f} times (must: 2.00): {'kept' if is_enough else 'MISSED'}"
    )


def main(words: list[str]) -> list[Measured]:
    """Run the cases whose names contain any of the words; all without words."""
    results = run_cases(cases(), words, rounds=15)
    report("wrappers", results)
    for bare, wrapped in itertools.pairwise(results):
        if wrapped.contender == ALL:
            print(verdict(bare, wrapped))
    return results


if __name__ == "__main__":
    main(sys.argv[1:])
