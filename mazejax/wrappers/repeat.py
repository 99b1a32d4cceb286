"""Wrappers that take actions again: for several steps at a time, or by chance.

Both count flat steps and work on schedules: what is repeated are the actions of all
sub-steps of a flat step.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mazejax import random
from mazejax.base import is_concrete, static
from mazejax.envs.base import Env, StateStep, select
from mazejax.envs.structured import agent_axis, flat_reward
from mazejax.errors import ConfigError, did_you_mean
from mazejax.events.log import EventLog, Firings
from mazejax.types import ActorID, Array, Key, PyTree
from mazejax.wrappers.base import StatefulWrapper, WrapperState, active_action

_MODES = ("sticky", "noop")
_UNROLLED = 8


class StepSkip(StatefulWrapper):
    """One flat step of the agent is `n_steps` flat steps of the wrapped env.

    After the last sub-step, the flat step is taken n_steps - 1 times more: with the same
    actions of all its sub-steps (`sticky`, also where a mask has changed meanwhile) or with
    the noop actions of its conversions (`noop`). Nothing is taken after an end.

    Rewards add up, without a discount. The last sub-step returns what the repeated ones earned,
    of agents at once each what it earned by itself and an equal share of the rest. Where
    slots have rewards of their own, `info["actor_rewards"]` tells by sub-step what was
    earned. Time and limits around this wrapper count the agent's flat steps. Events of all
    steps come in one log with room for all of them; other extras are those of the last step
    that was taken.
    """

    n_steps: int = static(default=4)
    """Flat steps of the wrapped env in one of the agent's."""
    skip_mode: str = static(default="sticky")
    """`sticky` or `noop`."""

    def validate(self) -> None:
        """Raise ConfigError for a bad number or mode, EnvError where there is no noop action."""
        n = self.n_steps
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
            raise ConfigError(f"StepSkip.n_steps: must be a positive integer, got {n!r}")
        if self.skip_mode not in _MODES:
            suggestion = did_you_mean(str(self.skip_mode), _MODES)
            raise ConfigError(f"StepSkip.skip_mode: unknown {self.skip_mode!r}; {suggestion}")
        if self.skip_mode == "noop":
            jax.eval_shape(lambda: _noop_actions(self.env))

    @property
    def has_actor_rewards(self) -> bool:
        """The wrapped env's; also where agents at once and others act in one flat step."""
        many = any(count > 1 for count in self.agent_counts.values())
        return self.env.has_actor_rewards or (len(self.actors) > 1 and many)

    def first(self, key: Key, inner: PyTree) -> tuple:
        """No sub-step taken."""
        return ()

    def time(self, state: WrapperState) -> Array:
        """Flat steps of the agent since the reset, int32; one that an end cut short counts."""
        return (self.env.time(state.inner) + (self.n_steps - 1)) // self.n_steps

    def from_maze_state(
        self, maze_state: PyTree, time: Array | int, substep: int = 0, previous: PyTree = None
    ) -> WrapperState:
        """The state that stands at a recorded maze state; `time` counts the agent's flat steps."""
        return super().from_maze_state(maze_state, time * self.n_steps, substep, previous)

    def step_state(self, key: Key, state: WrapperState, action: PyTree) -> StateStep:
        """The wrapped env's sub-step, and after the last the repeated flat steps.

        The first of them draws with the key itself, as without this wrapper.
        """
        step = self.env.step_state(key, state.inner, action)
        taken = (*state.memory, (active_action(self.env, state.inner, action), step.reward))
        if self.env.substep(step.state) != 0:
            info = self._with_events(step.info, ())
            return step._replace(state=WrapperState(step.state, taken), info=info)
        actions = tuple(action for action, _ in taken)
        again = _noop_actions(self.env) if self.skip_mode == "noop" else actions
        last, repeated = self._repeat(key, step, again)
        return self._summed(step, last, tuple(reward for _, reward in taken), repeated)

    def _repeat(
        self, key: Key, step: StateStep, actions: tuple[PyTree, ...]
    ) -> tuple[StateStep, tuple[StateStep, ...]]:
        """The last step that was taken, and by sub-step the repeated ones [n_steps - 1, ...].

        Those have no state, and are all zeros where the episode had ended before.
        """

        def one_flat_step(last: StateStep, index: Array) -> tuple[StateStep, tuple]:
            ended = last.terminated | last.truncated
            state, substeps = last.state, []
            for substep, action in enumerate(actions):
                own = jax.random.fold_in(jax.random.fold_in(key, index), substep)
                step = self.env.step_state(own, state, action)
                state = step.state
                substeps.append(step._replace(state=()))
            nothing = jax.tree.map(jnp.zeros_like, substeps)
            return select(ended, last, step), tuple(select(ended, nothing, substeps))

        indices = jnp.arange(1, self.n_steps, dtype=jnp.uint32)
        unroll = self.n_steps - 1 if 1 < self.n_steps <= _UNROLLED else 1
        return jax.lax.scan(one_flat_step, step, indices, unroll=unroll)

    def _summed(
        self,
        step: StateStep,
        last: StateStep,
        rewards: tuple[Array, ...],
        repeated: tuple[StateStep, ...],
    ) -> StateStep:
        """The agent's last sub-step: what came of the wrapped env's and of the repeated ones."""
        info = {**last.info, **self._with_events(step.info, repeated)}
        if "reward_original" in info:
            originals = [again.info["reward_original"] for again in repeated]
            info["reward_original"] = _with_repeated(step.info["reward_original"], originals)
        if self.env.has_actor_rewards:
            more = repeated[-1].info["actor_rewards"]
            pairs = zip(step.info["actor_rewards"], more, strict=True)
            info["actor_rewards"] = tuple(credit + own.sum(0) for credit, own in pairs)
        elif self.has_actor_rewards:
            pairs = zip(rewards, repeated, strict=True)
            info["actor_rewards"] = tuple(own + again.reward.sum(0) for own, again in pairs)
        return last._replace(
            state=WrapperState(last.state, ()),
            reward=_with_repeated(step.reward, [again.reward for again in repeated]),
            info=info,
        )

    def _with_events(self, info: dict[str, PyTree], repeated: tuple[StateStep, ...]) -> dict:
        """The extras with a log that has room for the events of all repeated sub-steps."""
        log = info.get("events")
        if not isinstance(log, EventLog):
            return info if not repeated else {}
        logs = [again.info["events"] for again in repeated]
        room = (self.n_steps - 1) * len(self.actors)
        joined = {
            name: _joined(first, [log.firings[name] for log in logs], room)
            for name, first in log.firings.items()
        }
        return {**({} if repeated else info), "events": log.replace(firings=joined)}


class StickyMemory(NamedTuple):
    """What an actor did last in a sub-step."""

    action: PyTree
    """[...], or [A, ...] of agents at once; zeros before the first."""
    has_acted: Array
    """bool [] or [A]."""


class StickyActions(StatefulWrapper):
    """Repeats with a probability what the actor did last, in the place of its action.

    What was repeated may be repeated again. In a schedule every sub-step has a last
    action of its own, of agents at once every agent, and each is repeated or not by itself.
    An actor's first action of an episode is never replaced. A mask may have changed meanwhile.
    Machado et al., 2018, arXiv:1709.06009, who take 0.25.
    """

    probability: float = 0.25
    """Of a repetition, in every sub-step anew."""

    def validate(self) -> None:
        """Raise ConfigError unless it is a probability."""
        probability = self.probability
        if is_concrete(probability) and not np.all((0 <= probability) & (probability <= 1)):
            raise ConfigError(f"StickyActions.probability: must be from 0 to 1, got {probability}")

    def first(self, key: Key, inner: PyTree) -> tuple[StickyMemory, ...]:
        """Nothing done, by sub-step."""
        memories = []
        for actor in self.actors:
            axis = agent_axis(actor, self.agent_counts)
            nothing = jax.tree.map(
                lambda like, axis=axis: jnp.zeros((*axis, *like.shape), like.dtype),
                _action_like(self.env, actor),
            )
            memories.append(StickyMemory(nothing, jnp.zeros(axis, bool)))
        return tuple(memories)

    def step_state(self, key: Key, state: WrapperState, action: PyTree) -> StateStep:
        """The wrapped env's step under the action, or under the last one."""
        substep = self.env.substep(state.inner)
        last, active = state.memory[substep], self.env.actor_active(state.inner)
        like = _action_like(self.env, self.actors[substep])
        given = jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype), action, like)
        bits = jax.random.bits(random.stream(key, "sticky"), active.shape, jnp.uint32)
        # 24 bits, which float32 holds: never below 0 and always below 1.
        repeats = (bits >> 8).astype(jnp.float32) * np.float32(2**-24) < self.probability
        taken = select(repeats & last.has_acted, last.action, given)
        step = self.env.step_state(key, state.inner, taken)
        new = StickyMemory(select(active, taken, last.action), last.has_acted | active)
        memory = (*state.memory[:substep], new, *state.memory[substep + 1 :])
        return step._replace(state=WrapperState(step.state, memory))


class JoinedFirings(Firings):
    """The firings of one event in several steps: slots of one after those of another."""

    slots: Array
    """Which of them hold a firing, bool [capacity]."""
    lost_before: Array
    """Firings that found no slot in their own step, int32 []."""

    @property
    def fired(self) -> Array:
        """[capacity] bool: which slots hold a firing."""
        return self.slots

    @property
    def lost(self) -> Array:
        """Firings whose attributes found no slot, int32 []."""
        return self.lost_before


def _joined(first: Firings, repeated: list[Firings], room: int) -> Firings:
    """Firings of one sub-step and of the repeated ones, [n, ...] by sub-step, in their order."""
    count = first.count + sum(again.count.sum() for again in repeated)
    if first.capacity is None:
        return Firings(count, {})
    fired = [jax.vmap(lambda firings: firings.fired)(again) for again in repeated]
    lost = sum((jax.vmap(lambda f: f.lost)(again).sum() for again in repeated), first.lost)
    size = first.capacity * (1 + room)
    attributes = {
        name: _in_order(values, [again.attributes[name] for again in repeated], size)
        for name, values in first.attributes.items()
    }
    return JoinedFirings(count, attributes, _in_order(first.fired, fired, size), lost)


def _in_order(first: Array, repeated: list[Array], size: int) -> Array:
    """The slots of one sub-step, of the repeated ones, [n, slots, ...] each, and zeros."""
    rows = first
    if repeated:
        again = jnp.stack(repeated, axis=1)
        rows = jnp.concatenate([first, again.reshape(-1, *first.shape[1:])])
    return jnp.pad(rows, [(0, size - len(rows)), *[(0, 0)] * (rows.ndim - 1)])


def _with_repeated(reward: Array, repeated: list[Array]) -> Array:
    """The reward of the last sub-step with those [n, ...] of all repeated ones, by sub-step."""
    *others, own = [again.sum(0) for again in repeated]
    if not others:
        return reward + own
    return reward + own + flat_reward(others) / reward.size


def _noop_actions(env: Env) -> tuple[PyTree, ...]:
    """The noop action of every sub-step, of agents at once for each of them."""
    actions = []
    for actor in env.actors:
        axis = agent_axis(actor, env.agent_counts)
        like = env.noop_action(actor.step_key)
        actions.append(
            jax.tree.map(lambda x, axis=axis: jnp.broadcast_to(x, (*axis, *np.shape(x))), like)
        )
    return tuple(actions)


def _action_like(env: Env, actor: ActorID) -> Any:
    """Shapes and dtypes of one agent's action."""
    space = env.action_spaces[actor.step_key]
    return jax.eval_shape(lambda: space.sample(random.key(0)))
