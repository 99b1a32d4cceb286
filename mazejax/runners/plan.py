"""What a run will do, before anything compiles: batch arithmetic, memory, work."""

import dataclasses

import jax

from mazejax.algos.base import Algorithm


@dataclasses.dataclass(frozen=True)
class Plan:
    """Sizes of a training run."""

    env: str
    algorithm: str
    num_envs: int
    steps_per_update: int
    num_updates: int
    total_steps: int
    """Steps that whole updates make, at least as many as asked for."""
    asked_steps: int
    auto_reset: str
    """The reset strategy in force."""
    parameters: int
    state_bytes: int
    """Of the whole train state."""
    rollout_bytes: int
    """Of one rollout as learners see it."""
    flops_per_update: float | None
    """Counted by XLA before it optimizes; None where the backend does not tell."""

    def __str__(self) -> str:
        steps = f"{self.num_updates:,} updates x {self.steps_per_update:,} = {self.total_steps:,}"
        if self.total_steps != self.asked_steps:
            steps += f" (asked for {self.asked_steps:,}, rounded up to whole updates)"
        flops = "" if self.flops_per_update is None else f"{self.flops_per_update / 1e6:,.1f} Mflop"
        rows = [
            ("algorithm", f"{self.algorithm} on {self.env}"),
            ("env steps", steps),
            ("envs", f"{self.num_envs:,}, auto-reset {self.auto_reset}"),
            ("parameters", f"{self.parameters:,}"),
            ("train state", _size(self.state_bytes)),
            ("one rollout", _size(self.rollout_bytes)),
            ("one update", flops or "unknown"),
        ]
        return "\n".join(f"{name:<12} {text}" for name, text in rows)


def plan(algorithm: Algorithm) -> Plan:
    """The sizes of a run of this algorithm; traces the update, compiles nothing."""
    state = jax.eval_shape(algorithm.init, jax.random.key(0))
    rollout = jax.eval_shape(algorithm.collect, state)[1]
    return Plan(
        env=str(algorithm.env),
        algorithm=type(algorithm).__name__,
        num_envs=algorithm.num_envs,
        steps_per_update=algorithm.steps_per_update,
        num_updates=algorithm.num_updates,
        total_steps=algorithm.num_updates * algorithm.steps_per_update,
        asked_steps=algorithm.total_steps,
        auto_reset=algorithm.vector_env.strategy(),
        parameters=sum(leaf.size for leaf in jax.tree.leaves(state.variables)),
        state_bytes=_bytes(state),
        rollout_bytes=_bytes(rollout),
        flops_per_update=_flops(algorithm, state),
    )


def _flops(algorithm: Algorithm, state: object) -> float | None:
    costs = jax.jit(algorithm.update).lower(state).cost_analysis()
    return float(costs["flops"]) if costs and "flops" in costs else None


def _bytes(tree: object) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:,.4g} {unit}"
        count /= 1024
    return f"{count:,.4g} GiB"
