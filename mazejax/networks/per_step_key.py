"""`PerStepKey`: a template for the networks of each step key."""

from collections.abc import Collection, Mapping
from typing import Self

from flax.core import FrozenDict

from mazejax.base import static
from mazejax.errors import ConfigError, did_you_mean
from mazejax.networks.policy import ActorCritic
from mazejax.networks.template import NetworkTemplate
from mazejax.spaces.base import Space


class PerStepKey(NetworkTemplate):
    """Templates by step key, for actors that see and do different things.

        PerStepKey({"manager": PerceptionActorCritic(), "worker": MLPActorCritic()})

    What a template says of keys, heads and spaces holds for its own step key alone, its
    `distributions` and `privileged_keys` too. In files each is `{"template": "perception",
    "recurrence": "gru"}`: the name of a template and its fields.
    """

    templates: dict[str, NetworkTemplate] = static(default=FrozenDict())
    """One for each step key."""

    def __post_init__(self) -> None:
        if isinstance(self.templates, Mapping):
            object.__setattr__(self, "templates", FrozenDict(self.templates))
        super().__post_init__()

    def validate(self) -> None:
        """Raise ConfigError for what is no template, and for rules of all step keys."""
        super().validate()
        if not isinstance(self.templates, Mapping) or not self.templates:
            raise ConfigError(
                f"templates: give a template for each step key, such as "
                f"{{'select': MLPActorCritic()}}, got {self.templates!r}"
            )
        for key, template in self.templates.items():
            if not isinstance(template, NetworkTemplate):
                raise ConfigError(
                    f"templates.{key}: expected a template such as MLPActorCritic(), got "
                    f"{template!r}"
                )
        for name in ("distributions", "privileged_keys"):
            if getattr(self, name):
                raise ConfigError(f"{name}: each of the templates has its own; write them there")

    def check_step_keys(self, step_keys: Collection[str]) -> None:
        """Raise ConfigError for step keys without a template, and for templates without one."""
        for key, template in self.templates.items():
            if key not in step_keys:
                raise ConfigError(
                    f"templates.{key}: no actor has the step key {key!r}; "
                    f"{did_you_mean(key, step_keys)}"
                )
            try:
                template.check_step_keys((key,))
            except ConfigError as error:
                raise ConfigError(f"templates.{key}.{error}") from None
        for key in step_keys:
            self._check_known(key)

    def of_step_key(self, step_key: str) -> Self:
        """The same with the template of this step key alone, which is what it then builds."""
        self._check_known(step_key)
        template = self.templates[step_key]
        return self.replace(templates={step_key: template.of_step_key(step_key)})

    def build(
        self, observation_space: Space, action_space: Space, num_agents: int = 0
    ) -> ActorCritic:
        """The network that the template of its only step key builds.

        Raises ConfigError where there are several, and where that template does.
        """
        if len(self.templates) > 1:
            raise ConfigError(
                f"templates: {', '.join(map(repr, self.templates))} have networks of their own; "
                f"choose one by of_step_key"
            )
        ((key, template),) = self.templates.items()
        try:
            return template.build(observation_space, action_space, num_agents)
        except ConfigError as error:
            raise ConfigError(f"templates.{key}.{error}") from None

    def _check_known(self, step_key: str) -> None:
        if step_key not in self.templates:
            raise ConfigError(
                f"templates: none for the step key {step_key!r}; "
                f"{did_you_mean(step_key, self.templates)}"
            )
