"""The rule of `check_env` about many envs with auto-reset.

One compiled run steps a `VectorEnv` under every reset strategy and, beside it, each env
alone with its own `step`, and with its own `reset` and the documented key where an
episode ended. All must agree.
"""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mazejax import random
from mazejax.envs.base import Env, select
from mazejax.envs.check.findings import TOLERANCE, Finding, error, leaves, without_keys
from mazejax.envs.check.trial import Rule, Trial, limit_path
from mazejax.envs.parameters import set_leaves
from mazejax.envs.reset import EXACT_STRATEGIES
from mazejax.envs.vector import VectorEnv, VectorState
from mazejax.types import Array, Key, PyTree, Step

_SHORTEST_LIMIT = 3
_MEANING = {
    "obs": "that of step, or of reset where the episode ended",
    "state": "that of step, or of reset where the episode ended",
    "final_obs": "the obs of step, from before the reset",
    "reward": "that of step",
    "terminated": "that of step",
    "truncated": "that of step",
    "info": "that of step",
}


def vector_env_agrees(trial: Trial) -> Iterator[Finding]:
    """Under every reset strategy, envs step and begin anew as they do alone."""
    run = jax.jit(functools.partial(_differences, trial))
    differs = jax.device_get(trial.call("VectorEnv", run, trial.key))
    for (strategy, name), found in differs.items():
        for path, where in leaves(name, found).items():
            for index, row in np.argwhere(where)[:1]:
                yield error(
                    f"VectorEnv(auto_reset={strategy!r}): {path}: got another value in env {row} "
                    f"(step {index}), expected {_MEANING[name]}; define reset_state, step_state "
                    f"and observe, and leave reset and step as they are"
                )


def _differences(trial: Trial, key: Key) -> dict[tuple[str, str], PyTree]:
    """By strategy and name, trees of bools [T, N]: where a VectorEnv differs from envs alone."""
    limit = limit_path(trial.env)
    # Limits of 3, 4, 5, ... so that some env ends in almost every step.
    limits: dict[str, Any] = {limit: _SHORTEST_LIMIT + np.arange(trial.num_envs)} if limit else {}
    vectors = {
        name: VectorEnv(trial.env, trial.num_envs, name, limits) for name in EXACT_STRATEGIES
    }
    sample = jax.vmap(trial.action_space.sample)

    def one_step(state: VectorState, _: None) -> tuple[VectorState, dict]:
        action = sample(vectors["always"].keys(state, "check"))
        expected = _expected(trial, state, action, vectors["always"].keys(state, "env"))
        found = {}
        for strategy, vector in vectors.items():
            step = vector.step(state, action)
            for name, value in _seen(step).items():
                found[strategy, name] = jax.tree.map(_unequal, value, expected[name])
            found[strategy, "state"] = jax.tree.map(_unequal, step.state.envs, expected["state"])
        return step.state, found

    return jax.lax.scan(one_step, vectors["always"].reset(key)[1], length=trial.num_steps)[1]


def _expected(trial: Trial, state: VectorState, action: PyTree, keys: Key) -> dict[str, PyTree]:
    """What a VectorEnv should return, from the env's own reset and step, [N, ...] by name."""
    rows = jnp.arange(trial.num_envs)

    def step_alone(row: Array, *args: PyTree) -> Step:
        return _env_of_row(trial.env, row).step(*args)

    def reset_alone(row: Array, episode: Array) -> tuple[PyTree, PyTree]:
        key = jax.random.fold_in(jax.random.fold_in(state.root, row), episode)
        return _env_of_row(trial.env, row).reset(random.stream(key, "reset"))

    step = jax.vmap(step_alone)(rows, keys, state.envs, action)
    fresh = jax.vmap(reset_alone)(rows, state.episode + 1)
    obs, envs = select(step.done, fresh, (step.obs, step.state))
    return {**_seen(step), "obs": obs, "state": envs, "final_obs": step.obs}


def _seen(step: Step) -> dict[str, PyTree]:
    info = dict(step.info)
    final_obs = info.pop("final_obs", None)
    seen = {**step._asdict(), "info": info, "final_obs": final_obs}
    del seen["state"]
    return seen


def _env_of_row(env: Env, row: Array) -> Env:
    limit = limit_path(env)
    return set_leaves(env, {limit: _SHORTEST_LIMIT + row}) if limit else env


def _unequal(one: Array, other: Array) -> Array:
    """Whether the rows of [N, ...] differ by more than the tolerance, [N] bool."""
    one, other = without_keys((one, other))
    differs = (one != other) & ~((one != one) & (other != other))
    if jnp.issubdtype(one.dtype, jnp.floating):
        differs &= ~(jnp.abs(one - other) <= TOLERANCE * jnp.maximum(1.0, jnp.abs(other)))
    return differs.reshape(differs.shape[0], -1).any(axis=1)


RULES: tuple[Rule, ...] = (vector_env_agrees,)
