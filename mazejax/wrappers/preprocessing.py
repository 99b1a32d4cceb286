"""`PreProcessing`: observations made of others, one step after the other.

What a step makes is named after what it was made of, `image-rgb_to_gray`, so that later
steps and networks can refer to it.
"""

import dataclasses
import functools
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mazejax.base import Pytree, static
from mazejax.errors import ConfigError
from mazejax.registry import Registry
from mazejax.spaces.base import Space
from mazejax.spaces.composite import Dict
from mazejax.types import PyTree
from mazejax.wrappers.base import ObservationWrapper
from mazejax.wrappers.observations import check_masks, check_name, named, unnamed, unnamed_space
from mazejax.wrappers.pre_processors import PreProcessor
from mazejax.wrappers.settings import FrozenDict, as_dict, as_entries, frozen, is_plain, make

pre_processors = Registry("pre-processor", entry_points="mazejax.pre_processors")
"""Pre-processors by name; what `pre_processor: NAME` looks up."""

for _name, _class in {
    "flatten": "Flatten",
    "one_hot": "OneHot",
    "resize_image": "ResizeImage",
    "rgb_to_gray": "RGBToGray",
    "transpose": "Transpose",
    "unsqueeze": "Unsqueeze",
}.items():
    pre_processors.register(_name, f"mazejax.wrappers.pre_processors:{_class}")


class PreProcessed(Pytree):
    """One step: what is made of which observation.

    A pre-processor given as an object is kept by its registered name and its fields.
    """

    observation: str = static(default="observation")
    """Its name, which may be one that an earlier step made."""
    pre_processor: Any = static(default=None)
    """A name in `pre_processors`, or a `PreProcessor`."""
    keep_original: bool = static(default=False)
    """Whether the observation stays beside what is made of it."""
    config: Any = static(default=None)
    """Fields of the pre-processor, by name; only with a name."""

    def __post_init__(self) -> None:
        made, config = self.pre_processor, as_dict(self.config, "config")
        if not isinstance(made, PreProcessor):
            made = make(_class_of(made), config, "config")
        elif config:
            raise ConfigError("config: the pre-processor has its fields already; leave it out")
        name, own = pre_processors.name_of(type(made)), _own_fields(made)
        if name is not None and is_plain(own):
            made, config = name, own
        object.__setattr__(self, "pre_processor", made)
        object.__setattr__(self, "config", config)
        super().__post_init__()

    @property
    def name(self) -> str:
        """Name of what is made."""
        given = self.pre_processor
        if isinstance(given, PreProcessor):
            given = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(given).__name__).lower()
        return f"{self.observation}-{given}"

    def make(self) -> PreProcessor:
        """The pre-processor."""
        if isinstance(self.pre_processor, PreProcessor):
            return self.pre_processor
        return _class_of(self.pre_processor)(**self.config)


class PreProcessing(ObservationWrapper):
    """Makes observations of others, in order.

        PreProcessing(env, [
            {"observation": "image", "pre_processor": "rgb_to_gray"},
            {"observation": "image-rgb_to_gray", "pre_processor": "resize_image",
             "config": {"target_size": [84, 84]}},
        ])

    Entries are `PreProcessed`s or dicts of their fields. A step is left out for actors that
    do not have its observation.
    """

    pre_processor_mapping: tuple[PreProcessed, ...] = static(default=())

    def __post_init__(self) -> None:
        where = "PreProcessing.pre_processor_mapping"
        entries = as_entries(PreProcessed, self.pre_processor_mapping, where)
        object.__setattr__(self, "pre_processor_mapping", entries)
        super().__post_init__()

    def validate(self) -> None:
        """Raise ConfigError for unknown names, a name twice, or a step that does not fit."""
        spaces = [named(space) for space in self.env.observation_spaces.values()]
        for i, entry in enumerate(self.pre_processor_mapping):
            where = f"PreProcessing.pre_processor_mapping[{i}]"
            check_name(entry.observation, {n for s in spaces for n in s}, f"{where}.observation")
            for by_name in spaces:
                if entry.observation in by_name:
                    _add_step(entry, by_name, where)
        check_masks(self)

    def observation(self, obs: PyTree, step_key: str) -> PyTree:
        """The observations left and made."""
        by_name = named(obs)
        for step in _plan(self.pre_processor_mapping, self.env.observation_spaces[step_key])[0]:
            made = step.pre_processor.process(by_name[step.entry.observation])
            by_name[step.entry.name] = jnp.asarray(made, step.dtype)
            if not step.entry.keep_original:
                del by_name[step.entry.observation]
        return unnamed(obs, by_name)

    def map_observation_space(self, space: Space, step_key: str) -> Space:
        """Their spaces."""
        return _plan(self.pre_processor_mapping, space)[1]


class _Step(NamedTuple):
    entry: PreProcessed
    pre_processor: PreProcessor
    dtype: Any


@functools.lru_cache(maxsize=256)
def _plan(mapping: tuple[PreProcessed, ...], space: Space) -> tuple[tuple[_Step, ...], Space]:
    """The steps for observations of a space, and the space of what they make."""
    by_name = named(space)
    steps = [
        _add_step(entry, by_name, "PreProcessing")
        for entry in mapping
        if entry.observation in by_name
    ]
    return tuple(steps), unnamed_space(space, by_name)


def _add_step(entry: PreProcessed, spaces: dict[str, Space], where: str) -> _Step:
    """The step for observations of these spaces, which are changed as it changes them."""
    given = spaces[entry.observation]
    if isinstance(given, Dict):
        raise ConfigError(f"{where}.observation: {entry.observation!r} is a dict, expected arrays")
    try:
        pre_processor = entry.make().fitted(given)
        made = _checked_space(pre_processor, given)
    except ConfigError as error:
        raise ConfigError(f"{where}.config.{error}") from None
    if not entry.keep_original:
        del spaces[entry.observation]
    if entry.name in spaces:
        raise ConfigError(f"{where}: there is an observation {entry.name!r} already; rename it")
    spaces[entry.name] = made
    return _Step(entry, pre_processor, jax.dtypes.canonicalize_dtype(made.dtype))


def _checked_space(pre_processor: PreProcessor, given: Space) -> Space:
    """Space of what is made; ConfigError unless it has the shape of what is made."""
    made, dtype = pre_processor.space(given), jax.dtypes.canonicalize_dtype(given.dtype)
    what = jax.eval_shape(pre_processor.process, jax.ShapeDtypeStruct(given.shape, dtype))
    if getattr(what, "shape", None) != made.shape:
        raise ConfigError(
            f"space: {type(pre_processor).__name__} makes {what} of {given}, but says that it is "
            f"in {made}; correct one of the two"
        )
    return made


def _class_of(name: Any) -> type[PreProcessor]:
    kind = pre_processors.get(name)
    if not (isinstance(kind, type) and issubclass(kind, PreProcessor)):
        raise ConfigError(f"pre_processor: {name!r} is {kind!r}, expected a class of PreProcessor")
    return kind


def _own_fields(pre_processor: PreProcessor) -> FrozenDict:
    """The fields that differ from their defaults."""
    fields: Any = dataclasses.fields(pre_processor)  # type: ignore[arg-type]
    own = {field.name: frozen(getattr(pre_processor, field.name)) for field in fields}
    return FrozenDict({f.name: own[f.name] for f in fields if own[f.name] != f.default})
