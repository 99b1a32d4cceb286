"""What statistics of events cost: training with all of them, with the env's alone and without.

PPO learns while they are kept, and its metrics are read; ratios are to training without.
`python -m benchmarks.events [case ...]` takes words that select cases.
"""

import sys
from collections.abc import Callable

from benchmarks.measure import Contender, Measured, report, run_cases

import jax  # isort: skip  # after the XLA flags that measure sets

import mazejax
from mazejax.envs import Env

NUM_STEPS = 64
LEVELS = ("none", "env", "all")


def training(env: Env, num_envs: int, num_updates: int, statistics: str) -> Contender:
    """PPO that keeps these statistics, and returns them."""
    algorithm = mazejax.PPO(
        env=env,
        num_envs=num_envs,
        num_steps=NUM_STEPS,
        statistics=statistics,
        total_steps=num_updates * num_envs * NUM_STEPS,
    )

    def train(key: jax.Array) -> object:
        state, metrics = algorithm.train(key)
        return state.variables, metrics

    kept = jax.eval_shape(algorithm.init, jax.random.key(0)).collect.statistics
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(kept)) // num_envs
    return Contender(statistics, train, num_updates * num_envs * NUM_STEPS, size)


def cases() -> dict[str, Callable[[], list[Contender]]]:
    """All cases by name; the bytes are those of an env's statistics."""
    table: dict[str, Callable[[], list[Contender]]] = {}
    envs = {"CartPole-v1": {}, "Cutting2D-v0": {"masked": True}}
    for num, updates in ((64, 20), (4096, 1)):
        for name, options in envs.items():
            table[f"PPO {name} {num} envs"] = lambda n=num, u=updates, e=(name, options): [
                training(mazejax.make(e[0], **e[1]), n, u, level) for level in LEVELS
            ]
    return table


def main(words: list[str]) -> list[Measured]:
    """Run the cases whose names contain any of the words; all without words."""
    results = run_cases(cases(), words, rounds=7)
    report("events", results)
    return results


if __name__ == "__main__":
    main(sys.argv[1:])
