"""Networks from the spaces alone.

A template is configuration: it is built into an `ActorCritic` once the spaces of the
env are known.
"""

import contextlib
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any, ClassVar, Self

import flax.linen as nn

from mazejax.base import Pytree, static
from mazejax.errors import ConfigError, did_you_mean
from mazejax.networks.policy import ActorCritic
from mazejax.networks.recurrent import GRU, LSTM
from mazejax.spaces.base import Space
from mazejax.spaces.composite import Dict
from mazejax.spaces.mapper import DistributionMapper
from mazejax.spaces.masks import mask_names
from mazejax.spaces.simple import Box, Discrete, MultiBinary, MultiDiscrete

CELLS: dict[str, type[LSTM] | type[GRU]] = {"lstm": LSTM, "gru": GRU}
"""Recurrent cells by name."""

_KINDS = {kind.__name__: kind for kind in (Box, Discrete, MultiBinary, MultiDiscrete, Dict)}


class NetworkTemplate(Pytree):
    """Base of all templates: configuration that is built into an `ActorCritic` for spaces.

    A subclass defines `_module`, from the spaces to a linen module.
    """

    compile_time: ClassVar[bool] = True

    distributions: tuple[tuple[Any, ...], ...] = static(default=(), kw_only=True)
    """Rules of the `DistributionMapper`, such as `("Box", "squashed_gaussian")` for a kind of
    space or `("throttle", "beta")` for a head; later ones win."""
    privileged_keys: tuple[str, ...] = static(default=(), kw_only=True)
    """Keys of Dict observations that the critic alone sees: what an agent learns with and acts
    without, such as "joint" of the wrapper `JointObservation`."""

    by_key: ClassVar[bool] = False
    """Whether its modules take arrays by key, as `observations` has them, or one flat vector."""

    def __post_init__(self) -> None:
        if isinstance(self.distributions, Sequence):  # a list from a configuration file
            object.__setattr__(self, "distributions", tuple(map(_plain_rule, self.distributions)))
        as_keys(self, "privileged_keys")
        super().__post_init__()

    def validate(self) -> None:
        """Raise ConfigError for rules that are none, and for keys that are no strings."""
        self.mapper()
        check_keys(self, "privileged_keys")

    def check_step_keys(self, step_keys: Collection[str]) -> None:
        """Raise ConfigError for what is meant for none of the step keys, which are all."""

    def of_step_key(self, step_key: str) -> Self:
        """The template for the networks of one step key."""
        return self

    def build(
        self, observation_space: Space, action_space: Space, num_agents: int = 0
    ) -> ActorCritic:
        """The network for these spaces; `num_agents` if several agents act at once.

        Raises ConfigError where a rule of `distributions` does not fit the action space, or
        `privileged_keys` the observation space.
        """
        self._check_privileged(observation_space, action_space)
        mapper, agents = self.mapper(), self._agents_seen(num_agents)
        with _as_distributions():
            mapper.parameters(action_space)
        module = self._module(observation_space, action_space, mapper, agents)
        return ActorCritic(
            module,
            observation_space,
            action_space,
            mapper,
            num_agents=agents,
            by_key=self.by_key,
            privileged_keys=self.privileged_keys,
        )

    def mapper(self) -> DistributionMapper:
        """Which distribution draws the actions of which space."""
        if not isinstance(self.distributions, tuple):
            raise ConfigError(
                f"distributions: expected pairs such as (('throttle', 'beta'),), got "
                f"{self.distributions!r}"
            )
        rules = []
        for rule in self.distributions:
            what = rule[0] if isinstance(rule, tuple) and rule else None
            known = isinstance(what, str) and what in _KINDS
            rules.append((_KINDS[what], *rule[1:]) if known else rule)  # type: ignore[index]
        with _as_distributions():
            return DistributionMapper(tuple(rules))

    def _check_privileged(self, observation_space: Space, action_space: Space) -> None:
        if not self.privileged_keys:
            return
        if not isinstance(observation_space, Dict):
            raise ConfigError(
                f"privileged_keys: observations are no Dict but {observation_space.summary}, so "
                f"there are no keys; leave it out, or wrap the env in DictObservation"
            )
        for key in self.privileged_keys:
            if key not in observation_space:
                hint = did_you_mean(key, observation_space)
                raise ConfigError(f"privileged_keys: no observation {key!r}; {hint}")
            if key in mask_names(action_space):
                raise ConfigError(
                    f"privileged_keys: {key!r} says which actions are allowed, which the policy "
                    f"must know; leave it out"
                )
        if len({*self.privileged_keys}) == len(observation_space):
            raise ConfigError(
                f"privileged_keys: nothing of {observation_space.summary} is left for the policy"
            )

    def _agents_seen(self, num_agents: int) -> int:
        """Agents whose observations the critic sees; 0 if only that of its own."""
        return 0

    def _module(
        self,
        observation_space: Space,
        action_space: Space,
        mapper: DistributionMapper,
        num_agents: int,
    ) -> nn.Module:
        raise NotImplementedError


def check_memory(recurrence: str, memory_size: int) -> None:
    """Raise ConfigError for an unknown cell and a width that is not positive."""
    known = ("none", *CELLS)
    if recurrence not in known:
        raise ConfigError(
            f"recurrence: unknown {recurrence!r}; {did_you_mean(str(recurrence), known)}"
        )
    if not is_width(memory_size):
        raise ConfigError(f"memory_size: must be a positive integer, got {memory_size!r}")


def is_width(value: Any) -> bool:
    """Whether it can be the width of a layer."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def as_keys(template: NetworkTemplate, name: str) -> None:
    """Make a tuple of a field of keys that was given as a list, or as a single key."""
    keys: Any = getattr(template, name)
    if isinstance(keys, (str, list)):
        object.__setattr__(template, name, (keys,) if isinstance(keys, str) else tuple(keys))


def check_keys(template: NetworkTemplate, name: str) -> None:
    """Raise ConfigError for a field of keys that holds anything but strings."""
    keys = getattr(template, name)
    if not isinstance(keys, tuple) or not all(isinstance(key, str) for key in keys):
        raise ConfigError(f"{name}: expected keys, got {keys!r}")


def _plain_rule(rule: Any) -> Any:
    """A list as a tuple, a kind of space by its name: as configuration files can hold them."""
    if not isinstance(rule, (list, tuple)):
        return rule
    names: dict[type, str] = {kind: name for name, kind in _KINDS.items()}
    return tuple(names.get(part, part) if isinstance(part, type) else part for part in rule)


@contextlib.contextmanager
def _as_distributions() -> Iterator[None]:
    """What the mapper says of its rules, in the name of the field that they come from."""
    try:
        yield
    except ConfigError as error:
        said = re.sub("^DistributionMapper( rules)?", "distributions", str(error))
        raise ConfigError(said) from None
