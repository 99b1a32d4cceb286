"""Episodes played for their events, by policies that remember and by others.

They are those of `mazejax.envs.play`, many at once and some steps at a time, so that
neither their number nor their length decides how much memory a device needs.
"""

import collections.abc
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mazejax import random
from mazejax.algos.base import Algorithm
from mazejax.algos.events import of_rewards
from mazejax.base import Pytree
from mazejax.envs import keys
from mazejax.envs.base import Env, select
from mazejax.envs.declared import declared_events
from mazejax.envs.episode import Policy
from mazejax.envs.structured import flat_reward
from mazejax.errors import EnvError
from mazejax.events.epoch import EpochStatistics, EventSummary
from mazejax.events.log import EventLog
from mazejax.events.statistics import EpisodeStatistics
from mazejax.types import ActorID, Array, Key, PyTree

MAX_EPISODES = 256
"""Episodes that are played at once."""

MAX_STEPS = 128
"""Flat steps after which the events of these are fetched from the device."""

MAX_LOG_BYTES = 2**26
"""Memory for the events until then; where events are large, fewer steps are taken."""


class RememberingPolicy(NamedTuple):
    """A policy with variables and a memory, as `trained_policy` makes it."""

    act: Callable[[PyTree, Key, PyTree, PyTree, ActorID, PyTree], tuple[PyTree, PyTree]]
    """(variables, key, obs, maze_state, actor, memory) -> action and memory, of one env."""
    variables: PyTree
    memory: tuple[PyTree, ...]
    """What episodes begin with, by sub-step."""


def trained_policy(
    algorithm: Algorithm, variables: PyTree, deterministic: bool = True
) -> RememberingPolicy:
    """The policy of an algorithm with these variables, by its mode or drawn; with its memory."""
    memory = algorithm.initial_carry(1)
    actors = algorithm.env.actors
    return RememberingPolicy(
        _trained_act(algorithm, deterministic),
        variables,
        ((),) * len(actors) if memory is None else memory,
    )


def as_remembering(policy: Policy | RememberingPolicy, env: Env) -> RememberingPolicy:
    """The policy itself, or one without memory that acts as it does."""
    if isinstance(policy, RememberingPolicy):
        return policy
    hashable = isinstance(policy, collections.abc.Hashable)
    act = _forgetful(policy) if hashable else _forgetful.__wrapped__(policy)
    return RememberingPolicy(act, (), ((),) * len(env.actors))


class Playing(Pytree):
    """Where an episode stands."""

    key: Key
    state: PyTree
    obs: PyTree
    memory: tuple[PyTree, ...]
    length: Array
    terminated: Array
    truncated: Array
    episode_return: Array
    statistics: EpisodeStatistics


class Fired(NamedTuple):
    """Events of K flat steps of B episodes, by sub-step; nothing after the end."""

    time: Array
    """[B, K] int32."""
    logs: tuple[EventLog | None, ...]
    """[B, K, ...]."""


class Played(NamedTuple):
    """B episodes that were played, on the host."""

    end: Playing
    """[B], the key on the device."""
    fired: list[Any]
    """What was kept of their `Fired`, in the order of time."""
    kpis: dict[str, np.ndarray]
    """By name, [B]; {} if the env has none."""
    summaries: dict[str, EventSummary]
    """Statistics of the episodes that ended, by name."""


def play_batches(
    env: Env,
    player: RememberingPolicy,
    root: Key,
    num_episodes: int,
    max_steps: int,
    keep: Callable[[Fired], Any],
) -> Iterator[Played]:
    """All episodes, a batch of at most `MAX_EPISODES` at a time.

    `keep` makes of events, on the host, what is kept of them. Raises EnvError if the env
    fires no events.
    """
    num_played = min(num_episodes, MAX_EPISODES)
    fitting = MAX_LOG_BYTES // _step_bytes(env, player, num_played)
    num_steps = min(MAX_STEPS, max_steps, max(1, fitting))
    begin, advance, conclude = _compiled(env, player.act, num_steps)
    for first in range(0, num_episodes, num_played):
        # The last batch is as large as the others, for one program; what is too many is dropped.
        playing = begin(root, first + np.arange(num_played, dtype=np.uint32), player.memory)
        count, chunks = min(num_played, num_episodes - first), []
        for _ in range(math.ceil(max_steps / num_steps)):
            playing, fired = advance(player.variables, playing, np.int32(max_steps))
            chunks.append(keep(_first(count, jax.device_get(fired))))
            if np.all(np.asarray(playing.terminated | playing.truncated)[:count]):
                break
        kpis, summaries = jax.device_get(conclude(playing, np.int32(count)))
        yield Played(_first(count, playing), chunks, _first(count, kpis), summaries)


def _first(count: int, tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[:count], tree)


def _step_bytes(env: Env, player: RememberingPolicy, num_played: int) -> int:
    """Bytes of the events of one flat step of so many episodes."""

    def one_step(root: Key, variables: PyTree, memory: PyTree) -> Fired:
        playing = _begin(env, root, jnp.zeros((), jnp.uint32), memory)
        return _flat_step(env, player.act, variables, playing, jnp.ones((), jnp.int32))[1]

    root = jax.eval_shape(lambda: random.key(0))
    fired = jax.eval_shape(one_step, root, player.variables, player.memory)
    if not any(log is not None and log.firings for log in fired.logs):
        raise EnvError(f"{env}: fires no events: no step returns an EventLog in info['events']")
    return num_played * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(fired))


@functools.lru_cache(maxsize=8)
def _compiled(env: Env, act: Any, num_steps: int) -> tuple[Any, Any, Any]:
    """Jitted: B episodes at their beginning, `num_steps` flat steps, and what comes of them."""

    def begin(root: Key, indices: Array, memory: PyTree) -> Playing:
        return jax.vmap(lambda index: _begin(env, root, index, memory))(indices)

    def advance(variables: PyTree, playing: Playing, max_steps: Array) -> tuple[Playing, Fired]:
        def one_episode(playing: Playing) -> tuple[Playing, Fired]:
            return jax.lax.scan(
                lambda now, _: _flat_step(env, act, variables, now, max_steps),
                playing,
                None,
                length=num_steps,
            )

        return jax.vmap(one_episode)(playing)

    def kpis(playing: Playing) -> dict[str, Array]:
        calculator = env.kpi_calculator()
        if calculator is None:
            return {}
        return calculator.calculate(playing.statistics, env.maze_state(playing.state))

    def conclude(playing: Playing, count: Array) -> tuple[dict[str, Array], dict]:
        """KPIs [B], and the statistics of the first `count` episodes as far as they ended."""
        ended = (playing.terminated | playing.truncated) & (jnp.arange(len(playing.length)) < count)
        own = jax.vmap(kpis)(playing)
        epoch = EpochStatistics.start(playing.statistics, tuple(sorted(own)))
        rewards = of_rewards(ended, playing.episode_return, playing.length)
        return own, {**rewards, **epoch.add(playing.statistics, own, ended).summaries()}

    return jax.jit(begin), jax.jit(advance), jax.jit(conclude)


def first_key(root: Key, index: Array) -> Key:
    """Key of the first episode of the env with this index."""
    return keys.episode_key(root, index, jnp.zeros((), jnp.uint32))


def _begin(env: Env, root: Key, index: Array, memory: PyTree) -> Playing:
    key = first_key(root, index)
    state, no = env.reset_state(keys.reset_key(key)), jnp.zeros((), bool)
    return Playing(
        key=key,
        state=state,
        obs=env.observe(state),
        memory=memory,
        length=jnp.zeros((), jnp.int32),
        terminated=no,
        truncated=no,
        episode_return=jnp.zeros((), jnp.float32),
        statistics=EpisodeStatistics.start(declared_events(env)),
    )


def _flat_step(
    env: Env, act: Any, variables: PyTree, now: Playing, max_steps: Array
) -> tuple[Playing, Fired]:
    """One flat step, in which nothing changes once the episode ended: as `envs.play` has it."""
    goes_on = ~(now.terminated | now.truncated) & (now.length < max_steps)
    time, state, obs = env.time(now.state), now.state, now.obs
    memory, rewards, logs = [], [], []
    for index, (actor, mine) in enumerate(zip(env.actors, now.memory, strict=True)):
        policy_key, env_key = (
            keys.moment_key(now.key, env.time(state), index, name) for name in ("policy", "env")
        )
        action, mine = act(variables, policy_key, obs, env.maze_state(state), actor, mine)
        step = env.step(env_key, state, action)
        state, obs, log = step.state, step.obs, step.info.get("events")
        memory.append(mine)
        rewards.append(step.reward)
        logs.append(log.keep_where(goes_on) if isinstance(log, EventLog) else None)
    new = now.replace(
        state=state,
        obs=obs,
        memory=tuple(memory),
        length=now.length + 1,
        terminated=step.terminated,
        truncated=step.truncated,
        episode_return=now.episode_return + flat_reward(rewards),
        statistics=now.statistics.add(*(log for log in logs if log is not None)),
    )
    return select(goes_on, new, now), Fired(time, tuple(logs))


@functools.lru_cache(maxsize=8)
def _trained_act(algorithm: Algorithm, deterministic: bool) -> Any:
    """One function for equal algorithms, so that their programs are compiled once."""

    def act(
        variables: PyTree, key: Key, obs: PyTree, maze_state: PyTree, actor: ActorID, memory: PyTree
    ) -> tuple[PyTree, PyTree]:
        if actor.agent_id is None:
            agents = jnp.arange(algorithm.env.agent_counts[actor.step_key])
            key = jax.vmap(jax.random.fold_in, (None, 0))(key, agents)
        one = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], obs)
        acted = algorithm.policies(variables, deterministic)[actor](key[None], one, memory)
        return jax.tree.map(lambda leaf: leaf[0], acted.env_action), acted.carry

    return act


@functools.lru_cache(maxsize=8)
def _forgetful(policy: Policy) -> Any:
    def act(
        variables: PyTree, key: Key, obs: PyTree, maze_state: PyTree, actor: ActorID, memory: PyTree
    ) -> tuple[PyTree, PyTree]:
        return policy(key, obs, maze_state, actor), memory

    return act
