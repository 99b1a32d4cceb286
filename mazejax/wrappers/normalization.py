"""`ObservationNormalization`: observations of one scale, by statistics that do not change.

The statistics are leaves of the wrapper, by the name of the observation, and all actors
that have the observation share them. Where they come from is left to others: constants of
the configuration, `mazejax.runners.observation_statistics.estimate`, or a file.
"""

import dataclasses
from typing import Any, NamedTuple

from mazejax.base import Pytree, static
from mazejax.errors import ConfigError, EnvError
from mazejax.spaces.base import Space
from mazejax.spaces.masks import mask_names
from mazejax.spaces.simple import Box
from mazejax.types import Array, PyTree
from mazejax.wrappers.base import ObservationWrapper
from mazejax.wrappers.normalization_strategies import (
    NormalizationStrategy,
    as_arrays,
    check_statistics,
    normalization_strategies,
)
from mazejax.wrappers.observations import (
    check_name,
    named,
    observation_names,
    unnamed,
    unnamed_space,
)
from mazejax.wrappers.settings import FrozenDict, as_dict, as_entry, make


class ManualNormalization(Pytree):
    """How one observation is normalized; what it does not say is taken from the defaults."""

    strategy: Any = static(default=None)
    """A name in `normalization_strategies`, or a class."""
    strategy_config: Any = static(default=None)
    """Fields of the strategy: `clip_range`, `axis`."""
    statistics: Any = static(default=None)
    """Numbers by name, such as {"mean": 0.0, "std": 255.0}: then none are estimated."""

    def __post_init__(self) -> None:
        for name in ("strategy_config", "statistics"):
            given = getattr(self, name)
            object.__setattr__(self, name, None if given is None else as_dict(given, name))
        if self.strategy is not None:
            object.__setattr__(self, "strategy", _as_name(self.strategy))
        super().__post_init__()


class ObservationNormalization(ObservationWrapper):
    """Normalizes every observation of numbers, by statistics that were estimated or given.

        env = ObservationNormalization(env, default_strategy_config={"clip_range": [-5, 5]})
        env = mazejax.runners.observation_statistics.estimate(env, key)

    Categories, bits and what is bool stay as they are, and masks of actions. Observations
    are bounded by `clip_range`, and where their statistics are fixed by the configuration by
    the bounds they had; else they are not, since spaces do not depend on numbers that were
    estimated. An algorithm's `normalize_obs` is the other way: its statistics grow as it
    learns. One of the two is enough.
    """

    default_strategy: Any = static(default="mean_zero_std_one")
    """`mean_zero_std_one`, `range_zero_one`, another registered name, or a class."""
    default_strategy_config: Any = static(default=None)
    """Fields of the strategy: `clip_range` and `axis`."""
    default_statistics: Any = static(default=None)
    """Fixed statistics of every observation that follows the default strategy."""
    exclude: tuple[str, ...] | None = static(default=())
    """Observations that stay as they are."""
    manual_config: Any = static(default=None)
    """Observations that are normalized otherwise: `ManualNormalization`s by name."""
    num_samples: int = static(default=10_000)
    """Flat steps of random play from which statistics are estimated where a run does it."""
    statistics: dict[str, dict[str, Array]] | None = dataclasses.field(
        default=None, metadata={"config": False}
    )
    """Estimated ones, by the names of observation and statistic."""

    def __post_init__(self) -> None:
        for name, value in self._frozen_fields().items():
            object.__setattr__(self, name, value)
        super().__post_init__()

    def _frozen_fields(self) -> dict[str, Any]:
        """The fields as they are kept, made of plain data."""

        def dict_of(name: str) -> FrozenDict:
            return as_dict(getattr(self, name), f"ObservationNormalization.{name}")

        where = "ObservationNormalization.manual_config"
        manual = {
            name: as_entry(ManualNormalization, entry, f"{where}.{name}")
            for name, entry in dict_of("manual_config").items()
        }
        exclude = (self.exclude,) if isinstance(self.exclude, str) else tuple(self.exclude or ())
        fields = {
            "default_strategy": _as_name(self.default_strategy),
            "default_strategy_config": dict_of("default_strategy_config"),
            "exclude": exclude,
            "manual_config": FrozenDict(manual),
        }
        if self.default_statistics is not None:
            fields["default_statistics"] = dict_of("default_statistics")
        if self.statistics is not None:
            fields["statistics"] = {name: as_arrays(own) for name, own in self.statistics.items()}
        return fields

    def validate(self) -> None:
        """Raise ConfigError for unknown names and what does not fit the observations."""
        names, numbers = observation_names(self.env), self.boxes()
        samples = self.num_samples
        if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
            raise ConfigError(
                f"ObservationNormalization.num_samples: must be a positive integer, got {samples!r}"
            )
        for name in self.exclude or ():
            check_name(name, names, "ObservationNormalization.exclude")
        for name in self.manual_config:
            where = "ObservationNormalization.manual_config"
            check_name(name, names, where)
            if name not in numbers:
                raise ConfigError(
                    f"{where}.{name}: holds no numbers to normalize, or is excluded; leave it out"
                )
        self._strategy(self.default_strategy, self.default_strategy_config)
        for name, boxes in numbers.items():
            self._check(name, boxes)
        for name in self.statistics or {}:
            if name not in self.estimated:
                raise ConfigError(
                    f"ObservationNormalization.statistics.{name}: expected statistics of "
                    f"{sorted(self.estimated) or 'nothing'}; leave it out"
                )

    def observation(self, obs: PyTree, step_key: str) -> PyTree:
        """Normalized; EnvError where statistics are missing."""
        by_name = named(obs)
        for name in self.boxes(step_key):
            strategy, fixed = self.plan(name)
            statistics = (self.statistics or {}).get(name) if fixed is None else as_arrays(fixed)
            if statistics is None:
                raise EnvError(
                    f"{self}: has no statistics of the observation {name!r} yet; call "
                    f"mazejax.runners.observation_statistics.estimate(env, key), or "
                    f"load_statistics(path, env) of the same module"
                )
            by_name[name] = strategy.apply(by_name[name], statistics)
        return unnamed(obs, by_name)

    def map_observation_space(self, space: Space, step_key: str) -> Space:
        """Float32 spaces of what is normalized."""
        by_name = named(space)
        for name, boxes in self.boxes(step_key).items():
            strategy, fixed = self.plan(name)
            by_name[name] = strategy.space(boxes[0], fixed)
        return unnamed_space(space, by_name)

    def boxes(self, step_key: str | None = None) -> dict[str, list[Box]]:
        """Spaces of what is normalized, by name: of one step key or of all."""
        boxes: dict[str, list[Box]] = {}
        for key, space in self.env.observation_spaces.items():
            masks = mask_names(self.env.action_spaces[key])
            for name, part in named(space).items():
                is_number = isinstance(part, Box) and part.dtype.kind != "b"
                is_meant = name not in masks and name not in (self.exclude or ())
                if is_number and is_meant and step_key in (None, key):
                    boxes.setdefault(name, []).append(part)
        return boxes

    @property
    def estimated(self) -> dict[str, NormalizationStrategy]:
        """Names of the observations whose statistics are to be estimated, with how."""
        plans = {name: self.plan(name) for name in self.boxes()}
        return {name: plan.strategy for name, plan in plans.items() if plan.fixed is None}

    def plan(self, name: str) -> "_Plan":
        """How the observation of this name is normalized."""
        manual = self.manual_config.get(name, ManualNormalization())
        config = manual.strategy_config
        strategy = self._strategy(
            self.default_strategy if manual.strategy is None else manual.strategy,
            self.default_strategy_config if config is None else config,
        )
        fixed = manual.statistics
        if fixed is None and manual.strategy in (None, self.default_strategy):
            fixed = self.default_statistics
        return _Plan(strategy, fixed)

    def _strategy(self, strategy: Any, config: FrozenDict) -> NormalizationStrategy:
        kind = normalization_strategies.get(strategy) if isinstance(strategy, str) else strategy
        made: NormalizationStrategy = make(kind, config, "ObservationNormalization.strategy_config")
        return made

    def _check(self, name: str, boxes: list[Box]) -> None:
        """Raise ConfigError unless one set of statistics fits the observation wherever it is."""
        where = f"ObservationNormalization: {name!r}"
        strategy, fixed = self.plan(name)
        shapes = {box.shape for box in boxes}
        try:
            wanted = {strategy.statistics_shape(shape) for shape in shapes}
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
        if fixed is not None:
            for shape in shapes:
                check_statistics(strategy, fixed, shape, f"{where}: statistics")
        elif len(wanted) > 1:
            raise ConfigError(
                f"{where}: has the shapes {sorted(shapes)} in different sub-steps, so that it "
                f"has no common statistics; use axis None, or exclude it"
            )
        elif name in (self.statistics or {}):
            given = self.statistics[name] if self.statistics else {}
            check_statistics(strategy, given, next(iter(wanted)), f"{where}: statistics")


class _Plan(NamedTuple):
    strategy: NormalizationStrategy
    fixed: FrozenDict | None
    """Statistics that the configuration gives; else they are estimated."""


def _as_name(strategy: Any) -> Any:
    """The registered name of a strategy that is given as a class, else what was given."""
    if isinstance(strategy, str):
        normalization_strategies.get(strategy)
        return strategy
    if not (isinstance(strategy, type) and issubclass(strategy, NormalizationStrategy)):
        raise ConfigError(
            f"strategy: got {strategy!r}, expected a name or a class of NormalizationStrategy"
        )
    return normalization_strategies.name_of(strategy) or strategy
