"""Training steps per second, learning included, beside the loop that JAX users know.

128 steps, 4 epochs x 4 minibatches, two 64x64 tanh networks; the same arithmetic on both
sides. `python -m benchmarks.train [case ...]` takes words that select cases.
"""

import sys
from collections.abc import Callable

from benchmarks.measure import Contender, Measured, report, run_cases

import jax  # isort: skip  # after the XLA flags that measure sets

import mazejax
from benchmarks.reference_ppo import make_train

NUM_STEPS = 128


def ours(env: str, num_envs: int, num_updates: int, seeds: int = 1, **fields: int) -> Contender:
    """Our PPO as one pure function."""
    algorithm = mazejax.PPO(
        env=mazejax.make(env),
        num_envs=num_envs,
        num_steps=NUM_STEPS,
        learning_rate=2.5e-4,
        learning_rate_schedule="constant",
        total_steps=num_updates * num_envs * NUM_STEPS,
        **fields,
    )

    def train(key: jax.Array) -> object:
        if seeds == 1:
            return algorithm.train(key)[0].variables
        return jax.vmap(lambda k: algorithm.train(k)[0].variables)(jax.random.split(key, seeds))

    return Contender("mazejax", train, num_updates * num_envs * NUM_STEPS * seeds)


def reference(
    env: str, num_envs: int, num_updates: int, seeds: int = 1, **fields: int
) -> Contender:
    """The reference loop."""
    one = make_train(env, num_envs, NUM_STEPS, num_updates, **fields)

    def train(key: jax.Array) -> object:
        return one(key) if seeds == 1 else jax.vmap(one)(jax.random.split(key, seeds))

    return Contender("reference", train, num_updates * num_envs * NUM_STEPS * seeds)


def cases() -> dict[str, Callable[[], list[Contender]]]:
    """All cases by name."""
    table: dict[str, Callable[[], list[Contender]]] = {}
    for num_envs, updates in ((4, 200), (64, 30), (2048, 2)):
        table[f"PPO CartPole-v1 {num_envs} envs"] = lambda n=num_envs, u=updates: [
            reference("CartPole-v1", n, u),
            ours("CartPole-v1", n, u),
        ]
    table["PPO CartPole-v1 32 seeds x 4 envs"] = lambda: [
        reference("CartPole-v1", 4, 20, seeds=32),
        ours("CartPole-v1", 4, 20, seeds=32),
    ]
    table["PPO Breakout-MinAtar 64 envs"] = lambda: [
        reference("Breakout-MinAtar", 64, 10, num_minibatches=8),
        ours("gymnax/Breakout-MinAtar", 64, 10, num_minibatches=8),
    ]
    return table


def main(words: list[str]) -> list[Measured]:
    """Run the cases whose names contain any of the words; all without words."""
    results = run_cases(cases(), words, rounds=5)
    report("train", results)
    return results


if __name__ == "__main__":
    main(sys.argv[1:])
