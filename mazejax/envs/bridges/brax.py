"""Environments of brax 0.14 as ours.

`make` takes the env classes that brax registers, without brax's wrappers, and mends at
the border what our contract asks for: dtypes that stay from reset to step, bool flags,
time. The state leaves out what no step ever reads, which is most of MuJoCo's. Dynamics,
observations, rewards and metrics are brax's.
"""

import contextlib
import functools
import inspect
import io
import math
import operator
import types
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import partial_eval

from mazejax import random
from mazejax.base import Pytree, is_concrete, static
from mazejax.envs.base import Env, StateStep, flag
from mazejax.envs.bridges.options import constant
from mazejax.errors import ConfigError, EnvError, did_you_mean
from mazejax.registry import MissingPackageError
from mazejax.spaces.base import Space
from mazejax.spaces.composite import Dict
from mazejax.spaces.simple import Box
from mazejax.types import Array, Key, PyTree

if TYPE_CHECKING:
    import brax.envs

BACKENDS = ("generalized", "mjx", "positional", "spring")
"""Physics engines of brax: reduced coordinates, MuJoCo's, positions and springs."""

_BROKEN = {"swimmer": "its fluid forces call jnp.clip with a_min, which jax 0.10 does not know"}


def environment_names() -> tuple[str, ...]:
    """Names of brax's environments that work, and of those registered with it."""
    return tuple(name for name in _brax().envs._envs if name not in _BROKEN)


# "spring" steps fastest. In one run on two cores, 256 ants made 14,000 steps/s with it after 12 s
# of compiling; "mjx" 13,000 (21 s), "positional" 6,500 (10 s), "generalized" 6,200 (25 s).
def make(name: str, max_steps: int = 1000, backend: str = "spring", **options: Any) -> "BraxEnv":
    """The brax environment of this name, truncated after `max_steps`.

    The backend is one of `BACKENDS`, which differ in dynamics. brax's own default is
    "generalized": there `check_env` finds tracers in a cache of jaxopt, its solver, which
    do no harm. Options are arguments of brax's constructor, such as
    `reset_noise_scale=0.2`, and constants of the program. Raises ConfigError for an
    unknown name, backend or option.
    """
    _check_name(name)
    if backend not in BACKENDS:
        raise ConfigError(
            f"brax/{name} has no backend {backend!r}; {did_you_mean(backend, BACKENDS)}"
        )
    known = _option_names(name)
    for key in sorted(options.keys() - known):
        shown = known | {"max_steps"}
        raise ConfigError(f"brax/{name} has no parameter {key!r}; {did_you_mean(key, shown)}")
    if "backend" in known:
        options["backend"] = backend
    chosen = tuple(sorted((key, constant(key, value)) for key, value in options.items()))
    _layout(name, chosen)  # so that an env which cannot be bridged is refused here
    return BraxEnv(max_steps=max_steps, env_id=name, options=chosen)


class BraxState(Pytree):
    """State of a `BraxEnv`."""

    inner: PyTree
    """brax's `State` with its observation; None where no step reads it."""
    time: Array
    """Steps since the reset, int32 []."""


class BraxEnv(Env):
    """A brax environment, known by its name: build it with `make`.

    brax's `done` terminates, the time limit truncates. Its metrics are the info, float32.
    """

    max_steps: Array | int
    """Steps that an episode may last; a leaf."""
    env_id: str = static()
    """brax's name of the environment."""
    options: tuple[tuple[str, Any], ...] = static()
    """Arguments of its constructor, the backend among them, sorted."""

    def validate(self) -> None:
        """Raise ConfigError unless the limit is a positive whole number."""
        limit = self.max_steps
        if is_concrete(limit) and not np.all(np.asarray(limit) >= 1):
            raise ConfigError(f"BraxEnv.max_steps: must be at least 1, got {limit}")

    @property
    def observation_space(self) -> Space:
        """Without bounds; a Dict where brax observes a dict."""
        return _unbounded(self._layout.state.obs)

    @property
    def action_space(self) -> Box:
        """Within [-1, 1], as all of brax's."""
        return Box(-1.0, 1.0, (self.game.action_size,))

    @property
    def name(self) -> str:
        """The name in brax."""
        return self.env_id

    @property
    def game(self) -> "brax.envs.Env":
        """The brax object itself; one for all equal names and options."""
        return _game(self.env_id, self.options)

    @property
    def _layout(self) -> "_Layout":
        return _layout(self.env_id, self.options)

    def reset_state(self, key: Key) -> BraxState:
        """First state and observation, together."""
        with jax.numpy_rank_promotion("allow"):
            state = self.game.reset(key)
        return BraxState(self._layout.pack(state), jnp.zeros((), jnp.int32))

    def step_state(self, key: Key, state: BraxState, action: Array) -> StateStep:
        """A step of brax, which draws nothing: the key is not used."""
        action = jnp.asarray(action, jnp.float32)
        with jax.numpy_rank_promotion("allow"):
            new = self.game.step(self._layout.unpack(state.inner), action)
        time = state.time + 1
        return StateStep(
            BraxState(self._layout.pack(new), time),
            jnp.asarray(new.reward, jnp.float32),
            flag(new.done),
            flag(time >= self.max_steps),
            {name: jnp.asarray(value, jnp.float32) for name, value in new.metrics.items()},
        )

    def observe(self, state: BraxState) -> PyTree:
        """The observation that came with the state."""
        return state.inner.obs

    def time(self, state: BraxState) -> Array:
        """Steps since the reset, int32."""
        return state.time


class _Layout(NamedTuple):
    """What the states of an environment hold: dtypes that its steps keep, and what they read."""

    state: Any
    """brax's `State` of `jax.ShapeDtypeStruct`."""
    is_kept: tuple[bool, ...]
    """Of its leaves."""

    def pack(self, state: PyTree) -> PyTree:
        """The state in these dtypes, with None for what is not kept."""
        wanted, structure = jax.tree.flatten(self.state)
        leaves = zip(jax.tree.leaves(state), wanted, self.is_kept, strict=True)
        return jax.tree.unflatten(
            structure,
            [_as_declared(leaf, want) if kept else None for leaf, want, kept in leaves],
        )

    def unpack(self, packed: PyTree) -> PyTree:
        """A state that brax steps, with 0 for what is not kept."""
        wanted, structure = jax.tree.flatten(self.state)
        leaves = iter(jax.tree.leaves(packed))
        # The dicts in it are new ones, since brax's steps change that of the metrics in place.
        return jax.tree.unflatten(
            structure,
            [
                next(leaves) if kept else jnp.zeros(want.shape, want.dtype)
                for want, kept in zip(wanted, self.is_kept, strict=True)
            ],
        )


def _brax() -> types.ModuleType:
    """The package. Importing it prints and warns about packages that are not needed here."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import brax.envs
    except ImportError as error:
        reason = str(error).partition("\n")[0]
        raise MissingPackageError(
            f"environment brax/...: cannot import brax ({reason}); pip install 'mazejax[envs]'"
        ) from error
    return brax


def _check_name(name: str) -> None:
    if name in _BROKEN:
        raise ConfigError(
            f"brax/{name} is not offered: {_BROKEN[name]}; take another one, such as 'brax/ant'"
        )
    known = environment_names()
    if name not in known:
        raise ConfigError(f"brax has no environment {name!r}; {did_you_mean(name, known)}")


def _option_names(name: str) -> set[str]:
    """What the constructor takes: its arguments, and its base's where it passes others on."""
    names: set[str] = set()
    for cls in _brax().envs._envs[name].__mro__:
        if "__init__" not in vars(cls):
            continue
        parameters = inspect.signature(cls).parameters.values()
        names |= {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return names - {"sys"}  # the system of bodies, which the classes make themselves


@functools.cache
def _game(env_id: str, options: tuple[tuple[str, Any], ...]) -> "brax.envs.Env":
    """The brax object: it has no equality by value, so equal names and options share one."""
    envs = _brax().envs
    # It holds arrays, which must not become tracers when this is first called in jit.
    with jax.ensure_compile_time_eval(), jax.numpy_rank_promotion("allow"):
        try:
            return envs.get_environment(env_id, **dict(options))
        except (TypeError, ValueError, NotImplementedError) as error:
            reason = str(error).rstrip(".")
            raise ConfigError(f"brax/{env_id}: {reason}; got {dict(options)}, change it") from error


@functools.cache
def _layout(env_id: str, options: tuple[tuple[str, Any], ...]) -> _Layout:
    """Found by tracing reset and step; once for all equal names and options."""
    game = _game(env_id, options)
    action = jax.ShapeDtypeStruct((game.action_size,), jnp.float32)
    with jax.numpy_rank_promotion("allow"):
        state = _fixed_point(game, action)
        return _Layout(state, _read_by_steps(game, state, action))


def _fixed_point(game: "brax.envs.Env", action: Any) -> PyTree:
    """Shapes and dtypes that hold what a reset gives, and what steps make of it."""
    first = jax.eval_shape(game.reset, jax.eval_shape(lambda: random.key(0)))
    state = jax.tree.map(_wider, first, first)  # itself, of strong types
    while True:
        new = jax.eval_shape(game.step, state, action)
        if jax.tree.structure(new) != jax.tree.structure(state):
            raise EnvError(
                f"{type(game).__name__}: reset and step of this brax env give states of different "
                f"structures, expected one; let reset fill in what step adds"
            )
        wider = jax.tree.map(_wider, state, new)
        if jax.tree.leaves(wider) == jax.tree.leaves(state):
            return state
        state = wider


def _wider(one: Any, other: Any) -> jax.ShapeDtypeStruct:
    dtype = one.dtype if one.dtype == other.dtype else jnp.promote_types(one.dtype, other.dtype)
    return jax.ShapeDtypeStruct(jnp.broadcast_shapes(one.shape, other.shape), dtype)


def _read_by_steps(game: "brax.envs.Env", state: PyTree, action: Any) -> tuple[bool, ...]:
    """The observation, keys, and what a caller comes to see in this step or in a later one."""
    leaves, structure = jax.tree.flatten(state)

    def step(leaves: list[Array], action: Array) -> list[Array]:
        return jax.tree.leaves(game.step(jax.tree.unflatten(structure, leaves), action))

    program = jax.make_jaxpr(step)(leaves, action).jaxpr
    hidden = {
        "pipeline_state": _marked(state.pipeline_state, False),
        "info": _marked(state.info, False),
    }
    needed = jax.tree.leaves(_marked(state, True).replace(**hidden))
    while True:
        read = partial_eval.dce_jaxpr(program, needed)[1][: len(leaves)]
        more = [*map(operator.or_, needed, read)]
        if more == needed:
            break
        needed = more
    observed = jax.tree.leaves(_marked(state, False).replace(obs=_marked(state.obs, True)))
    keys = [jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    return tuple(map(any, zip(read, observed, keys, strict=True)))


def _marked(tree: PyTree, mark: bool) -> PyTree:
    return jax.tree.map(lambda _: mark, tree)


def _as_declared(leaf: Any, wanted: jax.ShapeDtypeStruct) -> Array:
    # Keys stay of the caller's implementation.
    if random.is_key(leaf):
        return leaf
    return jnp.broadcast_to(jnp.asarray(leaf, wanted.dtype), wanted.shape)


def _unbounded(obs: Any) -> Space:
    if isinstance(obs, Mapping):
        return Dict({key: _unbounded(value) for key, value in obs.items()})
    return Box(-math.inf, math.inf, obs.shape, obs.dtype)
