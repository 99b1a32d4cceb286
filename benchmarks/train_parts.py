"""Where the time and the memory of a PPO update go: rollout, returns, products, the rest.

Each part is compiled by itself and timed in turn with the whole update. `python -m
benchmarks.train_parts [env ...]` prints the table and writes it as JSON.
"""

import dataclasses
import statistics
import sys
from typing import Any

from benchmarks.measure import time_in_turn, write

import jax  # isort: skip  # after the XLA flags that measure sets
import jax.numpy as jnp

import mazejax
from mazejax import random
from mazejax.algos import batch, minibatch
from mazejax.runners.plan import plan

NUM_STEPS = 128
ENVS = {"CartPole-v1": (4, 64, 2048), "gymnax/Breakout-MinAtar": (64,)}


@dataclasses.dataclass
class Parts:
    """One size: medians of milliseconds per update, and what it must compute and hold."""

    case: str
    update: float
    rollout: float
    returns: float
    """Advantages, targets, the rows put side by side."""
    optimize: float
    """All minibatches of all epochs."""
    products: float
    """As many gradients of the loss, on rows that lie ready: no shuffle, no Adam."""
    gflops: float
    """Of the dense layers' products in those gradients, per second."""
    peak_gflops: float
    """Of a product of 2048 rows by 512 x 512 on this machine."""
    state_bytes_per_env: float
    rollout_bytes_per_env: float
    program_bytes: int
    """What XLA allocates for one update beside the state."""


def measure(env: str, num_envs: int, peak: float) -> Parts:
    """The parts of one update."""
    ppo = mazejax.PPO(env=mazejax.make(env), num_envs=num_envs, num_steps=NUM_STEPS)
    state = jax.jit(ppo.init)(random.key(0))
    collect = jax.jit(ppo.collect).lower(state).compile()
    rollout = collect(state)[1]
    returns = jax.jit(lambda rollout: minibatch.pack(batch.from_rollout(ppo, rollout))[0])
    batches = jax.jit(lambda rollout: batch.from_rollout(ppo, rollout))(rollout)
    optimize = jax.jit(ppo.optimize).lower(state, batches).compile()
    gradients, flops = _gradients(ppo, state.variables, batches)
    update = jax.jit(ppo.update).lower(state).compile()
    calls = {
        "update": lambda: update(state),
        "rollout": lambda: collect(state),
        "returns": lambda: returns(rollout),
        "optimize": lambda: optimize(state, batches),
        "products": lambda: gradients(state.variables, batches),
    }
    seconds = _race(calls)
    sizes = plan(ppo)
    return Parts(
        case=f"{env} {num_envs} envs",
        **{name: 1e3 * value for name, value in seconds.items()},
        gflops=flops / seconds["products"] / 1e9,
        peak_gflops=peak,
        state_bytes_per_env=sizes.state_bytes / num_envs,
        rollout_bytes_per_env=sizes.rollout_bytes / num_envs,
        program_bytes=update.memory_analysis().temp_size_in_bytes,
    )


def _gradients(ppo: Any, variables: Any, batches: Any) -> tuple[Any, float]:
    """A program of as many gradients as an update takes, and the flops of their products."""
    rows = ppo.steps_per_update // ppo.num_minibatches
    count = ppo.num_epochs * ppo.num_minibatches

    def all_gradients(variables: Any, batches: Any) -> Any:
        def one(total: Any, index: jax.Array) -> tuple[Any, None]:
            first = (index % ppo.num_minibatches) * rows
            part = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, first, rows), batches)
            # Moved a little by the last result, so that nothing can be computed ahead.
            moved = jax.tree.map(lambda v, g: v + 1e-9 * g, variables, total)
            return ppo.gradient(moved, part)[0], None

        nothing = jax.tree.map(jnp.zeros_like, variables)
        return jax.lax.scan(one, nothing, jnp.arange(count))[0]

    first = next(iter(variables.values()))["params"]
    kernels = [leaf for leaf in jax.tree.leaves(first) if leaf.ndim == 2]
    inputs = first["torso"]["first"]["kernel"].size
    # Forward, by the weights, and by the inputs but for those of the first layer.
    products = 6 * sum(kernel.size for kernel in kernels) - 2 * inputs
    return jax.jit(all_gradients), float(products * rows * count)


def _race(calls: dict[str, Any], rounds: int = 7) -> dict[str, float]:
    """Median seconds of each call, run in turn."""
    seconds = time_in_turn([*calls.values()], [()] * rounds)
    return {name: statistics.median(s) for name, s in zip(calls, seconds, strict=True)}


def peak_gflops() -> float:
    """Gflop/s of products of 2048 rows by 512 x 512, ten in a row."""
    x, weights = jnp.ones((2048, 512)), jnp.full((512, 512), 1e-3)
    product = jax.jit(lambda x: jax.lax.fori_loop(0, 10, lambda _, x: x @ weights, x))
    return 10 * 2 * 2048 * 512 * 512 / _race({"product": lambda: product(x)})["product"] / 1e9


def main(words: list[str]) -> list[Parts]:
    """Measure the envs whose names contain any of the words; all without words."""
    from rich.console import Console
    from rich.table import Table

    results, peak = [], peak_gflops()
    for env, sizes in ENVS.items():
        if not words or any(word in env for word in words):
            results += [measure(env, num_envs, peak) for num_envs in sizes]
    titles = ("update", "rollout", "returns", "optimize", "products", "gflop/s")
    table = Table("milliseconds", *titles, "KiB/env", "MiB", box=None)
    for row in results:
        parts = (row.update, row.rollout, row.returns, row.optimize, row.products, row.gflops)
        per_env = row.state_bytes_per_env + row.rollout_bytes_per_env
        sizes = (per_env / 2**10, row.program_bytes / 2**20)
        table.add_row(row.case, *(f"{number:,.3g}" for number in (*parts, *sizes)))
    Console(soft_wrap=True).print(table)
    print(f"\na product of 2048 rows by 512 x 512: {peak:.3g} gflop/s")
    write("train_parts", results)
    return results


if __name__ == "__main__":
    main(sys.argv[1:])
