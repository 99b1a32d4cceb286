"""`CustomActorCritic`: networks of one's own, by step key."""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Self

import flax.linen as nn

from mazejax.base import static
from mazejax.errors import ConfigError, did_you_mean
from mazejax.networks.joined import join
from mazejax.networks.settings import resolved
from mazejax.networks.template import NetworkTemplate
from mazejax.spaces.base import Space
from mazejax.spaces.mapper import DistributionMapper


class CustomActorCritic(NetworkTemplate):
    """Linen modules of one's own as policy and critic.

        CustomActorCritic(policies=PointerPolicy(32), critics=Value((64,)))
        CustomActorCritic(
            policies={"select": PointerPolicy(32), "cut": CutPolicy()},
            critics={"select": Value((64,)), "cut": Value((64,))},
        )

    A policy maps arrays by key, as `mazejax.networks.arrays_by_key` makes them of
    observations, to the parameters of its distributions by key: "logits" or "action" for
    the logits of a single action, "gear/logits" or "gear" for those of the action "gear",
    "steer/mean" and "steer/log_std". What it gives besides, its embeddings, the critic
    takes with the observations; a critic gives "value", [...] or [..., 1]. One that
    remembers has a method `initial_carry(batch_shape)` and maps (inputs [T, ..., *shape],
    carry, begins [T, ...]) to (outputs, carry).

    Instead of a module a function may be given that makes one of the observation and the
    action space, marked by `mazejax.networks.for_spaces`. In files a module is `{"class":
    "my_package.networks:Pointer", "width": 32}`, a function `{"function":
    "my_package.networks:make_policy"}`: whoever loads a run must be able to import them.
    """

    by_key: ClassVar[bool] = True

    policies: Any = static(default=None)
    """A module for all step keys, or modules by step key."""
    critics: Any = static(default=None)
    """The same; None where a policy gives "value" itself, or has no value."""

    def __post_init__(self) -> None:
        for name in ("policies", "critics"):
            object.__setattr__(self, name, resolved(getattr(self, name), name))
        super().__post_init__()

    def validate(self) -> None:
        """Raise ConfigError for what is no module."""
        super().validate()
        if self.policies is None:
            raise ConfigError("policies: give a linen module, or modules by step key")
        for field in ("policies", "critics"):
            value = getattr(self, field)
            parts = value.items() if isinstance(value, Mapping) else [("", value)]
            for key, part in parts:
                if part is not None and not _makes_module(part):
                    raise ConfigError(
                        f"{field}{'.' if key else ''}{key}: expected a linen module such as "
                        f"Pointer(32), or a function of the spaces marked by "
                        f"mazejax.networks.for_spaces, got {part!r}"
                    )

    def check_step_keys(self, step_keys: Collection[str]) -> None:
        """Raise ConfigError for a module whose step key is none of these."""
        for field in ("policies", "critics"):
            value = getattr(self, field)
            for key in value if isinstance(value, Mapping) else ():
                if key not in step_keys:
                    raise ConfigError(
                        f"{field}.{key}: no actor has the step key {key!r}; "
                        f"{did_you_mean(key, step_keys)}"
                    )

    def of_step_key(self, step_key: str) -> Self:
        """The template with the modules of this step key alone."""
        found = {name: self._of(name, step_key) for name in ("policies", "critics")}
        return self.replace(**found)

    def _of(self, field: str, step_key: str) -> Any:
        value = getattr(self, field)
        if not isinstance(value, Mapping):
            return value
        if step_key not in value:
            raise ConfigError(
                f"{field}: no module for the step key {step_key!r}; {did_you_mean(step_key, value)}"
            )
        return value[step_key]

    def _module(
        self,
        observation_space: Space,
        action_space: Space,
        mapper: DistributionMapper,
        num_agents: int,
    ) -> nn.Module:
        spaces = observation_space, action_space
        policy = _made("policies", self.policies, *spaces)
        critic = _made("critics", self.critics, *spaces)
        return join(policy, critic, action_space, mapper, self.privileged_keys)


def _makes_module(part: Any) -> bool:
    return isinstance(part, nn.Module) or getattr(part, "for_spaces", False)


def _made(field: str, part: Any, observation_space: Space, action_space: Space) -> Any:
    """The module that is given, or what a function makes for the spaces."""
    if part is None or isinstance(part, nn.Module):
        return part
    made = part(observation_space, action_space)
    if not isinstance(made, nn.Module):
        raise ConfigError(f"{field}: {part!r} made a {type(made).__name__}, no linen module")
    return made
