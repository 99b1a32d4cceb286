"""`ObservationStack`: the last few observations as one, for policies without a memory.

The state remembers the observations before the current one, which is appended when the
state is observed. So a state shows every actor its own stack, the last observation of an
episode is stacked from that episode, and recorded states are stacked like live ones.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mazejax.base import Pytree, static
from mazejax.envs.base import StateStep
from mazejax.envs.structured import map_agents
from mazejax.errors import ConfigError, did_you_mean
from mazejax.spaces.base import Space
from mazejax.spaces.composite import Dict
from mazejax.spaces.simple import Box, Discrete, MultiBinary, MultiDiscrete
from mazejax.types import ActorID, Array, Key, PyTree
from mazejax.wrappers.base import StatefulWrapper, WrapperState
from mazejax.wrappers.observations import (
    check_masks,
    check_name,
    named,
    observation_names,
    unnamed,
    unnamed_space,
)
from mazejax.wrappers.settings import as_entries

STACK_MODES = ("flatten_history", "group_by_actor_id")


class StackedObservation(Pytree):
    """How one observation is stacked."""

    observation: str = static(default="observation")
    """Its name; `observation` where the env has a single one without a name."""
    keep_original: bool = static(default=False)
    """Whether the observation itself stays, beside its stack; needs a tag."""
    tag: str | None = static(default=None)
    """The stack is called `OBSERVATION-TAG`; None puts it in the place of the observation."""
    delta: bool = static(default=False)
    """Whether the stack holds changes from one to the next, and last the current one; float32."""
    stack_steps: int = static(default=4)
    """Observations in the stack, the current one among them."""

    def validate(self) -> None:
        """Raise ConfigError for a size below 1, or an original without a place."""
        steps = self.stack_steps
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ConfigError(f"stack_steps: must be a whole number of at least 1, got {steps!r}")
        if self.keep_original and self.tag is None:
            raise ConfigError(
                f"keep_original: {self.observation!r} cannot stay where its stack takes its "
                f"place; give the stack a tag"
            )

    @property
    def name(self) -> str:
        """Name of the stack."""
        return self.observation if self.tag is None else f"{self.observation}-{self.tag}"


class History(Pytree):
    """The observations before the current one, of one actor or of several in turns."""

    past: Array
    """[S - 1, *shape] for the deepest stack S, the newest last; zeros before the first."""
    seen: Array
    """How many of them are observations, int32 []."""

    def push(self, obs: Array) -> "History":
        """With one more, without the oldest."""
        past = jnp.concatenate([self.past, obs.astype(self.past.dtype)[None]])[1:]
        return History(past, jnp.minimum(self.seen + 1, len(past)))


class ObservationStack(StatefulWrapper):
    """Stacks observations, [stack_steps, *shape]: the newest last, zeros before the first.

        ObservationStack(env, [{"observation": "image", "stack_steps": 4}])

    Entries of `stack_config` are `StackedObservation`s or dicts of their fields. An
    original stays if all its entries keep it. `stack_mode` says whose observations make one
    stack where actors take turns: those of all actors in their order (`flatten_history`),
    or those of each (`group_by_actor_id`). Agents that act at once have a stack each.
    Stacks have the dtype of the observation; its space is widened for the zeros.
    """

    stack_config: tuple[StackedObservation, ...] = static(default=())
    stack_mode: str = static(default="flatten_history")

    def __post_init__(self) -> None:
        where = "ObservationStack.stack_config"
        entries = as_entries(StackedObservation, self.stack_config, where)
        object.__setattr__(self, "stack_config", entries)
        super().__post_init__()

    def validate(self) -> None:
        """Raise ConfigError for unknown names, a name twice, or what cannot be stacked."""
        if self.stack_mode not in STACK_MODES:
            suggestion = did_you_mean(str(self.stack_mode), STACK_MODES)
            raise ConfigError(
                f"ObservationStack.stack_mode: unknown mode {self.stack_mode!r}; {suggestion}"
            )
        names = observation_names(self.env)
        for i, entry in enumerate(self.stack_config):
            where = f"ObservationStack.stack_config[{i}]"
            check_name(entry.observation, names, f"{where}.observation")
            for step_key in names[entry.observation]:
                space = named(self.env.observation_spaces[step_key])[entry.observation]
                _check_stackable(entry, space, where)
        self._check_streams()
        for space in self.env.observation_spaces.values():
            self._check_new_names(named(space))
        check_masks(self)

    @property
    def observation_spaces(self) -> dict[str, Space]:
        """The wrapped env's, stacked."""
        spaces = self.env.observation_spaces
        return {
            step_key: unnamed_space(space, self._stacked(named(space), _stacked_space))
            for step_key, space in spaces.items()
        }

    def first(self, key: Key, inner: PyTree) -> dict[str, History]:
        """Nothing seen before the first observation."""
        return self._nothing()

    def next(
        self, memory: dict[str, History], before: PyTree, action: PyTree, step: StateStep
    ) -> dict[str, History]:
        """With the observation that the action answered."""
        return self._remembered(memory, before)

    def observe(self, state: WrapperState) -> PyTree:
        """The wrapped env's observation, with stacks that end in the current one."""
        actor = self.actor_id(state)
        obs = self.env.observe(state.inner)
        histories = {
            name: state.memory[self._stream(name, actor)]
            for name in self._depths()
            if name in named(obs)
        }

        def change(agent: int | Array, obs: PyTree, histories: dict[str, History]) -> PyTree:
            def stack(entry: StackedObservation, obs: Array) -> Array:
                return _stack(entry, histories[entry.observation], obs)

            return unnamed(obs, self._stacked(named(obs), stack))

        return map_agents(change, actor, self.agent_counts[actor.step_key], obs, histories)

    def from_maze_state(
        self, maze_state: PyTree, time: Array | int, substep: int = 0, previous: PyTree = None
    ) -> WrapperState:
        """The state that stands at a recorded maze state, `previous` at the one before it."""
        before = None if previous is None else previous.inner
        inner = self.env.from_maze_state(maze_state, time, substep, before)
        if previous is None:
            return WrapperState(inner, self._nothing())
        return WrapperState(inner, self._remembered(previous.memory, before))

    def _stacked(self, by_name: dict, stack: Callable) -> dict:
        """Observations, or spaces, by name, with what `stack` makes of each entry."""
        entries = [entry for entry in self.stack_config if entry.observation in by_name]
        dropped = {entry.observation for entry in entries if not entry.keep_original}
        kept = {name: value for name, value in by_name.items() if name not in dropped}
        return kept | {entry.name: stack(entry, by_name[entry.observation]) for entry in entries}

    def _remembered(self, memory: dict[str, History], before: PyTree) -> dict[str, History]:
        """The memory with the observation of a state of the wrapped env."""
        actor = self.env.actor_id(before)
        obs = named(self.env.observe(before))
        memory = dict(memory)

        def push(agent: int | Array, history: History, obs: Array) -> History:
            return history.push(obs)

        for name in self._depths():
            if name in obs:
                stream, count = self._stream(name, actor), self.agent_counts[actor.step_key]
                memory[stream] = map_agents(push, actor, count, memory[stream], obs[name])
        return memory

    def _nothing(self) -> dict[str, History]:
        """The memory when an episode begins."""
        memory = {}
        for name, stream, actor, space in self._streams():
            agents = (self.agent_counts[actor.step_key],) if actor.agent_id is None else ()
            dtype = jax.dtypes.canonicalize_dtype(space.dtype)
            past = jnp.zeros((*agents, self._depths()[name] - 1, *space.shape), dtype)
            memory[stream] = History(past, jnp.zeros(agents, jnp.int32))
        return memory

    def _streams(self) -> list[tuple[str, str, ActorID, Space]]:
        """(name, stream, actor, space) of what every actor of the schedule remembers."""
        spaces = {key: named(space) for key, space in self.env.observation_spaces.items()}
        return [
            (name, self._stream(name, actor), actor, spaces[actor.step_key][name])
            for actor in self.env.actors
            for name in self._depths()
            if name in spaces[actor.step_key]
        ]

    def _stream(self, name: str, actor: ActorID) -> str:
        """Which history holds this actor's observations of this name."""
        if actor.agent_id is not None and self.stack_mode == "flatten_history":
            return name
        return f"{name}/{actor.step_key}/{'all' if actor.agent_id is None else actor.agent_id}"

    def _depths(self) -> dict[str, int]:
        """Names of the observations to remember, with the steps of their deepest stack."""
        depths: dict[str, int] = {}
        for entry in self.stack_config:
            depths[entry.observation] = max(depths.get(entry.observation, 1), entry.stack_steps)
        return depths

    def _check_streams(self) -> None:
        """Raise ConfigError where the observations of one history differ in shape."""
        first: dict[str, tuple[ActorID, Space]] = {}
        for name, stream, actor, space in self._streams():
            other, known = first.setdefault(stream, (actor, space))
            if (known.shape, known.dtype) != (space.shape, space.dtype):
                raise ConfigError(
                    f"ObservationStack.stack_mode: {name!r} has shape {known.shape} and dtype "
                    f"{known.dtype} in {other.step_key!r}, {space.shape} and {space.dtype} in "
                    f"{actor.step_key!r}; stack them apart with 'group_by_actor_id'"
                )

    def _check_new_names(self, spaces: dict[str, Space]) -> None:
        """Raise ConfigError if two observations would have the same name."""
        entries = [entry for entry in self.stack_config if entry.observation in spaces]
        dropped = {entry.observation for entry in entries if not entry.keep_original}
        taken = [name for name in spaces if name not in dropped]
        for entry in entries:
            if entry.name in taken:
                raise ConfigError(
                    f"ObservationStack.stack_config: two observations would be called "
                    f"{entry.name!r}; give the stack another tag"
                )
            taken.append(entry.name)


def _stack(entry: StackedObservation, history: History, obs: Array) -> Array:
    """The last observations, [stack_steps, *shape]."""
    obs = obs.astype(history.past.dtype)
    frames = jnp.concatenate([history.past, obs[None]])[-entry.stack_steps :]
    if not entry.delta:
        return frames
    frames = frames.astype(jnp.float32)
    changes = frames[1:] - frames[:-1]
    # The first observation is no change from the zeros before it.
    index = np.arange(len(changes), dtype=np.int32).reshape(-1, *(1,) * obs.ndim)
    is_change = index >= len(changes) - history.seen
    return jnp.concatenate([jnp.where(is_change, changes, 0.0), frames[-1:]])


@functools.lru_cache(maxsize=256)
def _stacked_space(entry: StackedObservation, space: Any) -> Space:
    """Space of the stack; all but its last row may be zeros."""
    steps = entry.stack_steps
    if isinstance(space, MultiBinary):
        return MultiBinary((steps, *space.shape))
    if isinstance(space, (Discrete, MultiDiscrete)):
        num = np.asarray(space.n if isinstance(space, Discrete) else space.nvec)
        start = np.minimum(space.start, 0)
        end = np.maximum(space.start + num, 1)
        shape = (steps, *space.shape)
        return MultiDiscrete(np.broadcast_to(end - start, shape), np.broadcast_to(start, shape))
    low, high, dtype = space.low, space.high, np.float32 if entry.delta else space.dtype
    before_low, before_high = np.minimum(low, 0), np.maximum(high, 0)
    if entry.delta:
        before_low, before_high = _change_bounds(space)
    lows, highs = [before_low] * (steps - 1) + [low], [before_high] * (steps - 1) + [high]
    return Box(np.stack(lows).astype(dtype), np.stack(highs).astype(dtype), dtype=dtype)


def _change_bounds(space: Box) -> tuple[np.ndarray, np.ndarray]:
    """How far one observation may lie below and above another, float32; inf where too far."""
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    with np.errstate(over="ignore"):
        return (low - high).astype(np.float32), (high - low).astype(np.float32)


def _check_stackable(entry: StackedObservation, space: Space, where: str) -> None:
    if isinstance(space, Dict):
        raise ConfigError(f"{where}.observation: {entry.observation!r} is a dict, expected arrays")
    is_number = isinstance(space, Box) and space.dtype.kind != "b"
    if entry.delta and not is_number:
        raise ConfigError(
            f"{where}.delta: {entry.observation!r} is a {type(space).__name__} of "
            f"{space.dtype}, which has no differences; stack it without delta"
        )
