"""Training steps per second, learning included, beside the loop that JAX users know.

128 steps, 4 epochs x 4 minibatches, two 64x64 tanh networks; the same arithmetic on all
sides. rejax stands beside them where it is installed. `python -m benchmarks.train [case
...]` takes words that select cases.
"""

import importlib.util
import sys
from collections.abc import Callable
from typing import Any

from benchmarks.measure import Contender, Measured, report, run_cases

import jax  # isort: skip  # after the XLA flags that measure sets

import mazejax
from benchmarks.reference_ppo import make_train

NUM_STEPS = 128


def over_seeds(train: Callable[[jax.Array], Any], seeds: int) -> Callable[[jax.Array], Any]:
    """The training of one key, or of as many seeds side by side."""
    return train if seeds == 1 else lambda key: jax.vmap(train)(jax.random.split(key, seeds))


def ours(
    env: str,
    num_envs: int,
    num_updates: int,
    seeds: int = 1,
    label: str = "mazejax",
    **fields: int,
) -> Contender:
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

    train = over_seeds(lambda key: algorithm.train(key)[0].variables, seeds)
    return Contender(label, train, num_updates * num_envs * NUM_STEPS * seeds)


def reference(
    env: str, num_envs: int, num_updates: int, seeds: int = 1, **fields: int
) -> Contender:
    """The reference loop."""
    one = make_train(env, num_envs, NUM_STEPS, num_updates, **fields)

    return Contender(
        "reference", over_seeds(one, seeds), num_updates * num_envs * NUM_STEPS * seeds
    )


class OneDone:
    """A gymnax env as rejax 0.1 knows it: one flag for both ways to end."""

    def __init__(self, env: Any) -> None:
        self.env = env
        self.reset, self.default_params = env.reset, env.default_params
        self.action_space, self.observation_space = env.action_space, env.observation_space

    def step(self, *args: Any) -> tuple:
        """obs, state, reward, done, info."""
        obs, state, reward, terminated, truncated, info = self.env.step(*args)
        return obs, state, reward, terminated | truncated, info


def rejax_loop(
    env: str,
    num_envs: int,
    num_updates: int,
    seeds: int = 1,
    num_epochs: int = 4,
    num_minibatches: int = 4,
) -> list[Contender]:
    """rejax's PPO without its evaluations; [] if it is not installed."""
    if importlib.util.find_spec("rejax") is None:
        return []
    import gymnax
    import rejax

    game, params = gymnax.make(env)
    steps = num_updates * num_envs * NUM_STEPS
    algorithm = rejax.PPO.create(
        env=OneDone(game),
        env_params=params,
        num_envs=num_envs,
        num_steps=NUM_STEPS,
        num_epochs=num_epochs,
        num_minibatches=num_minibatches,
        total_timesteps=steps,
        eval_freq=steps,
        skip_initial_evaluation=True,
        learning_rate=2.5e-4,
        max_grad_norm=0.5,
        agent_kwargs={"activation": "tanh", "hidden_layer_sizes": (64, 64)},
    ).replace(eval_callback=lambda *_: ())

    train = over_seeds(lambda key: algorithm.train(key)[0].actor_ts.params, seeds)
    return [Contender("rejax", train, steps * seeds)]


def cases() -> dict[str, Callable[[], list[Contender]]]:
    """All cases by name."""
    table: dict[str, Callable[[], list[Contender]]] = {}
    for num_envs, updates in ((4, 200), (64, 30), (2048, 2)):
        table[f"PPO CartPole-v1 {num_envs} envs"] = lambda n=num_envs, u=updates: [
            reference("CartPole-v1", n, u),
            *rejax_loop("CartPole-v1", n, u),
            ours("CartPole-v1", n, u),
        ]
    table["PPO CartPole-v1 32 seeds x 4 envs"] = lambda: [
        reference("CartPole-v1", 4, 20, seeds=32),
        *rejax_loop("CartPole-v1", 4, 20, seeds=32),
        ours("CartPole-v1", 4, 20, seeds=32),
    ]
    table["PPO Breakout-MinAtar 64 envs"] = lambda: [
        reference("Breakout-MinAtar", 64, 10, num_minibatches=8),
        *rejax_loop("Breakout-MinAtar", 64, 10, num_minibatches=8),
        ours("gymnax/Breakout-MinAtar", 64, 10, label="mazejax, gymnax's env", num_minibatches=8),
        ours("Breakout-v0", 64, 10, num_minibatches=8),
    ]
    return table


def main(words: list[str]) -> list[Measured]:
    """Run the cases whose names contain any of the words; all without words."""
    if importlib.util.find_spec("rejax") is None:
        print("rejax is not installed: it is left out")
    results = run_cases(cases(), words, rounds=5)
    report("train", results)
    return results


if __name__ == "__main__":
    main(sys.argv[1:])
