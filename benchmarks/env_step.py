"""Env steps per second through `VectorEnv` as shipped, with gymnax beside it in the same run.

Fresh exact resets and a random policy in one jitted scan. `python -m benchmarks.env_step
[case ...]` takes words that select cases by their names.
"""

import sys
from collections.abc import Callable
from typing import Any

from benchmarks.measure import Contender, Measured, race, report

import jax  # isort: skip  # after the XLA flags that measure sets
import jax.numpy as jnp

import mazejax
from mazejax.envs.probe import ExpensiveReset

SIZES = (64, 1024, 16384)


def ours(
    env: Any, num_envs: int, length: int, trajectory: bool = False, label: str = "", **options: Any
) -> Contender:
    """Our env with random actions; the observations are summed so that they are computed."""
    envs = mazejax.VectorEnv(env, num_envs, **options)

    def run(key: jax.Array) -> Any:
        obs, state = envs.reset(key)

        def one_step(carry: tuple, _: None) -> tuple:
            obs, state, total = carry
            action = jax.vmap(envs.action_space.sample)(envs.keys(state, "policy"))
            step = envs.step(state, action)
            stored = (obs, action, step.reward, step.done) if trajectory else None
            return (step.obs, step.state, total + _sum(step.obs, step.reward)), stored

        zero = jnp.zeros((), jnp.float32)
        (_, state, total), stored = jax.lax.scan(one_step, (obs, state, zero), length=length)
        return (total, stored) if trajectory else total

    name = label or " ".join(["mazejax", *(str(v) for v in options.values())])
    return Contender(name, run, num_envs * length)


def gymnax_loop(name: str, num_envs: int, length: int, trajectory: bool = False) -> Contender:
    """gymnax as its users write it: vmapped reset and step, a key per env and step."""
    import gymnax

    env, params = gymnax.make(name)
    sample = env.action_space(params).sample

    def run(key: jax.Array) -> Any:
        key, key_reset = jax.random.split(key)
        obs, state = jax.vmap(env.reset, (0, None))(jax.random.split(key_reset, num_envs), params)

        def one_step(carry: tuple, _: None) -> tuple:
            obs, state, key, total = carry
            key, key_act, key_step = jax.random.split(key, 3)
            action = jax.vmap(sample)(jax.random.split(key_act, num_envs))
            keys = jax.random.split(key_step, num_envs)
            new_obs, state, reward, terminated, truncated, _ = jax.vmap(env.step, (0, 0, 0, None))(
                keys, state, action, params
            )
            stored = (obs, action, reward, terminated | truncated) if trajectory else None
            return (new_obs, state, key, total + _sum(new_obs, reward)), stored

        zero = jnp.zeros((), jnp.float32)
        (_, _, _, total), stored = jax.lax.scan(one_step, (obs, state, key, zero), length=length)
        return (total, stored) if trajectory else total

    return Contender("gymnax", run, num_envs * length)


def _sum(obs: Any, reward: jax.Array) -> jax.Array:
    leaves = [jnp.sum(leaf, dtype=jnp.float32) for leaf in jax.tree.leaves(obs)]
    return sum(leaves, jnp.sum(reward))


def cases() -> dict[str, Callable[[], list[Contender]]]:
    """All cases by name; their contenders are built when they run."""
    make = mazejax.make
    table: dict[str, Callable[[], list[Contender]]] = {}
    for n, gymnax_length, length in zip(SIZES, (4000, 500, 50), (40_000, 4000, 500), strict=True):
        table[f"CartPole-v1 {n}"] = lambda n=n, g=gymnax_length, t=length: [
            gymnax_loop("CartPole-v1", n, g),
            ours(make("CartPole-v1"), n, t),
            ours(make("gymnax/CartPole-v1"), n, t // 4, label="mazejax, gymnax's env"),
        ]
        table[f"CartPole-v1 {n} trajectory"] = lambda n=n, g=gymnax_length, t=length: [
            gymnax_loop("CartPole-v1", n, g, trajectory=True),
            ours(make("CartPole-v1"), n, t // 4, trajectory=True),
        ]
    for name, gymnax_length in (("Pendulum-v1", 50), ("Acrobot-v1", 20)):
        table[f"{name} 16384"] = lambda name=name, t=gymnax_length: [
            gymnax_loop(name, 16384, t),
            ours(make(name), 16384, 4 * t),
        ]
    table["expensive reset 2048"] = lambda: [
        ours(ExpensiveReset(), 2048, 20, auto_reset="always", key_impl="threefry2x32"),
        ours(ExpensiveReset(), 2048, 20, auto_reset="always"),
        ours(ExpensiveReset(), 2048, 200),
    ]
    for name, length in (("Breakout-MinAtar", 100), ("Asterix-MinAtar", 30)):
        table[f"{name} 1024"] = lambda name=name, t=length: [
            gymnax_loop(name, 1024, t),
            ours(make(f"gymnax/{name}"), 1024, t),
        ]
    return table


def main(words: list[str]) -> list[Measured]:
    """Run the cases whose names contain any of the words; all without words."""
    chosen = {
        name: build for name, build in cases().items() if not words or any(w in name for w in words)
    }
    results: list[Measured] = []
    for name, build in chosen.items():
        print(f"{name} ...", flush=True)
        results += race(name, build())
    report("env_step", results)
    return results


if __name__ == "__main__":
    main(sys.argv[1:])
