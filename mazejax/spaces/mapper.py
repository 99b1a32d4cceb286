"""`DistributionMapper`: which distribution draws the actions of which space.

It tells a network the names and shapes of the parameters to produce, builds the
distribution from them, and turns a drawn action into what the environment receives.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from mazejax.errors import ConfigError, SpaceError, did_you_mean
from mazejax.spaces.base import Space
from mazejax.spaces.composite import Dict
from mazejax.spaces.continuous import Beta, DiagonalGaussian, SquashedGaussian, check_bounded
from mazejax.spaces.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    MultiCategorical,
    Product,
)
from mazejax.spaces.masks import MASKABLE, Masks, masked_logits
from mazejax.spaces.simple import Box, Discrete, MultiBinary, MultiDiscrete
from mazejax.types import PyTree


class DistributionFamily(Protocol):
    """A kind of distribution of one's own, for a rule of the mapper; must be hashable.

    Where actions are masked, its one parameter of categories or bits must be called "logits".
    """

    def shapes(self, space: Any) -> dict[str, tuple[int, ...]]:
        """Names and shapes (without batch axes) of the parameters that a network produces."""
        ...

    def build(self, space: Any, parameters: dict[str, Any]) -> Distribution:
        """The distribution over the space with these parameters, each [..., *shape]."""
        ...


@dataclasses.dataclass(frozen=True)
class DistributionMapper:
    """The mapping by kind of space, and rules that change it.

    Discrete: Categorical. MultiDiscrete: MultiCategorical. MultiBinary: Bernoulli.
    Box: DiagonalGaussian. Dict: Product of those of its keys.

        DistributionMapper(rules=((Box, "squashed_gaussian"), ("throttle", "beta")))
    """

    rules: tuple[tuple[Any, Any], ...] = ()
    """Pairs (for what, which distribution); where several apply, the last of them counts.

    For what: a class of spaces, a space (all that equal it), or the name of a head, the
    key of a Dict ("arm/grip" for the key "grip" of the Dict under "arm"). Which: a name
    ("categorical", "multi_categorical", "bernoulli", "diagonal_gaussian",
    "squashed_gaussian", "beta"), the class of that name, or a DistributionFamily.
    """

    def __post_init__(self) -> None:
        rules = tuple(tuple(rule) if isinstance(rule, list) else rule for rule in self.rules)
        object.__setattr__(self, "rules", rules)  # lists come from configuration files
        for i, rule in enumerate(rules):
            _check_rule(rule, f"DistributionMapper rules[{i}]")

    def parameters(self, space: Space) -> dict[str, Any]:
        """Names and shapes (without batch axes) of a distribution's parameters, nested as Dicts.

        A Discrete(3) has {"logits": (3,)}, a Dict with it under "gear" {"gear": {"logits": (3,)}}.
        """
        self._check_heads(space)
        return self._parameters(space, ())

    def distribution(self, space: Space, parameters: PyTree, masks: Masks = None) -> Distribution:
        """The distribution over the space with these parameters, each [..., *shape].

        The parameters are nested as `parameters` tells; they may have any batch axes.
        What the masks exclude, as `mazejax.spaces.masks` finds them, has probability 0.
        """
        self._check_heads(space)
        return self._distribution(space, parameters, masks, ())

    def to_env(self, space: Space, action: PyTree) -> PyTree:
        """What the environment receives for a drawn action; any leading batch axes.

        Entries of a Box are clipped to its finite bounds and cast to its dtype (rounded,
        if it holds integers); the others are as they were drawn. So it is for any rules.
        """
        if isinstance(space, Dict):
            return {key: self.to_env(part, action[key]) for key, part in space.items()}
        return space.clip(action) if isinstance(space, Box) else action

    def _parameters(self, space: Space, path: tuple[str, ...]) -> dict[str, Any]:
        choice = self._choice(space, path)
        if choice is None and isinstance(space, Dict):
            return {key: self._parameters(part, (*path, key)) for key, part in space.items()}
        return _family(choice, space, path).shapes(space)

    def _distribution(
        self, space: Space, parameters: PyTree, masks: Masks, path: tuple[str, ...]
    ) -> Distribution:
        wanted = self._parameters(space, path)
        where = "parameters" + "".join(f"[{key!r}]" for key in path)
        _check_names(parameters, wanted, where)
        choice = self._choice(space, path)
        if choice is None and isinstance(space, Dict):
            by_key = masks or {}
            parts = {
                key: self._distribution(part, parameters[key], by_key.get(key), (*path, key))
                for key, part in space.items()
            }
            return Product(parts)
        _check_shapes(parameters, wanted, where)
        if masks is not None:
            parameters = {**parameters, "logits": _masked(space, parameters, masks, where)}
        return _family(choice, space, path).build(space, parameters)

    def _choice(self, space: Space, path: tuple[str, ...]) -> Any:
        """What the default and the rules say of the space under this path of keys, or None."""
        choices = [_DEFAULTS.get(type(space))]
        choices += [which for what, which in self.rules if _applies(what, space, path)]
        return choices[-1]

    def _check_heads(self, space: Space) -> None:
        """Raise ConfigError for a rule with the name of a head that the space lacks."""
        named = [what for what, _ in self.rules if isinstance(what, str)]
        if not named:
            return
        known = set(heads(space))
        for name in named:
            if name not in known:
                raise ConfigError(
                    f"DistributionMapper rules: got the head {name!r}, expected the name of a "
                    f"head of {space.summary}; {did_you_mean(name, known)}"
                )


def _applies(what: Any, space: Space, path: tuple[str, ...]) -> bool:
    if isinstance(what, str):
        return what == "/".join(path)
    return isinstance(space, what) if isinstance(what, type) else what == space


def heads(space: Space, prefix: str = "") -> Iterator[str]:
    """Names of the parts of a Dict space, those of inner ones as `arm/grip`; none of others."""
    if isinstance(space, Dict):
        for key, part in space.items():
            yield prefix + key
            yield from heads(part, f"{prefix}{key}/")


class _Family(NamedTuple):
    """A kind of distribution of ours, and for which kind of space it is."""

    kind: type[Distribution]
    space: type[Space]
    shapes: Callable[[Any], dict[str, tuple[int, ...]]]
    build: Callable[[Any, dict[str, Any]], Distribution]

    def check(self, space: Space, where: str) -> None:
        """Raise ConfigError if this kind of distribution cannot serve the space."""
        if not isinstance(space, self.space):
            raise ConfigError(
                f"{where}: got {type(space).__name__}, expected {self.space.__name__}; "
                f"choose a distribution for this kind of space"
            )
        if self.kind in (SquashedGaussian, Beta):
            check_bounded(space, where)


def _multi_categorical(space: MultiDiscrete, parameters: dict[str, Any]) -> MultiCategorical:
    nvec, start = tuple(space.nvec.ravel().tolist()), tuple(space.start.ravel().tolist())
    return MultiCategorical(parameters["logits"], nvec, start, space.shape)


_FAMILIES: dict[str, _Family] = {
    "categorical": _Family(
        Categorical,
        Discrete,
        lambda space: {"logits": (space.n,)},
        lambda space, parameters: Categorical(parameters["logits"], space.start),
    ),
    "multi_categorical": _Family(
        MultiCategorical,
        MultiDiscrete,
        lambda space: {"logits": (space.flat_size,)},
        _multi_categorical,
    ),
    "bernoulli": _Family(
        Bernoulli,
        MultiBinary,
        lambda space: {"logits": space.shape},
        lambda space, parameters: Bernoulli(parameters["logits"], len(space.shape)),
    ),
    "diagonal_gaussian": _Family(
        DiagonalGaussian,
        Box,
        lambda space: {"mean": space.shape, "log_std": space.shape},
        lambda space, parameters: DiagonalGaussian(
            parameters["mean"], parameters["log_std"], len(space.shape)
        ),
    ),
    "squashed_gaussian": _Family(
        SquashedGaussian,
        Box,
        lambda space: {"mean": space.shape, "log_std": space.shape},
        lambda space, parameters: SquashedGaussian(
            parameters["mean"], parameters["log_std"], space
        ),
    ),
    "beta": _Family(
        Beta,
        Box,
        lambda space: {"alpha": space.shape, "beta": space.shape},
        lambda space, parameters: Beta.unimodal(parameters["alpha"], parameters["beta"], space),
    ),
}
_DEFAULTS: dict[type[Space], str] = {
    Discrete: "categorical",
    MultiDiscrete: "multi_categorical",
    MultiBinary: "bernoulli",
    Box: "diagonal_gaussian",
}


def _family(choice: Any, space: Space, path: tuple[str, ...]) -> DistributionFamily:
    """The family that the mapper chose for the space, checked against it if it is of ours."""
    if choice is None:
        raise ConfigError(
            f"DistributionMapper: got {type(space).__name__}, expected one of "
            f"{', '.join(kind.__name__ for kind in _DEFAULTS)}, Dict; build the space from these, "
            f"or give a rule with a DistributionFamily for it"
        )
    family = _ours(choice)
    if family is None:
        return choice
    head = f"head {'/'.join(path)!r}: " if path else ""
    family.check(space, f"DistributionMapper: {head}{family.kind.__name__}")
    return family


def _ours(choice: Any) -> _Family | None:
    """The family of ours with this name or class; None for one of the user's own."""
    if isinstance(choice, str):
        return _FAMILIES[choice]
    return next((family for family in _FAMILIES.values() if family.kind is choice), None)


def _check_rule(rule: Any, where: str) -> None:
    if not isinstance(rule, tuple) or len(rule) != 2:
        raise ConfigError(
            f"{where}: got {rule!r}, expected a pair such as ('throttle', 'beta'); "
            f"give what the rule is for and the distribution"
        )
    what, which = rule
    is_kind = isinstance(what, type) and issubclass(what, Space)
    if not (is_kind or isinstance(what, (str, Space))):
        raise ConfigError(
            f"{where}: got {what!r}, expected a class of spaces, a space or the name of a head; "
            f"put that first"
        )
    if isinstance(which, str):
        if which not in _FAMILIES:
            raise ConfigError(
                f"{where}: unknown distribution {which!r}; {did_you_mean(which, _FAMILIES)}"
            )
        return
    own = not isinstance(which, type) and all(
        callable(getattr(which, name, None)) for name in ("shapes", "build")
    )
    if not own and _ours(which) is None:
        raise ConfigError(
            f"{where}: got {which!r}, expected a name ({', '.join(_FAMILIES)}), the class of one "
            f"of them, or an object with the methods shapes and build; see DistributionFamily"
        )
    try:
        hash(which)
    except TypeError:
        raise ConfigError(
            f"{where}: got a {type(which).__name__} without a hash, expected a hashable object; "
            f"make its class a frozen dataclass"
        ) from None


def _check_names(parameters: PyTree, wanted: dict[str, Any], where: str) -> None:
    got = sorted(parameters) if isinstance(parameters, dict) else type(parameters).__name__
    if got != sorted(wanted):
        raise ConfigError(
            f"{where}: got {got}, expected {sorted(wanted)}; produce what "
            f"DistributionMapper.parameters(space) names"
        )


def _check_shapes(parameters: PyTree, wanted: dict[str, Any], where: str) -> None:
    for name, shape in wanted.items():
        got = parameters[name].shape
        if got[len(got) - len(shape) :] != shape:
            raise ConfigError(
                f"{where}[{name!r}]: got shape {got}, expected any batch axes and then "
                f"{shape}; give the head the size that the space needs"
            )


def _masked(space: Space, parameters: dict[str, Any], masks: Masks, where: str) -> Any:
    if isinstance(space, MASKABLE) and "logits" not in parameters:
        raise SpaceError(
            f"{where}: cannot be masked, for it has {sorted(parameters)} and no 'logits'; "
            f"name the parameter of its categories or bits so, or do not mask it"
        )
    logits: Any = parameters.get("logits")
    return masked_logits(space, logits, masks)
