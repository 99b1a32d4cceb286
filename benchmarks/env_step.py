"""Env steps per second through `VectorEnv` as shipped, with gymnax beside it in the same run.

Fresh exact resets and a random policy in one jitted scan. `python -m benchmarks.env_step
[case ...]` takes words that select cases by their names.
"""

import importlib.util
import sys
from collections.abc import Callable
from typing import Any

from benchmarks.measure import Contender, Measured, report, run_cases

import jax  # isort: skip  # after the XLA flags that measure sets
import jax.numpy as jnp
import numpy as np

import mazejax
from mazejax.envs import random_policy
from mazejax.envs.probe import ExpensiveReset

SIZES = (1, 64, 1024, 16384)

OUR_ENVS: dict[str, dict[str, Any]] = {
    "Cutting2D-v0": {},
    "Cutting2D-v0 structured": {"structured": True, "masked": True},
    "TicTacToe-v0": {},
    "ConnectFour-v0": {},
    "GridMaze-v0": {},
    "LandmarkTour-v0": {},
    "JobShop-v0": {},
    "Foraging-v0": {},
    "Breakout-v0": {},
}
"""Our own environments, with the options of each case. Nobody else has them, but for Breakout."""


def ours(
    env: Any,
    num_envs: int,
    length: int,
    trajectory: bool = False,
    label: str = "",
    images: bool = False,
    **options: Any,
) -> Contender:
    """Our env with random allowed actions; observations are summed so that they are computed.

    `images` are carried from step to step instead: to sum them takes longer than to make them.
    """
    envs = mazejax.VectorEnv(env, num_envs, **options)

    def run(key: jax.Array) -> Any:
        def one_step(carry: tuple, _: None) -> tuple:
            obs, state, total = carry
            stored = []
            for _ in envs.actors:
                state, obs, kept, step_total = random_substep(envs, obs, state)
                stored.append(kept)
                total += jnp.sum(kept[2]) if images else step_total
            return (obs, state, total), tuple(stored) if trajectory else None

        carry = (*envs.reset(key), jnp.zeros((), jnp.float32))
        (obs, _, total), stored = jax.lax.scan(one_step, carry, length=length)
        return total, stored, obs if images else None

    name = label or " ".join(["mazejax", *(str(v) for v in options.values())])
    return Contender(name, run, num_envs * length, state_bytes(envs))


def random_substep(envs: mazejax.VectorEnv, obs: Any, state: Any) -> tuple:
    """(state, obs, what a trajectory stores, sum of what was computed) after one sub-step."""
    actor, policy = envs.actor_id(state), random_policy(envs.env)
    action = jax.vmap(lambda key, obs: policy(key, obs, None, actor))(
        envs.keys(state, "policy"), obs
    )
    step = envs.step(state, action)
    return step.state, step.obs, (obs, action, step.reward, step.done), _sum(step.obs, step.reward)


def state_bytes(envs: mazejax.VectorEnv) -> int:
    """Bytes that one env carries from step to step."""
    state = jax.eval_shape(envs.reset, jax.random.key(0))[1].envs
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)) // envs.num_envs


def gymnax_loop(
    name: str, num_envs: int, length: int, trajectory: bool = False, images: bool = False
) -> Contender:
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
            total += jnp.sum(reward) if images else _sum(new_obs, reward)
            return (new_obs, state, key, total), stored

        zero = jnp.zeros((), jnp.float32)
        carry = (obs, state, key, zero)
        (obs, _, _, total), stored = jax.lax.scan(one_step, carry, length=length)
        return total, stored, obs if images else None

    return Contender("gymnax", run, num_envs * length)


def gymnasium_loop(name: str, num_envs: int, length: int, mode: str) -> Contender:
    """Gymnasium's vector env on the host, stepped with actions that were drawn beforehand."""
    import gymnasium

    envs = gymnasium.make_vec(name, num_envs=num_envs, vectorization_mode=mode)
    envs.action_space.seed(0)
    actions = [envs.action_space.sample() for _ in range(16)]

    def run(key: jax.Array) -> None:
        envs.reset(seed=0)
        for t in range(length):
            envs.step(actions[t % len(actions)])

    return Contender(f"gymnasium {mode}", run, num_envs * length, on_host=True)


def envpool_loop(name: str, num_envs: int, length: int) -> list[Contender]:
    """EnvPool, where it is installed."""
    if importlib.util.find_spec("envpool") is None:
        return []
    import envpool

    envs = envpool.make_gymnasium(name, num_envs=num_envs)
    action = np.zeros(num_envs, np.int32)

    def run(key: jax.Array) -> None:
        envs.reset()
        for _ in range(length):
            envs.step(action)

    return [Contender("envpool", run, num_envs * length, on_host=True)]


def _sum(obs: Any, reward: jax.Array) -> jax.Array:
    leaves = [jnp.sum(leaf, dtype=jnp.float32) for leaf in jax.tree.leaves(obs)]
    return sum(leaves, jnp.sum(reward))


def cases() -> dict[str, Callable[[], list[Contender]]]:
    """All cases by name; their contenders are built when they run."""
    make = mazejax.make
    table: dict[str, Callable[[], list[Contender]]] = {}
    lengths = ((20_000, 200_000, 2000), (4000, 40_000, 500), (500, 4000, 200), (50, 500, 20))
    for n, (gymnax_length, length, host_length) in zip(SIZES, lengths, strict=True):
        table[f"CartPole-v1 {n}"] = lambda n=n, g=gymnax_length, t=length, h=host_length: [
            gymnax_loop("CartPole-v1", n, g),
            ours(make("CartPole-v1"), n, t),
            ours(make("gymnax/CartPole-v1"), n, t // 4, label="mazejax, gymnax's env"),
            gymnasium_loop("CartPole-v1", n, h, "vector_entry_point"),
            *envpool_loop("CartPole-v1", n, h),
        ]
        table[f"CartPole-v1 {n} trajectory"] = lambda n=n, g=gymnax_length, t=length: [
            gymnax_loop("CartPole-v1", n, g, trajectory=True),
            ours(make("CartPole-v1"), n, t // 4, trajectory=True),
        ]
    for name, gymnax_length in (("Pendulum-v1", 50), ("Acrobot-v1", 20)):
        table[f"{name} 16384"] = lambda name=name, t=gymnax_length: [
            gymnax_loop(name, 16384, t),
            ours(make(name), 16384, 4 * t),
            gymnasium_loop(name, 64, 100, "sync"),
        ]
    for env, label in ((ExpensiveReset(), "expensive reset"), (make("GridMaze-v0"), "GridMaze-v0")):
        table[f"{label} 2048"] = lambda env=env: [
            ours(env, 2048, 20, auto_reset="always", key_impl="threefry2x32"),
            ours(env, 2048, 20, auto_reset="always"),
            ours(env, 2048, 200),
            ours(env, 2048, 200, auto_reset="pool"),
        ]
    for n, length in ((64, 1000), (1024, 100), (16384, 8)):
        for mode in ({"images": True}, {"trajectory": True}):
            name = " ".join(["Breakout-MinAtar", str(n), *(mode.keys() - {"images"})])
            table[name] = lambda n=n, t=length, mode=mode: [
                gymnax_loop("Breakout-MinAtar", n, t, **mode),
                ours(make("gymnax/Breakout-MinAtar"), n, t, label="mazejax, gymnax's env", **mode),
                ours(make("Breakout-v0"), n, 4 * t, **mode),
            ]
    table["Asterix-MinAtar 1024"] = lambda: [
        gymnax_loop("Asterix-MinAtar", 1024, 30),
        ours(make("gymnax/Asterix-MinAtar"), 1024, 30),
    ]
    for name, options in OUR_ENVS.items():
        for n, length in zip(SIZES, (4000, 400, 50, 8), strict=True):
            table[f"{name} {n}"] = lambda name=name, o=options, n=n, t=length: [
                ours(make(name.split()[0], **o), n, t, label=f"mazejax {n}")
            ]
    return table


def main(words: list[str]) -> list[Measured]:
    """Run the cases whose names contain any of the words; all without words."""
    results = run_cases(cases(), words, rounds=7)
    report("env_step", results)
    return results


if __name__ == "__main__":
    main(sys.argv[1:])
