"""`collect`: the one place where env and policy meet inside a compiled program.

Training, evaluation and rollouts step envs through here, sub-step by sub-step of the
env's schedule, which is unrolled. Values of final observations are computed only where
an episode was truncated, a few rows at a time, so truncation is exact and costs next to
nothing.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mazejax.algos import events
from mazejax.base import Pytree
from mazejax.envs.base import select
from mazejax.envs.structured import flat_reward
from mazejax.envs.vector import VectorEnv, VectorState
from mazejax.events.epoch import EpochStatistics, EventSummary
from mazejax.events.statistics import EpisodeStatistics
from mazejax.events.topic import Event
from mazejax.types import ActorID, Array, Key, PyTree, Rollout, Transition


class Acted(NamedTuple):
    """What a policy answers to observations [N, ...]; of agents at once [N, A, ...]."""

    action: PyTree
    """As drawn, [N, ...]: what learners see."""
    env_action: PyTree
    """As the env takes it, [N, ...]: clipped to its space, for instance."""
    log_prob: Array
    """[N] float32."""
    value: Array
    """[N] float32."""
    carry: PyTree
    """The policy's memory after it acted, [N, ...]."""
    entropy: Array | None = None
    """Of the distribution that the action is from, [N] float32, where it is known."""


Act = Callable[[Key, PyTree, PyTree], Acted]
"""(keys [N], obs [N, ...], carry [N, ...]) -> Acted; of agents at once with axes [N, A]."""

Evaluate = Callable[[PyTree, PyTree], Array]
"""(obs [R, ...], carry [R, ...]) -> values [R] float32."""

Policies = Mapping[ActorID, Act]
"""How each actor of the schedule acts."""

Critics = Mapping[ActorID, Evaluate]
"""What each actor of the schedule thinks an observation is worth."""


class CollectState(Pytree):
    """Where the envs and the policies' memory stand between two rollouts."""

    envs: VectorState
    obs: PyTree
    """Of the first actor, [N, ...]."""
    carry: tuple[PyTree, ...]
    """The policies' memory by sub-step, [N, ...] each."""
    episode_return: Array
    """Reward so far in each running episode, [N] float32."""
    episode_length: Array
    """Flat steps so far in each running episode, [N] int32."""
    statistics: EpisodeStatistics | None = None
    """Of the events of each running episode, [N]; None where none are kept."""


class Episodes(Pytree):
    """Episodes by the flat step in which they ended, [T, N]; meaningful where `ended`."""

    ended: Array
    """bool."""
    returns: Array
    """Sum of the rewards of the episode so far, over sub-steps and agents, float32."""
    lengths: Array
    """Flat steps of the episode so far, int32."""
    statistics: dict[str, EventSummary] | None = None
    """Of the events of all episodes that ended, where they are kept."""


class FlatStep(NamedTuple):
    """What one flat step of every env yields."""

    transitions: dict[str, Transition]
    """By step key, [N, ...] or, where it has several slots, [N, S, ...]."""
    episodes: Episodes
    """[N]."""
    final_obs: tuple[PyTree, ...]
    """What each actor would see before the reset, by sub-step."""
    final_carry: tuple[PyTree, ...]
    """Memory before the reset, by sub-step."""
    end: events.EpisodeEnd | None
    """Statistics and states before the reset, where statistics are kept."""


Watch = Callable[[PyTree, FlatStep, Array], PyTree]
"""(what was seen before, a flat step, which envs [N] count) -> what was seen."""


def start(
    env: VectorEnv,
    key: Key,
    carry: tuple[PyTree, ...] | None = None,
    keep: tuple[Event, ...] = (),
) -> CollectState:
    """Reset the envs; the carry is what the policies begin each episode with, by sub-step.

    Statistics are kept of the events of `keep`, as `algos.events.to_keep` lists them.
    """
    obs, envs = env.reset(key)
    return CollectState(
        envs=envs,
        obs=obs,
        carry=_no_memory(env) if carry is None else carry,
        episode_return=jnp.zeros(env.num_envs, jnp.float32),
        episode_length=jnp.zeros(env.num_envs, jnp.int32),
        statistics=events.start(env, keep) if keep else None,
    )


def collect(
    env: VectorEnv,
    policies: Policies,
    critics: Critics,
    state: CollectState,
    num_steps: int,
    initial_carry: tuple[PyTree, ...] | None = None,
) -> tuple[CollectState, Rollout, Episodes]:
    """A rollout of `num_steps` flat steps in every env, continuing where the last ended.

    `next_value` of the rollout is, for each slot, the value of its true next observation:
    of the final one, with the memory from before the reset, where an episode was
    truncated; of the one in the following flat step elsewhere (unused where terminated).
    `initial_carry` is what policies with a memory begin each episode with, by sub-step.
    """
    actors, before = env.actors, state.carry

    def values(obs: tuple[PyTree, ...], carry: tuple[PyTree, ...]) -> tuple[Array, ...]:
        each = zip(actors, obs, carry, strict=True)
        return tuple(critics[actor](o, c) for actor, o, c in each)

    def one_step(loop: tuple, _: None) -> tuple[tuple, tuple]:
        state, now = step(env, policies, loop[0], initial_carry)
        ends = now.transitions[actors[0].step_key]
        bootstrap = ends.truncated & ~ends.terminated
        final_value = values_where(values, bootstrap, now.final_obs, now.final_carry)
        epoch = _add_ended(env, loop[1], now, now.episodes.ended)
        return (state, epoch), (now.transitions, final_value, now.episodes)

    (state, epoch), (transitions, final_value, episodes) = jax.lax.scan(
        one_step, (state, _start_epoch(env, state)), None, length=num_steps
    )
    seen = (state.obs, *(env.observe_as(state.envs, i) for i in range(1, len(actors))))
    last = by_step_key(actors, values(seen, state.carry))
    finals = by_step_key(actors, final_value, slot_axis=2)
    next_value = {
        key: _next_value(steps, finals[key], last[key]) for key, steps in transitions.items()
    }
    memory = {} if initial_carry is None else by_step_key(actors, before)
    return state, Rollout(transitions, next_value, memory), _with_statistics(episodes, epoch)


def step(
    env: VectorEnv,
    policies: Policies,
    state: CollectState,
    initial_carry: tuple[PyTree, ...] | None = None,
) -> tuple[CollectState, FlatStep]:
    """One flat step of every env: each actor of the schedule observes, acts and is stepped."""
    envs, obs, carries, taken = state.envs, state.obs, [], []
    rewards: list[Array] = []
    fired: list[events.SubStep] = []
    info: dict[str, PyTree] = {}
    for actor, carry in zip(env.actors, state.carry, strict=True):
        acted = policies[actor](_policy_keys(env, envs, actor), obs, carry)
        active = env.actor_active(envs) if env.has_inactive_actors else None
        stepped, end = env.step_and_end(envs, acted.env_action)
        taken.append((obs, acted, active, stepped.info.get("actor_done")))
        fired.append(events.SubStep(actor, stepped.info, acted.value, acted.entropy, active))
        rewards.append(stepped.reward)
        carries.append(acted.carry)
        envs, obs, info = stepped.state, stepped.obs, stepped.info
    done = stepped.terminated | stepped.truncated
    credit = info.get("actor_rewards", tuple(rewards))
    transitions = by_step_key(
        env.actors,
        [
            Transition(
                obs=seen,
                action=acted.action,
                reward=reward,
                terminated=stepped.terminated,
                truncated=stepped.truncated,
                log_prob=acted.log_prob,
                value=acted.value,
                active=active,
                actor_done=gone,
            )
            for (seen, acted, active, gone), reward in zip(taken, credit, strict=True)
        ],
    )
    episodes = Episodes(
        ended=done,
        returns=state.episode_return + flat_reward(rewards, batch_ndim=1),
        lengths=state.episode_length + 1,
    )
    fresh = _no_memory(env) if initial_carry is None else initial_carry
    statistics, ending = state.statistics, None
    if statistics is not None:
        statistics = events.add_flat_step(statistics, fired)
        ending = events.EpisodeEnd(statistics, end)
        statistics = select(done, events.start(env, statistics.events), statistics)
    new_state = CollectState(
        envs=envs,
        obs=obs,
        carry=select(done, fresh, tuple(carries)),
        episode_return=jnp.where(done, 0.0, episodes.returns),
        episode_length=jnp.where(done, 0, episodes.lengths),
        statistics=statistics,
    )
    final_obs = info["final_obs"] if len(env.actors) > 1 else (info["final_obs"],)
    return new_state, FlatStep(transitions, episodes, final_obs, tuple(carries), ending)


def by_step_key(
    actors: tuple[ActorID, ...], substeps: Any, slot_axis: int = 1
) -> dict[str, PyTree]:
    """What belongs to each sub-step, by step key; several sub-steps of one key on a new axis S.

    Leaves are [N, ...] each, or [T, N, ...] with `slot_axis` 2. Flags of the flat step
    (`terminated`, `truncated`) have no slots and stay as they are.
    """
    grouped: dict[str, list[PyTree]] = {}
    for actor, part in zip(actors, substeps, strict=True):
        grouped.setdefault(actor.step_key, []).append(part)
    return {key: _stack_slots(parts, slot_axis) for key, parts in grouped.items()}


def values_where(evaluate: Any, where: Array, obs: PyTree, carry: PyTree) -> PyTree:
    """Values [N, ...] of the rows where the mask [N] is true, 0 elsewhere.

    `evaluate(obs [R, ...], carry [R, ...])` gives a tree of values [R, ...]. Rows are
    evaluated in blocks, as many blocks as the mask asks for: exact for any pattern, and
    no work when nothing was truncated.
    """
    num_envs = where.shape[0]
    block = min(num_envs, max(8, num_envs // 16))

    def evaluate_block(loop: tuple[Array, PyTree]) -> tuple[Array, PyTree]:
        left, values = loop
        rows = jnp.nonzero(left, size=block, fill_value=num_envs)[0]
        taken = jax.tree.map(lambda leaf: leaf.at[rows].get(mode="clip"), (obs, carry))
        values = jax.tree.map(
            lambda all_, some: all_.at[rows].set(some, mode="drop"), values, evaluate(*taken)
        )
        return left.at[rows].set(False, mode="drop"), values

    shapes = jax.eval_shape(evaluate, obs, carry)
    nothing = jax.tree.map(lambda s: jnp.zeros(s.shape, jnp.float32), shapes)
    return jax.lax.while_loop(lambda loop: loop[0].any(), evaluate_block, (where, nothing))[1]


def run_episodes(
    env: VectorEnv,
    policies: Policies,
    key: Key,
    max_steps: int,
    initial_carry: tuple[PyTree, ...] | None = None,
    keep: tuple[Event, ...] = (),
) -> Episodes:
    """The first episode of every env, [N]; `ended` is false where `max_steps` did not suffice.

    Statistics of the events of `keep` are those of the episodes that ended.
    """
    return watch_episodes(env, policies, key, max_steps, initial_carry, keep=keep)[0]


def watch_episodes(
    env: VectorEnv,
    policies: Policies,
    key: Key,
    max_steps: int,
    initial_carry: tuple[PyTree, ...] | None = None,
    watch: Watch | None = None,
    seen: PyTree = (),
    keep: tuple[Event, ...] = (),
) -> tuple[Episodes, PyTree]:
    """The first episode of every env, as `run_episodes`, and what a watcher makes of them.

    `watch` folds every flat step of them into `seen`, told which envs' episodes still run.
    """

    def one_step(loop: tuple) -> tuple:
        time, state, first, seen, epoch = loop
        state, now = step(env, policies, state, initial_carry)
        if watch is not None:
            seen = watch(seen, now, ~first.ended)
        epoch = _add_ended(env, epoch, now, now.episodes.ended & ~first.ended)
        return time + 1, state, select(first.ended, first, now.episodes), seen, epoch

    def goes_on(loop: tuple) -> Array:
        return (loop[0] < max_steps) & ~loop[2].ended.all()

    nothing = Episodes(
        ended=jnp.zeros(env.num_envs, bool),
        returns=jnp.zeros(env.num_envs, jnp.float32),
        lengths=jnp.zeros(env.num_envs, jnp.int32),
    )
    state = start(env, key, initial_carry, keep)
    begin = (jnp.zeros((), jnp.int32), state, nothing, seen, _start_epoch(env, state))
    _, _, episodes, seen, epoch = jax.lax.while_loop(goes_on, one_step, begin)
    return _with_statistics(episodes, epoch), seen


def _start_epoch(env: VectorEnv, state: CollectState) -> EpochStatistics | None:
    if state.statistics is None:
        return None
    return events.start_epoch(env, state.statistics, state.envs)


def _add_ended(
    env: VectorEnv, epoch: EpochStatistics | None, now: FlatStep, ended: Array
) -> EpochStatistics | None:
    if epoch is None or now.end is None:
        return epoch
    return events.add_episodes(env, epoch, now.end, ended)


def _with_statistics(episodes: Episodes, epoch: EpochStatistics | None) -> Episodes:
    return episodes if epoch is None else episodes.replace(statistics=epoch.summaries())


def _no_memory(env: VectorEnv) -> tuple[PyTree, ...]:
    return ((),) * len(env.actors)


def _policy_keys(env: VectorEnv, state: VectorState, actor: ActorID) -> Key:
    """Keys [N] that the actor's policy draws from, [N, A] of agents at once."""
    keys = env.keys(state, "policy")
    if actor.agent_id is not None:
        return keys
    agents = jnp.arange(env.agent_counts[actor.step_key])
    return jax.vmap(lambda key: jax.vmap(lambda a: jax.random.fold_in(key, a))(agents))(keys)


def _stack_slots(parts: list[PyTree], axis: int) -> PyTree:
    if len(parts) == 1:
        return parts[0]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves, axis), *parts)
    if isinstance(stacked, Transition):
        first = parts[0]
        stacked = stacked.replace(terminated=first.terminated, truncated=first.truncated)
    return stacked


def _next_value(steps: Transition, final: Array, last: Array) -> Array:
    """Values [T, N, ...] of what follows each step: `final` where truncated, `last` at the end."""
    following = jnp.concatenate([steps.value[1:], last[None]])
    truncated = steps.truncated.reshape(steps.truncated.shape + (1,) * (final.ndim - 2))
    return jnp.where(truncated, final, following)
