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
from mazejax.envs import keys
from mazejax.envs import reset as reset_strategies
from mazejax.envs.base import Env, StateStep, check_action, select
from mazejax.envs.parameters import check_batched, get_leaf, set_leaves
from mazejax.envs.reset_params import EpisodeEnd, ResetParams
from mazejax.envs.structured import agent_axis, flat_reward
from mazejax.errors import ConfigError, EnvError
from mazejax.events.statistics import EpisodeStatistics
from mazejax.spaces.base import Space
from mazejax.types import ActorID, Array, Key, PyTree, Step


class EpisodeParams(Pytree):
    """Numbers that a `ResetParams` hook chose, [N, ...]."""

    numbers: dict[str, Array]
    """Of the running episodes, by field name."""
    memory: PyTree
    """What the hook remembers."""
    episode_return: Array
    """Reward so far in each running episode, float32."""


class VectorState(Pytree):
    """State of a `VectorEnv`; its keys live here."""

    envs: PyTree
    """States of the envs, [N, ...]."""
    episode: Array
    """Episodes that each env has begun before this one, uint32 [N]."""
    root: Key
    """Key that everything drawn in these envs derives from."""
    params: EpisodeParams | None = None
    """Where there is a `reset_params` hook."""
    pool: PyTree = ()
    """Initial states [P, ...] where `auto_reset` is `pool`."""


class VectorEnv(Pytree):
    """`num_envs` copies of an env, stepped together, each reset when its episode ends.

        VectorEnv(env, 64, batched={"gravity": jnp.linspace(8.0, 12.0, 64)})

    steps 64 different worlds. `auto_reset` is `always` (reset all, select), `compact`
    (reset only those that ended) or `auto` (by the counted cost of a reset); all give the
    same trajectories. `pool` begins episodes in one of `pool_size` states made beforehand:
    for very expensive resets, and approximate, since initial states repeat. What outlives
    episodes, such as running moments, the env takes over from its last state (`carry_over`).
    A key of another implementation than `key_impl` seeds one of it.

    Inside `shard_map`, give the name of the mesh axis and the number of envs on each
    device: envs then draw as they would in one VectorEnv over all of them.
    """

    compile_time: ClassVar[bool] = True

    env: Env
    num_envs: int = static()
    """Envs stepped together, N."""
    auto_reset: str = static(default="auto")
    """`auto`, `always`, `compact` or `pool`."""
    batched: dict[str, Array] | None = None
    """Numbers of the env, by field name, with a value for every env: [N, ...]."""
    key_impl: str = static(default=random.DEFAULT_IMPL)
    """Implementation of the keys that envs draw from: `counter`, `threefry2x32`, ..."""
    reset_params: ResetParams | None = None
    """Hook that chooses numbers of the env at each reset: randomization, curricula."""
    pool_size: int = static(default=1024)
    """Initial states of the strategy `pool`, P."""
    axis_name: str | None = static(default=None)
    """Mesh axis of `shard_map` over which envs are spread; None on one device."""
    first_env: Array | int = 0
    """Index of the first env, where these are a part of more: they draw as they would there."""

    def validate(self) -> None:
        """Raise ConfigError for a bad size, strategy, key implementation or number."""
        if not isinstance(self.env, Env):
            raise ConfigError(f"VectorEnv.env: expected an Env, got {type(self.env).__name__}")
        for name in ("num_envs", "pool_size"):
            size = getattr(self, name)
            if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
                raise ConfigError(f"{name}: must be a positive integer, got {size!r}")
        reset_strategies.check_strategy(self.auto_reset)
        jax.eval_shape(lambda: random.key(0, self.key_impl))
        if not isinstance(self.batched, dict | None):
            raise ConfigError(f"batched: expected a dict of numbers by name, got {self.batched!r}")
        for name, values in (self.batched or {}).items():
            check_batched(self.env, name, values, self.num_envs)
        self._check_hook()

    @property
    def observation_space(self) -> Space:
        """Space of one agent's observation, where there is a single step key."""
        return self.env.observation_space

    @property
    def action_space(self) -> Space:
        """Space of one agent's action, where there is a single step key."""
        return self.env.action_space

    @property
    def observation_spaces(self) -> dict[str, Space]:
        """Space of one agent's observation by step key."""
        return self.env.observation_spaces

    @property
    def action_spaces(self) -> dict[str, Space]:
        """Space of one agent's action by step key."""
        return self.env.action_spaces

    @property
    def actors(self) -> tuple[ActorID, ...]:
        """The env's schedule: one `step` for each of its entries makes a flat step."""
        return self.env.actors

    @property
    def agent_counts(self) -> dict[str, int]:
        """Agents per step key."""
        return self.env.agent_counts

    @property
    def has_inactive_actors(self) -> bool:
        """Whether `actor_active` may ever be false."""
        return self.env.has_inactive_actors

    def reset(self, key: Key) -> tuple[PyTree, VectorState]:
        """First observations [N, ...] and state; the key is the root of all that is drawn."""
        root = random.as_key(key, self.key_impl)
        if root.shape:
            raise ConfigError(f"reset: expected one key, got {root.shape}; vmap over several")
        episode = jnp.zeros(self.num_envs, jnp.uint32)
        params = self._first_params(root, episode)
        pool = self._make_pool(root) if self.auto_reset == "pool" else ()
        state = VectorState((), episode, root, params, pool)
        state = state.replace(envs=self._reset_rows(state, None))
        return self.observe(state), state

    def step(self, state: VectorState, action: PyTree) -> Step:
        """One sub-step of every env, [N, ...]; after the last, those that ended begin anew.

        `obs` is the first observation of the new episode where `done`; `reward` and the
        flags are of the step itself; `info["final_obs"]` is the observation before the
        reset (costs nothing when unread under jit), of a structured env a tuple of what
        each actor of the schedule would see. Before the last sub-step the flags tell that
        the rest of the flat step stands still.
        """
        return self.step_and_end(state, action)[0]

    def step_and_end(self, state: VectorState, action: PyTree) -> tuple[Step, VectorState]:
        """`step`, and the state that it led to before any episode began anew."""
        actor = self.actor_id(state)
        check_action(self.action_spaces[actor.step_key], action, self._batch_shape(actor))
        stepped = self._step_states(state, action)
        if "final_obs" in stepped.info:
            raise EnvError(
                f"{self.env}: info['final_obs'] is VectorEnv's to give; rename the env's"
            )
        end, info = state.replace(envs=stepped.state), stepped.info
        new_state = end
        if self.env.substep(stepped.state) == 0:
            info = {**info, "final_obs": self._final_obs(end)}
            new_state = self._reset_ended(end, stepped)
        elif state.params is not None:
            new_state = end.replace(params=self._earn(state.params, stepped.reward))
        step = Step(
            self.observe(new_state),
            new_state,
            stepped.reward,
            stepped.terminated,
            stepped.truncated,
            info,
        )
        return step, end

    def kpis(self, end: VectorState, episodes: EpisodeStatistics) -> dict[str, Array]:
        """KPIs by name, [N] each, of the running episodes [N] in a state; {} without any."""
        if self.env.kpi_calculator() is None:
            return {}

        def calculate(env: Env, own: PyTree, episode: EpisodeStatistics) -> dict[str, Array]:
            calculator = env.kpi_calculator()
            return {} if calculator is None else calculator.calculate(episode, env.maze_state(own))

        return self._map_envs(calculate, end, None, end.envs, episodes)

    def observe(self, state: VectorState) -> PyTree:
        """Observations [N, ...] of a state, for the actor that acts next."""
        return self._map_envs(lambda env, s: env.observe(s), state, None, state.envs)

    def observe_as(self, state: VectorState, substep: int) -> PyTree:
        """Observations [N, ...] of a state as the actor of this sub-step would see it."""
        return self._map_envs(
            lambda env, s: env.observe(env.at_substep(s, substep)), state, None, state.envs
        )

    def keys(self, state: VectorState, name: str) -> Key:
        """Keys [N] of this moment for a purpose, such as "policy"; other names, other draws."""
        episode_keys = self.episode_keys(state)
        times = self._map_envs(lambda env, s: env.time(s), state, None, state.envs)
        substep = self.env.substep(state.envs)
        return jax.vmap(lambda key, time: keys.moment_key(key, time, substep, name))(
            episode_keys, times
        )

    def episode_keys(self, state: VectorState) -> Key:
        """Keys [N] of the running episodes: what `env.replay` plays them again from."""
        return self._episode_keys(state.root, state.episode, None)

    def actor_id(self, state: VectorState) -> ActorID:
        """Who acts next, in all envs alike; known while tracing."""
        return self.env.actor_id(state.envs)

    def actor_active(self, state: VectorState) -> Array:
        """Whether the next actor acts, bool [N] or [N, A]; else its action has no effect."""
        return self._map_envs(lambda env, s: env.actor_active(s), state, None, state.envs)

    def strategy(self) -> str:
        """The reset strategy in force: `auto` resolved by counting, without compiling."""
        if self.auto_reset != "auto":
            return self.auto_reset
        if is_concrete(self.env):
            return _cheapest_strategy(self.env, self.key_impl)
        return _cheapest_strategy.__wrapped__(self.env, self.key_impl)

    def _final_obs(self, state: VectorState) -> PyTree:
        if len(self.actors) == 1:
            return self.observe(state)
        return tuple(self.observe_as(state, substep) for substep in range(len(self.actors)))

    def _batch_shape(self, actor: ActorID) -> tuple[int, ...]:
        return (self.num_envs, *agent_axis(actor, self.agent_counts))

    def _reset_ended(self, state: VectorState, stepped: StateStep) -> VectorState:
        """The state in which the envs whose episode ended have begun a new one."""
        done = stepped.terminated | stepped.truncated
        state = state.replace(episode=state.episode + done)
        if self.reset_params is not None and state.params is not None:
            params = self._next_params(self.reset_params, state.params, state, stepped)
            state = state.replace(params=params)
        strategy = self.strategy()
        reset_rows = self._pool_rows if strategy == "pool" else self._reset_rows
        envs = reset_strategies.reset_ended(
            strategy,
            state.envs,
            done,
            lambda rows: reset_rows(state, rows),
            functools.partial(self._carry_over, state) if self.env.has_carry_over else None,
        )
        return state.replace(envs=envs)

    def _carry_over(
        self, state: VectorState, rows: Array | None, ended: PyTree, fresh: PyTree
    ) -> PyTree:
        """The fresh states of these rows, with what the env carries over from those of all."""
        ended = jax.tree.map(lambda leaf: _take(leaf, rows), ended)
        return self._map_envs(
            lambda env, *states: env.carry_over(*states), state, rows, ended, fresh
        )

    def _map_envs(
        self, function: Any, state: VectorState, rows: Array | None, *args: PyTree
    ) -> PyTree:
        """`function(env, *args)` for the envs of these rows (None: all), each with its numbers."""
        given = {**(self.batched or {}), **(state.params.numbers if state.params else {})}
        if not given:
            return jax.vmap(lambda *row: function(self.env, *row))(*args)
        numbers = {
            name: _take(jnp.asarray(values, jnp.result_type(get_leaf(self.env, name))), rows)
            for name, values in given.items()
        }
        return jax.vmap(lambda own, *row: function(set_leaves(self.env, own), *row))(numbers, *args)

    def _episode_keys(self, root: Key, episode: Array, rows: Array | None) -> Key:
        every = jnp.arange(self.num_envs, dtype=jnp.int32) + jnp.asarray(self.first_env, jnp.int32)
        if self.axis_name is not None:
            every += jax.lax.axis_index(self.axis_name).astype(jnp.int32) * self.num_envs
        return jax.vmap(keys.episode_key, in_axes=(None, 0, 0))(
            root, _take(every, rows), _take(episode, rows)
        )

    def _reset_rows(self, state: VectorState, rows: Array | None) -> PyTree:
        episode_keys = self._episode_keys(state.root, state.episode, rows)
        return self._map_envs(
            lambda env, key: env.reset_state(keys.reset_key(key)), state, rows, episode_keys
        )

    def _step_states(self, state: VectorState, action: PyTree) -> StateStep:
        step_keys = self.keys(state, "env")
        return self._map_envs(
            lambda env, *row: env.step_state(*row), state, None, step_keys, state.envs, action
        )

    # --- states made beforehand -----------------------------------------------------

    def _make_pool(self, root: Key) -> PyTree:
        entries = jnp.arange(self.pool_size, dtype=jnp.int32)
        entry_keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(
            random.stream(root, "pool"), entries
        )
        return jax.vmap(self.env.reset_state)(entry_keys)

    def _pool_rows(self, state: VectorState, rows: Array | None) -> PyTree:
        episode_keys = self._episode_keys(state.root, state.episode, rows)
        entries = jax.vmap(lambda key: random.randint(keys.reset_key(key), (), self.pool_size))(
            episode_keys
        )
        return jax.tree.map(lambda leaf: leaf[entries], state.pool)

    # --- numbers chosen at each reset -------------------------------------------------

    def _first_params(self, root: Key, episode: Array) -> EpisodeParams | None:
        hook = self.reset_params
        if hook is None:
            return None
        first = hook.init()
        memory = jax.tree.map(lambda x: jnp.broadcast_to(x, (self.num_envs, *x.shape)), first)
        numbers = _sample_numbers(hook, self._episode_keys(root, episode, None), memory)
        return EpisodeParams(numbers, memory, jnp.zeros(self.num_envs, jnp.float32))

    def _next_params(
        self, hook: ResetParams, params: EpisodeParams, state: VectorState, stepped: StateStep
    ) -> EpisodeParams:
        """The hook's memory of the episodes that ended, and the numbers of those that begin."""
        done = stepped.terminated | stepped.truncated
        before = self._earn(params, stepped.reward)
        length = self._map_envs(lambda env, s: env.time(s), state, None, state.envs)
        ended = EpisodeEnd(before.episode_return, length, stepped.terminated, stepped.truncated)
        memory = select(done, jax.vmap(hook.update)(before.memory, ended), before.memory)
        numbers = _sample_numbers(hook, self.episode_keys(state), memory)
        return EpisodeParams(
            numbers=select(done, numbers, before.numbers),
            memory=memory,
            episode_return=jnp.where(done, 0.0, before.episode_return),
        )

    def _earn(self, params: EpisodeParams, reward: Array) -> EpisodeParams:
        return params.replace(episode_return=params.episode_return + flat_reward([reward], 1))

    def _check_hook(self) -> None:
        """Raise ConfigError unless the hook chooses numbers that the env has."""
        hook = self.reset_params
        if self.auto_reset == "pool" and (hook is not None or self.batched):
            raise ConfigError(
                "auto_reset: 'pool' makes initial states before it is known which numbers an "
                "env has; use 'compact' with batched or reset_params"
            )
        if hook is None:
            return
        if not isinstance(hook, ResetParams):
            raise ConfigError(f"reset_params: expected a ResetParams, got {type(hook).__name__}")
        key = jax.eval_shape(lambda: random.key(0, self.key_impl))
        for name, number in jax.eval_shape(lambda k: hook.sample(k, hook.init()), key).items():
            wanted = np.shape(get_leaf(self.env, name))
            if name in (self.batched or {}):
                raise ConfigError(f"reset_params: {name!r} is batched already; choose it once")
            if number.shape != wanted:
                raise ConfigError(
                    f"reset_params: {name!r} has shape {number.shape}, expected {wanted}"
                )


def _sample_numbers(hook: ResetParams, episode_keys: Key, memory: PyTree) -> dict[str, Array]:
    params_keys = jax.vmap(lambda key: random.stream(key, "params"))(episode_keys)
    return jax.vmap(hook.sample)(params_keys, memory)


def _take(values: Array, rows: Array | None) -> Array:
    return values if rows is None else values[rows]


@functools.lru_cache(maxsize=256)
def _cheapest_strategy(env: Env, key_impl: str) -> str:
    key = jax.eval_shape(lambda: random.key(0, key_impl))
    if not env.has_carry_over:
        return reset_strategies.choose(env.reset_state, key)

    def reset_again(key: Key, ended: PyTree) -> PyTree:
        return env.carry_over(ended, env.reset_state(key))

    return reset_strategies.choose(reset_again, key, jax.eval_shape(env.reset_state, key))
