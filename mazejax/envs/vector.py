"""`VectorEnv`: many envs as one, with auto-reset.

Core states are stepped, reset where an episode ended, and observed once after that.
Every draw follows from (root key, global env index, episode, time, purpose), so that
trajectories depend neither on the reset strategy nor on how many envs stand beside.
"""

import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mazejax import random
from mazejax.base import Pytree, is_concrete, static
from mazejax.envs import reset as reset_strategies
from mazejax.envs.base import Env, StateStep, check_action
from mazejax.envs.parameters import get_leaf, set_leaves
from mazejax.errors import ConfigError, EnvError
from mazejax.spaces.base import Space
from mazejax.types import ActorID, Array, Key, PyTree, Step


class VectorState(Pytree):
    """State of a `VectorEnv`; its keys live here."""

    envs: PyTree
    """States of the envs, [N, ...]."""
    episode: Array
    """Episodes that each env has begun before this one, uint32 [N]."""
    root: Key
    """Key that everything drawn in these envs derives from."""


class VectorEnv(Pytree):
    """`num_envs` copies of an env, stepped together, each reset when its episode ends.

        VectorEnv(env, 64, batched={"gravity": jnp.linspace(8.0, 12.0, 64)})

    steps 64 different worlds. `auto_reset` is `always` (reset all, select), `compact`
    (reset only those that ended) or `auto` (by the counted cost of a reset); all give the same
    trajectories. A key of another implementation than `key_impl` seeds one of it.
    """

    compile_time: ClassVar[bool] = True

    env: Env
    num_envs: int = static()
    """Envs stepped together, N."""
    auto_reset: str = static(default="auto")
    """`auto`, `always` or `compact`."""
    batched: dict[str, Array] | None = None
    """Numbers of the env, by field name, with a value for every env: [N, ...]."""
    key_impl: str = static(default=random.DEFAULT_IMPL)
    """Implementation of the keys that envs draw from: `counter`, `threefry2x32`, ..."""

    def validate(self) -> None:
        """Raise ConfigError for a bad size, strategy, key implementation or batched number."""
        if not isinstance(self.env, Env):
            raise ConfigError(f"VectorEnv.env: expected an Env, got {type(self.env).__name__}")
        if (
            isinstance(self.num_envs, bool)
            or not isinstance(self.num_envs, (int, np.integer))
            or self.num_envs < 1
        ):
            raise ConfigError(f"num_envs: must be a positive integer, got {self.num_envs!r}")
        reset_strategies.check_strategy(self.auto_reset)
        jax.eval_shape(lambda: random.key(0, self.key_impl))
        if not isinstance(self.batched, dict | None):
            raise ConfigError(f"batched: expected a dict of numbers by name, got {self.batched!r}")
        for name, values in (self.batched or {}).items():
            self._check_batched(name, values)

    @property
    def observation_space(self) -> Space:
        """Space of one env's observation."""
        return self.env.observation_space

    @property
    def action_space(self) -> Space:
        """Space of one env's action."""
        return self.env.action_space

    def reset(self, key: Key) -> tuple[PyTree, VectorState]:
        """First observations [N, ...] and state; the key is the root of all that is drawn."""
        root = random.as_key(key, self.key_impl)
        if root.shape:
            raise ConfigError(f"reset: expected one key, got {root.shape}; vmap over several")
        episode = jnp.zeros(self.num_envs, jnp.uint32)
        envs = self._reset_rows(root, episode, None)
        state = VectorState(envs, episode, root)
        return self.observe(state), state

    def step(self, state: VectorState, action: PyTree) -> Step:
        """One step of every env, [N, ...]; those that ended begin a new episode.

        `obs` is the first observation of the new episode where `done`; `reward` and the
        flags are of the step itself; `info["final_obs"]` is the observation before the
        reset (costs nothing when unread under jit).
        """
        check_action(self.action_space, action, batch_shape=(self.num_envs,))
        stepped = self._step_states(state, action)
        done = stepped.terminated | stepped.truncated
        episode = state.episode + done
        envs = reset_strategies.reset_ended(
            self.strategy(),
            stepped.state,
            done,
            lambda rows: self._reset_rows(state.root, episode, rows),
        )
        new_state = VectorState(envs, episode, state.root)
        if "final_obs" in stepped.info:
            raise EnvError(
                f"{self.env}: info['final_obs'] is VectorEnv's to give; rename the env's"
            )
        info = {**stepped.info, "final_obs": self._observe(stepped.state)}
        return Step(
            self.observe(new_state),
            new_state,
            stepped.reward,
            stepped.terminated,
            stepped.truncated,
            info,
        )

    def observe(self, state: VectorState) -> PyTree:
        """Observations [N, ...] of a state."""
        return self._observe(state.envs)

    def keys(self, state: VectorState, name: str) -> Key:
        """Keys [N] of this moment for a purpose, such as "policy"; other names, other draws."""
        episode_keys = self._episode_keys(state.root, state.episode, None)
        times = self._map_envs(lambda env, s: env.time(s), None, state.envs)
        return jax.vmap(lambda key, t: random.stream(jax.random.fold_in(key, t), name))(
            episode_keys, times
        )

    def actor_id(self, state: VectorState) -> ActorID:
        """Who acts next, in all envs alike; known while tracing."""
        return self.env.actor_id(state.envs)

    def strategy(self) -> str:
        """The reset strategy in force: `auto` resolved by counting, without compiling."""
        if self.auto_reset != "auto":
            return self.auto_reset
        if is_concrete(self.env):
            return _cheapest_strategy(self.env, self.key_impl)
        return _cheapest_strategy.__wrapped__(self.env, self.key_impl)

    def _check_batched(self, name: str, values: Any) -> None:
        """Raise ConfigError unless there is a number for every env, of the kind it replaces."""
        number = get_leaf(self.env, name)
        wanted = (self.num_envs, *np.shape(number))
        if np.shape(values) != wanted:
            raise ConfigError(
                f"batched[{name!r}]: got shape {np.shape(values)}, expected {wanted}, "
                f"one value for every env"
            )
        if not is_concrete((values, number)):
            return
        given, like = np.asarray(values), np.asarray(number)
        if given.dtype.kind not in "iuf" or (like.dtype.kind in "iu" and given.dtype.kind == "f"):
            raise ConfigError(
                f"batched[{name!r}]: got {given.dtype}, expected numbers such as {number!r}"
            )
        for extreme in (given.min(axis=0), given.max(axis=0)):
            set_leaves(self.env, {name: extreme.item() if extreme.ndim == 0 else extreme})

    def _map_envs(self, function: Any, rows: Array | None, *args: PyTree) -> PyTree:
        """`function(env, *args)` for the envs of these rows (None: all), each with its numbers."""
        if not self.batched:
            return jax.vmap(lambda *row: function(self.env, *row))(*args)
        numbers = {
            name: _take(jnp.asarray(values, jnp.result_type(get_leaf(self.env, name))), rows)
            for name, values in self.batched.items()
        }
        return jax.vmap(lambda own, *row: function(set_leaves(self.env, own), *row))(numbers, *args)

    def _episode_keys(self, root: Key, episode: Array, rows: Array | None) -> Key:
        def episode_key(row: Array, episode: Array) -> Key:
            return jax.random.fold_in(jax.random.fold_in(root, row), episode)

        every = jnp.arange(self.num_envs, dtype=jnp.int32)
        return jax.vmap(episode_key)(_take(every, rows), _take(episode, rows))

    def _reset_rows(self, root: Key, episode: Array, rows: Array | None) -> PyTree:
        keys = self._episode_keys(root, episode, rows)
        return self._map_envs(
            lambda env, key: env.reset_state(random.stream(key, "reset")), rows, keys
        )

    def _step_states(self, state: VectorState, action: PyTree) -> StateStep:
        keys = self.keys(state, "env")
        return self._map_envs(
            lambda env, *row: env.step_state(*row), None, keys, state.envs, action
        )

    def _observe(self, envs: PyTree) -> PyTree:
        return self._map_envs(lambda env, s: env.observe(s), None, envs)


def _take(values: Array, rows: Array | None) -> Array:
    return values if rows is None else values[rows]


@functools.lru_cache(maxsize=256)
def _cheapest_strategy(env: Env, key_impl: str) -> str:
    key = jax.eval_shape(lambda: random.key(0, key_impl))
    return reset_strategies.choose(env.reset_state, key)
