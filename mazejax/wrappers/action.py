"""Wrappers that change actions: one array in several parts, and numbers in bins.

Both are declared by name, as configuration files hold it; an action space that is no Dict
is called "action". They convert recorded actions back, so that any design of the action
space can be trained from them.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from mazejax.base import static
from mazejax.envs.structured import map_agents
from mazejax.errors import ConfigError, did_you_mean
from mazejax.spaces.base import Space
from mazejax.spaces.composite import Dict
from mazejax.spaces.simple import Box, Discrete, MultiBinary, MultiDiscrete
from mazejax.types import Array, PyTree
from mazejax.wrappers.base import ActionWrapper
from mazejax.wrappers.settings import FrozenDict, frozen

PLAIN = "action"
"""What an action is called whose space is no Dict."""


class SplitActions(ActionWrapper):
    """Turns entries of an action array into actions of their own.

        SplitActions(env, {"action": {"steer": {"indices": [0]}, "pedals": {"indices": [1, 2]}}})

    Every entry of a Box, MultiDiscrete or MultiBinary of one axis goes to exactly one part;
    one entry of a MultiDiscrete becomes a Discrete. The parts stand beside the other actions
    in a Dict. A mask of the action is split alike, into `steer_mask` and so on. In a schedule
    the action is split in every sub-step whose action of that name has the right kind.
    """

    split_config: dict[str, Any] = static(default=FrozenDict())
    """Name of an action -> name of a part -> its `indices`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "split_config", frozen(self.split_config))
        super().__post_init__()

    def validate(self) -> None:
        """Raise ConfigError unless the parts share out the entries of arrays that there are."""
        _check_names(self, "split_config", (Box, MultiDiscrete, MultiBinary))
        for parts in self.split_config.values():
            _check_parts(parts)
        for step_key, space in self.env.action_spaces.items():
            self.map_action_space(space, step_key)

    def map_action_space(self, space: Space, step_key: str) -> Space:
        """A Dict with the parts in the place of what is split."""
        actions = _by_name(space)
        if not self._split(actions):
            return space
        spaces: dict[str, Space] = {}
        for name, own in actions.items():
            parts = self._parts(name, own)
            for part in parts.keys() & (spaces.keys() | actions.keys() - {name}):
                raise ConfigError(f"split_config[{name!r}]: {part!r} is an action already; rename")
            spaces |= {part: _taken(own, at) for part, at in parts.items()} or {name: own}
        return Dict(spaces)

    def action(self, action: PyTree, step_key: str) -> PyTree:
        """The wrapped env's action, with the parts in their places."""
        space = self.env.action_spaces[step_key]
        actions = _by_name(space)
        if not self._split(actions):
            return action
        whole = {
            name: _joined(action, parts) if (parts := self._parts(name, own)) else action[name]
            for name, own in actions.items()
        }
        return whole if isinstance(space, Dict) else whole[PLAIN]

    def reverse_action(self, action: PyTree, step_key: str) -> PyTree:
        """The parts of the wrapped env's action."""
        space = self.env.action_spaces[step_key]
        actions = _by_name(space)
        if not self._split(actions):
            return action
        whole = action if isinstance(space, Dict) else {PLAIN: action}
        apart: dict[str, PyTree] = {}
        for name, own in actions.items():
            parts = self._parts(name, own)
            taken = {part: _entries(whole[name], own, at) for part, at in parts.items()}
            apart |= taken or {name: whole[name]}
        return apart

    @property
    def observation_spaces(self) -> dict[str, Space]:
        """The wrapped env's, with the masks of what is split in parts."""
        spaces = self.env.observation_spaces
        return {key: self._map_masks(space, key, _taken) for key, space in spaces.items()}

    def observe(self, state: PyTree) -> PyTree:
        """The wrapped env's observation, with its masks in parts."""
        actor = self.actor_id(state)
        obs = self.env.observe(self.inner(state))

        def change(agent: int | Array, obs: PyTree) -> PyTree:
            return self._map_masks(obs, actor.step_key, lambda mask, at: mask[at])

        return map_agents(change, actor, self.agent_counts[actor.step_key], obs)

    def _map_masks(self, obs: Any, step_key: str, take: Any) -> Any:
        """An observation, or its space, with `take(mask, entries)` for every part's mask."""
        if not isinstance(obs, Mapping):
            return obs
        changed = dict(obs)
        for name, own in _by_name(self.env.action_spaces[step_key]).items():
            parts = self._parts(name, own)
            if not parts or f"{name}_mask" not in obs:
                continue
            sizes = own.nvec if isinstance(own, MultiDiscrete) else np.ones(own.shape, int)
            ends = np.cumsum(sizes)
            mask = changed.pop(f"{name}_mask")
            for part, at in parts.items():
                rows = [np.arange(ends[i] - sizes[i], ends[i]) for i in at]
                changed[f"{part}_mask"] = take(mask, np.concatenate(rows))
        return Dict(changed) if isinstance(obs, Dict) else changed

    def _split(self, actions: Mapping[str, Space]) -> bool:
        return any(self._parts(name, own) for name, own in actions.items())

    def _parts(self, name: str, space: Space) -> dict[str, tuple[int, ...]]:
        """Entries of the array that each part has; nothing of what is not split."""
        if name not in self.split_config or not isinstance(
            space, (Box, MultiDiscrete, MultiBinary)
        ):
            return {}
        if len(space.shape) != 1:
            raise ConfigError(
                f"split_config[{name!r}]: splits arrays of one axis, got shape {space.shape}"
            )
        parts = {part: own["indices"] for part, own in self.split_config[name].items()}
        given, num = sorted(i for at in parts.values() for i in at), space.shape[0]
        if given != list(range(num)):
            raise ConfigError(
                f"split_config[{name!r}]: got the indices {given}, expected each of 0 to "
                f"{num - 1} exactly once"
            )
        return parts


class DiscretizeActions(ActionWrapper):
    """Lets an agent choose among bins of a Box; the action is the centre of the bin.

        DiscretizeActions(env, {"action": {"num_bins": 5, "low": [-2.0], "high": [2.0]}})

    offers -1.6, -0.8, 0, 0.8 and 1.6. A Box of one entry becomes a Discrete, others a
    MultiDiscrete. `num_bins`, `low` and `high` are numbers for all entries or lists with one
    for each; without `low` and `high` the bounds are those of the space. What was recorded
    comes back as its nearest bin. In a schedule all actions of that name that are a Box of
    floats are put in bins.
    """

    discretization_config: dict[str, Any] = static(default=FrozenDict())
    """Name of an action -> `num_bins`, and if need be `low` and `high`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "discretization_config", frozen(self.discretization_config))
        super().__post_init__()

    def validate(self) -> None:
        """Raise ConfigError unless there are bins between finite bounds for what there is."""
        _check_names(self, "discretization_config", (Box,))
        for step_key, space in self.env.action_spaces.items():
            self.map_action_space(space, step_key)

    def map_action_space(self, space: Space, step_key: str) -> Space:
        """Discrete or MultiDiscrete in the place of each Box that is put in bins."""
        spaces = {name: self._chosen(name, own) for name, own in _by_name(space).items()}
        return Dict(spaces) if isinstance(space, Dict) else spaces[PLAIN]

    def action(self, action: PyTree, step_key: str) -> PyTree:
        """The centres of the chosen bins."""
        return self._map(action, step_key, _centre)

    def reverse_action(self, action: PyTree, step_key: str) -> PyTree:
        """The nearest bins; between two, the lower."""
        return self._map(action, step_key, _nearest)

    def _map(self, action: PyTree, step_key: str, change: Any) -> PyTree:
        space = self.env.action_spaces[step_key]
        given = action if isinstance(space, Dict) else {PLAIN: action}
        changed = {
            name: change(given[name], own, *bins)
            if (bins := self._bins(name, own))
            else given[name]
            for name, own in _by_name(space).items()
        }
        return changed if isinstance(space, Dict) else changed[PLAIN]

    def _chosen(self, name: str, space: Space) -> Space:
        bins = self._bins(name, space)
        if not bins:
            return space
        return Discrete(int(bins[0][0])) if space.shape == (1,) else MultiDiscrete(bins[0])

    def _bins(self, name: str, space: Space) -> tuple[np.ndarray, ...]:
        """(number, low, high) [*shape] of the bins; () for what is not put in bins."""
        if name not in self.discretization_config or not isinstance(space, Box):
            return ()
        if space.dtype.kind != "f":
            return ()
        where = f"discretization_config[{name!r}]"
        own = _known(self.discretization_config[name], ("num_bins", "low", "high"), where)
        if "num_bins" not in own:
            raise ConfigError(f"{where}: got no num_bins; write for example num_bins: 5")
        bounds = {"num_bins": None, "low": space.low, "high": space.high, **own}
        num, low, high = (_spread(bounds[key], space.shape, f"{where}.{key}") for key in bounds)
        if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
            raise ConfigError(
                f"{where}: expected finite bounds with low < high, got {low.tolist()} and "
                f"{high.tolist()}; give low and high"
            )
        if (num != np.floor(num)).any() or (num < 1).any():
            raise ConfigError(f"{where}.num_bins: expected positive integers, got {num.tolist()}")
        if (low < space.low).any() or (high > space.high).any():
            raise ConfigError(
                f"{where}: bins from {low.tolist()} to {high.tolist()} leave the space {space}"
            )
        return num.astype(np.int32), low, high


def _centre(index: Array, space: Box, num: np.ndarray, low: np.ndarray, high: np.ndarray) -> Array:
    """Centres of bins, float [*shape]."""
    twice = 2 * jnp.reshape(index, space.shape) + 1
    # As products of whole numbers, which are mostly exact: symmetric bins have symmetric centres.
    centre = (low * (2 * num - twice) + high * twice) / (2 * num)
    return centre.astype(space.dtype)


def _nearest(
    action: Array, space: Box, num: np.ndarray, low: np.ndarray, high: np.ndarray
) -> Array:
    """Bins that actions lie in, int32 [], or [*shape] of several entries."""
    place = jnp.ceil((jnp.asarray(action) - low) / (high - low) * num).astype(jnp.int32) - 1
    index = jnp.clip(place, 0, num - 1)
    return index[0] if space.shape == (1,) else index


def _taken(space: Any, at: Any) -> Space:
    """Space of these entries of an array."""
    index = np.asarray(at)
    if isinstance(space, MultiBinary):
        return MultiBinary(len(index))
    if isinstance(space, Box):
        return Box(space.low[index], space.high[index], (len(index),), space.dtype)
    if len(index) == 1:
        return Discrete(int(space.nvec[index[0]]), int(space.start[index[0]]))
    return MultiDiscrete(space.nvec[index], space.start[index])


def _entries(action: Array, space: Space, at: tuple[int, ...]) -> Array:
    """These entries of an action, [] of a Discrete."""
    taken = jnp.asarray(action)[np.asarray(at)]
    return taken[0] if isinstance(space, MultiDiscrete) and len(at) == 1 else taken


def _joined(action: Mapping[str, Array], parts: Mapping[str, tuple[int, ...]]) -> Array:
    """The array whose entries the parts are."""
    order = np.argsort([i for at in parts.values() for i in at])
    values = [jnp.reshape(action[part], (len(at),)) for part, at in parts.items()]
    return jnp.concatenate(values)[order]


# --- configuration --------------------------------------------------------------------


def _by_name(space: Space) -> Mapping[str, Any]:
    return space if isinstance(space, Dict) else {PLAIN: space}


def _known(given: Any, names: tuple[str, ...], where: str) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise ConfigError(f"{where}: expected keys and values, got {given!r}")
    for name in given:
        if name not in names:
            raise ConfigError(f"{where}: unknown key {name!r}; {did_you_mean(str(name), names)}")
    return given


def _check_names(wrapper: Any, field: str, kinds: tuple[type[Space], ...]) -> None:
    """Raise ConfigError unless each name is that of an action of one of these kinds."""
    config = getattr(wrapper, field)
    if not isinstance(config, Mapping) or not config:
        raise ConfigError(f"{field}: expected settings by the name of an action, got {config!r}")
    actions = [pair for s in wrapper.env.action_spaces.values() for pair in _by_name(s).items()]
    for name in config:
        own = [space for known, space in actions if known == name]
        if not own:
            names = {known for known, _ in actions}
            raise ConfigError(f"{field}: no action {name!r}; {did_you_mean(str(name), names)}")
        if not any(isinstance(s, kinds) and (kinds != (Box,) or s.dtype.kind == "f") for s in own):
            wanted = " or ".join(kind.__name__ for kind in kinds)
            wanted += " of floats" if kinds == (Box,) else ""
            raise ConfigError(f"{field}[{name!r}]: is {own[0]}, expected {wanted}")


def _check_parts(parts: Any) -> None:
    if not isinstance(parts, Mapping) or not parts:
        raise ConfigError(f"split_config: expected parts by name, got {parts!r}")
    for part, own in parts.items():
        where = f"split_config: {part!r}"
        indices = _known(own, ("indices",), where).get("indices")
        if not isinstance(indices, tuple) or not indices:
            raise ConfigError(f"{where}: expected a list of indices, got {indices!r}")
        if not all(isinstance(i, int) and not isinstance(i, bool) for i in indices):
            raise ConfigError(f"{where}: expected integers as indices, got {list(indices)}")


def _spread(value: Any, shape: tuple[int, ...], where: str) -> np.ndarray:
    try:
        numbers = np.asarray(value, np.float32)
        return np.broadcast_to(numbers, shape) if numbers.size == 1 else numbers.reshape(shape)
    except (TypeError, ValueError):
        raise ConfigError(
            f"{where}: expected one number, or one for each entry of {list(shape)}, got {value!r}"
        ) from None
