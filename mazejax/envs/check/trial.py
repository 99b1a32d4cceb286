"""`Trial`: one env under check, with the calls and runs that several rules look at.

Everything is computed once, when a rule first asks for it, and an exception in the
author's code comes out as a `CallFailed` that knows the method. How an env is walked
stands in `walk`, the rules in the other modules.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from mazejax import base, random
from mazejax.envs.base import Env
from mazejax.envs.check.findings import CallFailed, Finding, check_contained, on_host
from mazejax.envs.check.walk import Move, flat_step, substep_keys, walk
from mazejax.envs.core import CoreEnv
from mazejax.envs.episode import random_policy
from mazejax.envs.maze_env import MazeEnv
from mazejax.envs.parameters import leaf_path
from mazejax.envs.structured import agent_axis
from mazejax.errors import ConfigError
from mazejax.spaces.base import Space
from mazejax.types import ActorID, Key, PyTree, Step

T = TypeVar("T")

PLAIN_STEPS = 10
"""Sub-steps that are taken outside jit, where every primitive is dispatched by itself."""


# Of a LandmarkTour-v0, the run of `VectorEnv` compiles in 1.4 s instead of 3.2 s (jaxlib 0.10.2).
_QUICK_TO_COMPILE = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}

Rule = Callable[["Trial"], Iterator[Finding]]
"""Looks at a trial and yields what is wrong; its name and docstring say what should hold."""


class Call(NamedTuple):
    """One sub-step outside jit."""

    substep: int
    """Place in the schedule."""
    key: Key
    state: PyTree
    """Before the sub-step."""
    action: PyTree
    step: Step
    """What came of it."""


class Trial:
    """One env under check; on the host, and for one check only."""

    def __init__(self, env: Env, num_steps: int, num_envs: int, key: Key, tolerance: float) -> None:
        self.env = env
        self.tolerance = tolerance
        self.num_steps = num_steps
        self.num_envs = num_envs
        self.key = key
        self.traces: dict[str, int] = {}
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

    # --- what the env declares --------------------------------------------------------

    @functools.cached_property
    def actors(self) -> tuple[ActorID, ...]:
        """The env's schedule."""
        return self.call("actors", lambda: self.env.actors)

    @functools.cached_property
    def observation_spaces(self) -> dict[str, Space]:
        """The env's, by step key."""
        return self.spaces("observation_space", self.env)

    @functools.cached_property
    def action_spaces(self) -> dict[str, Space]:
        """The env's, by step key."""
        return self.spaces("action_space", self.env)

    def spaces(self, name: str, env: Env, where: str = "") -> dict[str, Space]:
        """The `observation_space` or `action_space` of an env, by step key."""
        return self.call(f"{self.space_name(name)}{where}", getattr, env, f"{name}s")

    def space_name(self, name: str, step_key: str | None = None) -> str:
        """The name under which an author gives this space: in the plural where there are many."""
        if len({actor.step_key for actor in self.actors}) == 1:
            return name
        return f"{name}s" if step_key is None else f"{name}s[{step_key!r}]"

    @property
    def num_substeps(self) -> int:
        """Sub-steps of a flat step; 1 of a flat env."""
        return len(self.actors)

    def axis(self, substep: int) -> tuple[int, ...]:
        """(A,) where agents act at once in a sub-step, else ()."""
        return agent_axis(self.actors[substep], self.env.agent_counts)

    def next_substep(self, substep: int) -> int:
        """The sub-step that follows."""
        return (substep + 1) % self.num_substeps

    def label(self, substep: int) -> str:
        """What messages call a sub-step: `step`, `step 'cut'`, or `step 'move' 1` of agents."""
        return "step" if self.num_substeps == 1 else f"step {self._role(substep)}"

    def spoken_actor(self, substep: int) -> str:
        """Who acts in a sub-step, for tables: `cut`, `move 1`, or `walk (3 at once)`."""
        axis = self.axis(substep)
        at_once = f" ({axis[0]} at once)" if axis else ""
        return self._role(substep).replace("'", "") + at_once

    def seer(self, substep: int) -> str:
        """Whose observation it is, as the end of a message; nothing in a flat env."""
        if self.num_substeps == 1:
            return ""
        return f" (seen by {self._role(substep)})"

    def _role(self, substep: int) -> str:
        step_key, agent = self.actors[substep]
        if sum(actor.step_key == step_key for actor in self.actors) == 1:
            return repr(step_key)
        repeated = self.actors.count(self.actors[substep]) > 1
        return f"{step_key!r} {agent}" + (f" (sub-step {substep})" if repeated else "")

    @functools.cached_property
    def core_env(self) -> CoreEnv | None:
        """The core env, if the env is a `MazeEnv` in wrappers or without."""
        inner = self.env.unwrapped
        return inner.core_env if isinstance(inner, MazeEnv) else None

    # --- calls ------------------------------------------------------------------------

    @functools.cached_property
    def keys(self) -> Key:
        """Keys for flat steps, [T]."""
        return jax.random.split(random.stream(self.key, "step"), self.num_steps)

    @functools.cached_property
    def reset_keys(self) -> Key:
        """Keys for resets, [N]."""
        return jax.random.split(random.stream(self.key, "reset"), self.num_envs)

    def plain_reset(self) -> tuple[PyTree, PyTree]:
        """(obs, state) of a reset outside jit."""
        return self.call("reset", self.env.reset, self.key)

    def plain_step(self, substep: int, key: Key, state: PyTree, action: PyTree) -> Step:
        """A step outside jit."""
        return self.call(self.label(substep), self.env.step, key, state, action)

    def compiled_step(self, substep: int, key: Key, state: PyTree, action: PyTree) -> Step:
        """A compiled step."""
        return self.call(self.label(substep), self.jit_step, self.env, key, state, action)

    def action(self, substep: int, key: Key, obs: PyTree) -> PyTree:
        """A random action, allowed by the masks of the observation if that fits its space."""
        actor = self.actors[substep]
        space = self.observation_spaces[actor.step_key]
        fits = not any(True for _ in check_contained(space, obs, "", self.axis(substep)))
        where = self.space_name("action_space", actor.step_key)
        draw = self.once(_compiled_policy)
        return self.call(f"{where}.sample", draw, key, obs if fits else None, actor)

    @functools.cached_property
    def first(self) -> tuple[PyTree, PyTree]:
        """(obs, state) of the first reset, outside jit."""
        return self.plain_reset()

    @functools.cached_property
    def calls(self) -> list[Call]:
        """Sub-steps outside jit that follow the first reset, until the episode ends.

        Whole flat steps, unless the place in the schedule is not what it should be.
        """
        calls: list[Call] = []
        obs, state = self.first
        for index in range(self.num_plain_steps):
            for substep in range(self.num_substeps):
                env_key, action_key, _ = substep_keys(self.keys[index], substep)
                action = self.action(substep, action_key, obs)
                step = self.plain_step(substep, env_key, state, action)
                calls.append(Call(substep, env_key, state, action, step))
                if not isinstance(step, Step) or self.misplaced(calls[-1]):
                    return calls
                obs, state = step.obs, step.state
            if np.any(calls[-1].step.terminated) or np.any(calls[-1].step.truncated):
                break
        return calls

    @property
    def num_plain_steps(self) -> int:
        """Flat steps that are taken outside a scan; two at least, since one may be special."""
        return min(max(2, PLAIN_STEPS // self.num_substeps), self.num_steps)

    def misplaced(self, call: Call) -> bool:
        """Whether the state after a sub-step has another place in the schedule than the next."""
        place = self.call("substep", self.env.substep, call.step.state)
        return not isinstance(place, int) or place != self.next_substep(call.substep)

    # --- runs -------------------------------------------------------------------------

    @functools.cached_property
    def vectorized(self) -> tuple[PyTree, PyTree, tuple[tuple[PyTree, Step], ...]]:
        """(obs, states, (action, step) by sub-step) of a vmapped reset and flat step, [N, ...].

        On the host, with the keys `keys[row % T]`.
        """

        def reset_and_step(key: Key, step_key: Key) -> tuple:
            obs, state = self.env.reset(key)
            moves = flat_step(self.env, step_key, state)
            return obs, state, tuple((move.action, move.step) for move in moves)

        run = jax.jit(jax.vmap(reset_and_step))
        rows = np.arange(self.num_envs) % self.num_steps
        return on_host(self.call("vmap", run, self.reset_keys, self.keys[rows]))

    @functools.cached_property
    def walks(self) -> tuple[tuple[Move, ...], ...]:
        """Three walks of all steps by one program, moves [T, ...] by sub-step; on the host.

        The first two are the same; in the third inactive actors take other actions.
        """
        run = jax.jit(functools.partial(walk, self.env))
        idle = map(jnp.uint32, (0, 0, 1))
        return on_host(tuple(self.call("scan", run, self.key, self.keys, i) for i in idle))

    def _counted_reset(self, env: Env, key: Key) -> tuple[PyTree, PyTree]:
        self._count("reset")
        return env.reset(key)

    def _counted_step(self, env: Env, key: Key, state: PyTree, action: PyTree) -> Step:
        self._count(self.label(env.substep(state)))
        return env.step(key, state, action)

    def _count(self, method: str) -> None:
        self.traces[method] = self.traces.get(method, 0) + 1


def jit_once(function: Callable[..., T]) -> Callable[..., T]:
    """`jax.jit` for a program that runs once and is large: on a CPU it is left unoptimized.

    It rounds a little differently than a program that is optimized, so what is compared
    to a tolerance must all be computed within it.
    """
    options = _QUICK_TO_COMPILE if jax.default_backend() == "cpu" else None
    return jax.jit(function, compiler_options=options)


def limit_path(env: Env) -> str | None:
    """Path of the number `max_steps` in the env, for `set_leaves`, if it has one."""
    try:
        path = leaf_path(env, "max_steps")
    except ConfigError:
        return None
    limit: Any = functools.reduce(getattr, path, env)
    whole = np.ndim(limit) == 0 and jnp.issubdtype(jnp.result_type(limit), jnp.integer)
    return ".".join(path) if whole else None


def _compiled_policy(trial: Trial) -> Callable[[Key, PyTree, ActorID], PyTree]:
    policy = random_policy(trial.env)

    def act(key: Key, obs: PyTree, actor: ActorID) -> PyTree:
        return policy(key, obs, None, actor)

    return jax.jit(act, static_argnames="actor")
