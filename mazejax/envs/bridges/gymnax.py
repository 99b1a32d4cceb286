"""Environments of gymnax 1.0 as ours.

`make` wraps gymnax's functions that do not reset by themselves, and mends at the border
what our contract asks for: strong types that stay from reset to step, observations of
the declared dtype, float32 rewards, bool flags. Dynamics, observations, time limits and
infos are gymnax's. Three of its environments leave the observation space that they
declare: GaussianBandit (rewards and times below 0), MemoryChain (a context of -1) and
MetaMaze (a last reward of 10).
"""

import dataclasses
import functools
import inspect
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from mazejax.base import Pytree, is_concrete, static
from mazejax.envs.base import Env, StateStep, flag
from mazejax.envs.bridges.options import constant
from mazejax.errors import ConfigError, did_you_mean
from mazejax.spaces import convert
from mazejax.spaces.base import Space
from mazejax.types import Array, Key, PyTree

if TYPE_CHECKING:
    from gymnax.environments.environment import Environment

_DOWNLOADS = {"MNISTBandit-bsuite": "it downloads the MNIST images when it is made"}


def environment_names() -> tuple[str, ...]:
    """Names of gymnax's environments that need no download, and of those registered with it."""
    import gymnax

    return tuple(name for name in gymnax.registered_envs if name not in _DOWNLOADS)


def make(name: str, **params: Any) -> "GymnaxEnv":
    """The gymnax environment of this name.

    Keywords that are fields of its `EnvParams` become leaves under `params`; the others
    are options of its constructor, such as `size=10` of DeepSea-bsuite. Raises
    ConfigError for an unknown name or keyword.
    """
    _check_name(name)
    constructor = inspect.signature(type(_game(name, ()))).parameters
    options = {key: constant(key, params[key]) for key in params if key in constructor}
    chosen = tuple(sorted(options.items()))
    game = _game(name, chosen)
    defaults = _default_params(game)
    known = {field.name for field in dataclasses.fields(defaults)}
    for key in sorted(params.keys() - options.keys() - known):
        raise ConfigError(
            f"gymnax/{name} has no parameter {key!r}; {did_you_mean(key, known | {*constructor})}"
        )
    own = defaults.replace(**{key: params[key] for key in params if key not in options})
    spaces = _spaces(game, own if is_concrete(own) else defaults)
    return GymnaxEnv(params=own, env_id=name, options=chosen, spaces=spaces)


class GymnaxState(Pytree):
    """State of a `GymnaxEnv`."""

    inner: PyTree
    """gymnax's own state."""
    obs: PyTree
    """Observation that came with it: gymnax may draw it, or take it from the state before."""


class GymnaxEnv(Env):
    """A gymnax environment, known by its name: build it with `make`.

    Its time limit, `params.max_steps_in_episode`, truncates. What gymnax keeps over
    episodes (DeepSea's bad episodes, for its benchmark) starts anew with each.
    """

    params: PyTree
    """gymnax's `EnvParams`; its numbers are leaves."""
    env_id: str = static()
    """gymnax's name of the environment."""
    spaces: tuple[Space, Space] = static()
    """Of observations and actions, as gymnax declares them for the params at construction."""
    options: tuple[tuple[str, Any], ...] = static(default=())
    """Arguments of its constructor that are not defaults, sorted."""

    @property
    def observation_space(self) -> Space:
        """As gymnax declares it; three of its environments do not keep to the bounds."""
        return self.spaces[0]

    @property
    def action_space(self) -> Space:
        """As gymnax declares it."""
        return self.spaces[1]

    @property
    def name(self) -> str:
        """The name in gymnax."""
        return self.env_id

    @property
    def game(self) -> "Environment":
        """The gymnax object itself; one for all equal names and options."""
        return _game(self.env_id, self.options)

    def reset_state(self, key: Key) -> GymnaxState:
        """First state and observation, together."""
        with jax.numpy_rank_promotion("allow"):
            obs, inner = self.game.reset_env(key, self.params)
        return GymnaxState(jax.tree.map(_strong, inner), self._as_declared(obs))

    def step_state(self, key: Key, state: GymnaxState, action: Array) -> StateStep:
        """A step of gymnax without its reset."""
        action = jnp.asarray(action, self.action_space.dtype)
        with jax.numpy_rank_promotion("allow"):
            obs, inner, reward, terminated, info = self.game.step_env(
                key, state.inner, action, self.params
            )
            truncated = self.game.is_truncated(inner, self.params)
        inner = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), inner, state.inner)
        return StateStep(
            GymnaxState(inner, self._as_declared(obs)),
            jnp.asarray(reward, jnp.float32),
            flag(terminated),
            flag(truncated),
            jax.tree.map(_strong, info),
        )

    def observe(self, state: GymnaxState) -> PyTree:
        """The observation that came with the state."""
        return state.obs

    def time(self, state: GymnaxState) -> Array:
        """Steps since the reset, which every gymnax state counts; int32."""
        return jnp.asarray(state.inner.time, jnp.int32)

    def _as_declared(self, obs: PyTree) -> PyTree:
        # Some of gymnax's observations have another dtype than their space (FourRooms, Catch).
        return jax.tree.map(jnp.asarray, obs, self.observation_space.dtype)


def _check_name(name: str) -> None:
    if name in _DOWNLOADS:
        raise ConfigError(
            f"gymnax/{name} is not offered: {_DOWNLOADS[name]}; take one of its other bandits, "
            f"such as 'gymnax/SimpleBandit-bsuite'"
        )
    known = environment_names()
    if name not in known:
        raise ConfigError(f"gymnax has no environment {name!r}; {did_you_mean(name, known)}")


@functools.cache
def _game(env_id: str, options: tuple[tuple[str, Any], ...]) -> "Environment":
    """The gymnax object: it has no equality by value, so equal names and options share one."""
    import gymnax

    # Its constructors make arrays, which must not become tracers when this is first called in jit.
    with jax.ensure_compile_time_eval():
        return gymnax.make(env_id, **dict(options))[0]


def _default_params(game: "Environment") -> Any:
    with jax.ensure_compile_time_eval():
        return game.default_params


def _spaces(game: "Environment", params: Any) -> tuple[Space, Space]:
    with jax.ensure_compile_time_eval():
        return (
            convert.from_gymnax(game.observation_space(params), "observation_space"),
            convert.from_gymnax(game.action_space(params), "action_space"),
        )


def _strong(leaf: Any) -> Array:
    return jnp.asarray(leaf, jnp.result_type(leaf))
