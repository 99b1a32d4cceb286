"""`Trial`: one env under check, with the calls and runs that several rules look at.

Everything is computed once, when a rule first asks for it, and an exception in the
author's code comes out as a `CallFailed` that knows the method. The rules themselves
are in `rules` and `runs`.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from mazejax import base, random
from mazejax.envs.base import Env, select
from mazejax.envs.check.findings import CallFailed, Finding, on_host
from mazejax.envs.parameters import leaf_path
from mazejax.errors import ConfigError
from mazejax.spaces.base import Space
from mazejax.types import Array, Key, PyTree, Step

T = TypeVar("T")

PLAIN_STEPS = 10
"""Steps that are taken outside jit, where every primitive is dispatched by itself."""


Rule = Callable[["Trial"], Iterator[Finding]]
"""Looks at a trial and yields what is wrong; its name and docstring say what should hold."""


class Walk(NamedTuple):
    """A run of one env that is reset where it ends, time first: [T, ...]."""

    step: Step
    """As `step` returned it, but without the states, [T, ...]."""
    time_before: Array
    """The env's time before each step, [T] int32."""
    time: Array
    """The env's time after each step, before a reset, [T] int32."""


class Trial:
    """One env under check; on the host, and for one check only."""

    def __init__(self, env: Env, num_steps: int, num_envs: int, key: Key) -> None:
        self.env = env
        self.num_steps = num_steps
        self.num_envs = num_envs
        self.key = key
        self.traces = {"reset": 0, "step": 0}
        self._kept: dict[Callable[..., Any], Any] = {}
        self.jit_reset = base.jit(self._counted_reset)
        self.jit_step = base.jit(self._counted_step)

    def call(self, method: str, function: Callable[..., Any], *args: Any) -> Any:
        """`function(*args)`; what it raises becomes a CallFailed of this method."""
        try:
            return function(*args)
        except CallFailed:
            raise
        except Exception as cause:
            raise CallFailed(method, cause) from cause

    def once(self, function: Callable[["Trial"], T]) -> T:
        """`function(trial)`, computed when it is first asked for and kept."""
        if function not in self._kept:
            self._kept[function] = function(self)
        return self._kept[function]

    @functools.cached_property
    def observation_space(self) -> Space:
        """The env's."""
        return self.call("observation_space", lambda: self.env.observation_space)

    @functools.cached_property
    def action_space(self) -> Space:
        """The env's."""
        return self.call("action_space", lambda: self.env.action_space)

    @functools.cached_property
    def actions(self) -> PyTree:
        """Random actions [T, ...], on the host."""
        sample = jax.jit(jax.vmap(self.action_space.sample))
        keys = jax.random.split(random.stream(self.key, "action"), self.num_steps)
        return jax.device_get(self.call("action_space.sample", sample, keys))

    @functools.cached_property
    def keys(self) -> Key:
        """Keys for steps, [T]."""
        return jax.random.split(random.stream(self.key, "step"), self.num_steps)

    @functools.cached_property
    def reset_keys(self) -> Key:
        """Keys for resets, [N]."""
        return jax.random.split(random.stream(self.key, "reset"), self.num_envs)

    def action(self, index: int) -> PyTree:
        """One of the random actions."""
        return jax.tree.map(lambda leaf: jnp.asarray(leaf[index]), self.actions)

    def plain_reset(self) -> tuple[PyTree, PyTree]:
        """(obs, state) of a reset outside jit."""
        return self.call("reset", self.env.reset, self.key)

    def plain_step(self, state: PyTree, index: int) -> Step:
        """A step outside jit with the key and the action of this index."""
        return self.call("step", self.env.step, self.keys[index], state, self.action(index))

    @functools.cached_property
    def first(self) -> tuple[PyTree, PyTree]:
        """(obs, state) of the first reset, outside jit."""
        return self.plain_reset()

    @functools.cached_property
    def steps(self) -> list[Step]:
        """Steps outside jit that follow the first reset, until the episode ends."""
        steps: list[Step] = []
        state = self.first[1]
        for index in range(min(PLAIN_STEPS, self.num_steps)):
            steps.append(self.plain_step(state, index))
            state = steps[-1].state
            if np.any(steps[-1].terminated) or np.any(steps[-1].truncated):
                break
        return steps

    def states_before(self) -> list[PyTree]:
        """The state before each of `steps`."""
        return [self.first[1], *(step.state for step in self.steps[:-1])]

    @functools.cached_property
    def vectorized(self) -> tuple[PyTree, PyTree, Step]:
        """(obs, states, step) of one vmapped reset and step, [N, ...]; on the host."""

        def reset_and_step(keys: Key, step_keys: Key, actions: PyTree) -> tuple:
            obs, states = jax.vmap(self.env.reset)(keys)
            return obs, states, jax.vmap(self.env.step)(step_keys, states, actions)

        rows = np.arange(self.num_envs) % self.num_steps
        actions = jax.tree.map(lambda leaf: leaf[rows], self.actions)
        step_keys = self.keys[rows]
        run = jax.jit(reset_and_step)
        return on_host(self.call("vmap", run, self.reset_keys, step_keys, actions))

    @functools.cached_property
    def walks(self) -> tuple[Walk, Walk]:
        """The same walk of all steps, run twice by one program; on the host."""
        run = jax.jit(functools.partial(walk, self.env))
        args = (self.key, self.keys, self.actions)
        return on_host((self.call("scan", run, *args), self.call("scan", run, *args)))

    def _counted_reset(self, env: Env, key: Key) -> tuple[PyTree, PyTree]:
        self.traces["reset"] += 1
        return env.reset(key)

    def _counted_step(self, env: Env, key: Key, state: PyTree, action: PyTree) -> Step:
        self.traces["step"] += 1
        return env.step(key, state, action)


def walk(env: Env, key: Key, keys: Key, actions: PyTree) -> Walk:
    """A scan over keys [T] and actions [T, ...] that starts anew where an episode ends."""

    def one_step(state: PyTree, inputs: tuple[Key, PyTree]) -> tuple[PyTree, Walk]:
        step_key, action = inputs
        step = env.step(step_key, state, action)
        fresh = env.reset(random.stream(step_key, "check"))[1]
        walked = Walk(step._replace(state=()), env.time(state), env.time(step.state))
        return select(step.done, fresh, step.state), walked

    return jax.lax.scan(one_step, env.reset(key)[1], (keys, actions))[1]


def limit_path(env: Env) -> str | None:
    """Path of the number `max_steps` in the env, for `set_leaves`, if it has one."""
    try:
        path = leaf_path(env, "max_steps")
    except ConfigError:
        return None
    limit: Any = functools.reduce(getattr, path, env)
    whole = np.ndim(limit) == 0 and jnp.issubdtype(jnp.result_type(limit), jnp.integer)
    return ".".join(path) if whole else None
