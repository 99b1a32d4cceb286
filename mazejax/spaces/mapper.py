"""`DistributionMapper`: which distribution draws the actions of which space.

It tells a network the names and shapes of the parameters to produce, builds the
distribution from them, and turns a drawn action into what the environment receives.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from mazejax.errors import ConfigError
from mazejax.spaces.base import Space
from mazejax.spaces.composite import Dict
from mazejax.spaces.distributions import (
    Bernoulli,
    Categorical,
    DiagonalGaussian,
    Distribution,
    MultiCategorical,
    Product,
)
from mazejax.spaces.masks import Masks, masked_logits
from mazejax.spaces.simple import Box, Discrete, MultiBinary, MultiDiscrete
from mazejax.types import PyTree


@dataclasses.dataclass(frozen=True)
class DistributionMapper:
    """The mapping by kind of space.

    Discrete: Categorical. MultiDiscrete: MultiCategorical. MultiBinary: Bernoulli.
    Box: DiagonalGaussian. Dict: Product of those of its keys.
    """

    def parameters(self, space: Space) -> dict[str, Any]:
        """Names and shapes (without batch axes) of a distribution's parameters, nested as Dicts.

        A Discrete(3) has {"logits": (3,)}, a Dict with it under "gear" {"gear": {"logits": (3,)}}.
        """
        if isinstance(space, Dict):
            return {key: self.parameters(part) for key, part in space.items()}
        return _family(space).shapes(space)

    def distribution(self, space: Space, parameters: PyTree, masks: Masks = None) -> Distribution:
        """The distribution over the space with these parameters, each [..., *shape].

        The parameters are nested as `parameters` tells; they may have any batch axes.
        What the masks exclude, as `mazejax.spaces.masks` finds them, has probability 0.
        """
        return self._distribution(space, parameters, masks, "parameters")

    def to_env(self, space: Space, action: PyTree) -> PyTree:
        """What the environment receives for a drawn action; any leading batch axes.

        Entries of a Box are clipped to its finite bounds and cast to its dtype (rounded,
        if it holds integers); the others are as they were drawn.
        """
        if isinstance(space, Dict):
            return {key: self.to_env(part, action[key]) for key, part in space.items()}
        return space.clip(action) if isinstance(space, Box) else action

    def _distribution(
        self, space: Space, parameters: PyTree, masks: Masks, where: str
    ) -> Distribution:
        wanted = self.parameters(space)
        _check_names(parameters, wanted, where)
        if isinstance(space, Dict):
            by_key = masks or {}
            return Product(
                {
                    key: self._distribution(
                        part, parameters[key], by_key.get(key), f"{where}[{key!r}]"
                    )
                    for key, part in space.items()
                }
            )
        for name, shape in wanted.items():
            got = parameters[name].shape
            if got[len(got) - len(shape) :] != shape:
                raise ConfigError(
                    f"{where}[{name!r}]: got shape {got}, expected any batch axes and then "
                    f"{shape}; give the head the size that the space needs"
                )
        if masks is not None:
            parameters = {"logits": masked_logits(space, parameters.get("logits"), masks)}
        return _family(space).build(space, parameters)


class _Family(NamedTuple):
    """One kind of distribution for one kind of space."""

    shapes: Callable[[Any], dict[str, tuple[int, ...]]]
    build: Callable[[Any, dict[str, Any]], Distribution]


def _multi_categorical(space: MultiDiscrete, parameters: dict[str, Any]) -> MultiCategorical:
    nvec, start = tuple(space.nvec.ravel().tolist()), tuple(space.start.ravel().tolist())
    return MultiCategorical(parameters["logits"], nvec, start, space.shape)


def _diagonal_gaussian(space: Box, parameters: dict[str, Any]) -> DiagonalGaussian:
    return DiagonalGaussian(parameters["mean"], parameters["log_std"], len(space.shape))


_FAMILIES: dict[type[Space], _Family] = {
    Discrete: _Family(
        lambda space: {"logits": (space.n,)},
        lambda space, parameters: Categorical(parameters["logits"], space.start),
    ),
    MultiDiscrete: _Family(lambda space: {"logits": (space.flat_size,)}, _multi_categorical),
    MultiBinary: _Family(
        lambda space: {"logits": space.shape},
        lambda space, parameters: Bernoulli(parameters["logits"], len(space.shape)),
    ),
    Box: _Family(lambda space: {"mean": space.shape, "log_std": space.shape}, _diagonal_gaussian),
}


def _family(space: Space) -> _Family:
    if type(space) not in _FAMILIES:
        raise ConfigError(
            f"DistributionMapper: got {type(space).__name__}, expected one of "
            f"{', '.join(kind.__name__ for kind in _FAMILIES)}, Dict; build the space from these"
        )
    return _FAMILIES[type(space)]


def _check_names(parameters: PyTree, wanted: dict[str, Any], where: str) -> None:
    got = sorted(parameters) if isinstance(parameters, dict) else type(parameters).__name__
    if got != sorted(wanted):
        raise ConfigError(
            f"{where}: got {got}, expected {sorted(wanted)}; produce what "
            f"DistributionMapper.parameters(space) names"
        )
