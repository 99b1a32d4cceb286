"""The rule of `check_env` about many envs with auto-reset.

One compiled run steps a `VectorEnv` under every reset strategy and, beside it, each env
alone with its own `step`, and with its own `reset` and the documented key where an
episode ended. All must agree, in every sub-step.
"""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mazejax import random
from mazejax.envs.base import Env, select
from mazejax.envs.check.findings import Finding, error, leaves, without_keys
from mazejax.envs.check.trial import Rule, Trial, jit_once, limit_path
from mazejax.envs.episode import random_policy
from mazejax.envs.parameters import set_leaves
from mazejax.envs.reset import EXACT_STRATEGIES
from mazejax.envs.vector import VectorEnv, VectorState
from mazejax.types import Array, Key, PyTree, Step

_SHORTEST_LIMIT = 3
_MEANING = {
    "obs": "that of step, or of reset where the episode ended",
    "state": "that of step, or of reset (and carry_over) where the episode ended",
    "final_obs": "the obs of step, from before the reset, for every actor",
    "reward": "that of step",
    "terminated": "that of step",
    "truncated": "that of step",
    "info": "that of step",
}

_Found = dict[tuple[str, int, str], PyTree]
"""By strategy, sub-step and name, trees of bools [N]: where a VectorEnv differs from envs alone."""


def vector_env_agrees(trial: Trial) -> Iterator[Finding]:
    """Under every reset strategy, envs step and begin anew as they do alone."""
    run = jit_once(functools.partial(_differences, trial))
    differs = jax.device_get(trial.call("VectorEnv", run, trial.key))
    for (strategy, substep, name), found in differs.items():
        where = "" if trial.num_substeps == 1 else f" {trial.label(substep)}:"
        for path, differing in leaves(name, found).items():
            for index, row in np.argwhere(differing)[:1]:
                yield error(
                    f"VectorEnv(auto_reset={strategy!r}):{where} {path}: got another value in env "
                    f"{row} (step {index}), expected {_MEANING[name]}; define reset_state, "
                    f"step_state and observe, and leave reset and step as they are"
                )


def _differences(trial: Trial, key: Key) -> _Found:
    """Differences [T, N] of a VectorEnv under every strategy from envs alone."""
    limit = limit_path(trial.env)
    # Limits of 3, 4, 5, ... so that some env ends in almost every step.
    limits: dict[str, Any] = {limit: _SHORTEST_LIMIT + np.arange(trial.num_envs)} if limit else {}
    vectors = {
        name: VectorEnv(trial.env, trial.num_envs, name, limits) for name in EXACT_STRATEGIES
    }
    first = vectors[EXACT_STRATEGIES[0]]

    def one_flat_step(state: VectorState, _: None) -> tuple[VectorState, _Found]:
        found: _Found = {}
        unequal = functools.partial(_unequal, tolerance=trial.tolerance)
        for substep in range(trial.num_substeps):
            action = random_actions(first, state)
            expected = _expected(trial, state, action, first.keys(state, "env"), substep)
            for strategy, vector in vectors.items():
                step = vector.step(state, action)
                seen = {**_seen(step), "state": step.state.envs}
                for name, value in seen.items():
                    found[strategy, substep, name] = jax.tree.map(unequal, value, expected[name])
            state = step.state
        return state, found

    return jax.lax.scan(one_flat_step, first.reset(key)[1], length=trial.num_steps)[1]


def random_actions(vector: VectorEnv, state: VectorState) -> PyTree:
    """Allowed random actions of the next actor in every env, [N, ...]."""
    actor, policy = vector.actor_id(state), random_policy(vector.env)
    keys, obs = vector.keys(state, "policy"), vector.observe(state)
    return jax.vmap(lambda key, obs: policy(key, obs, None, actor))(keys, obs)


def _expected(
    trial: Trial, state: VectorState, action: PyTree, keys: Key, substep: int
) -> dict[str, PyTree]:
    """What a VectorEnv should return, from the env's own reset and step, [N, ...] by name."""
    rows = jnp.arange(trial.num_envs)

    def step_alone(row: Array, *args: PyTree) -> Step:
        return _env_of_row(trial.env, row).step(*args)

    def reset_alone(row: Array, episode: Array, ended: PyTree) -> tuple[PyTree, PyTree]:
        key = jax.random.fold_in(jax.random.fold_in(state.root, row), episode)
        env = _env_of_row(trial.env, row)
        obs, fresh = env.reset(random.stream(key, "reset"))
        if not env.has_carry_over:
            return obs, fresh
        carried = env.carry_over(ended, fresh)
        return env.observe(carried), carried

    def look_alone(row: Array, step: Step) -> PyTree:
        env, others = _env_of_row(trial.env, row), range(1, trial.num_substeps)
        seen = (step.obs, *(env.observe(env.at_substep(step.state, i)) for i in others))
        return seen if others else step.obs

    step = jax.vmap(step_alone)(rows, keys, state.envs, action)
    if trial.next_substep(substep) != 0:
        return {**_seen(step), "state": step.state}
    fresh = jax.vmap(reset_alone)(rows, state.episode + 1, step.state)
    obs, envs = select(step.done, fresh, (step.obs, step.state))
    final_obs = jax.vmap(look_alone)(rows, step)
    return {**_seen(step), "obs": obs, "state": envs, "final_obs": final_obs}


def _seen(step: Step) -> dict[str, PyTree]:
    info = dict(step.info)
    final_obs = info.pop("final_obs", None)
    seen = {**step._asdict(), "info": info, "final_obs": final_obs}
    del seen["state"]
    return seen


def _env_of_row(env: Env, row: Array) -> Env:
    limit = limit_path(env)
    return set_leaves(env, {limit: _SHORTEST_LIMIT + row}) if limit else env


def _unequal(one: Array, other: Array, tolerance: float) -> Array:
    """Whether the rows of [N, ...] differ by more than the tolerance, [N] bool."""
    one, other = without_keys((one, other))
    differs = (one != other) & ~((one != one) & (other != other))
    if jnp.issubdtype(one.dtype, jnp.floating):
        differs &= ~(jnp.abs(one - other) <= tolerance * jnp.maximum(1.0, jnp.abs(other)))
    return differs.reshape(differs.shape[0], -1).any(axis=1)


RULES: tuple[Rule, ...] = (vector_env_agrees,)
