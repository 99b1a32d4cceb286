"""Overrides in, plain configuration out: Hydra composes, we check and explain.

Keys are compared with those that the classes have before Hydra sees them, so that a
misspelt one meets a suggestion; what remains of Hydra's errors becomes one line that
starts with the key.
"""

import os
import re
import sys
from collections.abc import Callable
from typing import Any

from mazejax import registry
from mazejax.conf import experiments, nodes
from mazejax.errors import ConfigError, MazejaxError, did_you_mean
from mazejax.runners.config import TEMPLATE
from mazejax.wrappers.compose import field_names

_WRAPPER_LIST = "wrapper_list"
"""Where a list of wrappers waits: as a value of `wrappers`, Hydra takes it for several names."""

Function = Callable[[dict[str, Any]], int]


def run_with_config(arguments: list[str], function: Function) -> list[int]:
    """Call the function with the composed configuration, once or for every multirun job.

    `arguments` are Hydra's: flags such as `-m` and `--help`, then overrides. Returns the
    exit codes. Raises ConfigError with the dotted key in front.
    """
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    os.environ["HYDRA_FULL_ERROR"] = "1"  # raise, instead of printing and exiting
    algorithm, free = _check_overrides([a for a in arguments if not a.startswith("-")])
    nodes.store()
    codes: list[int] = []
    errors: list[MazejaxError] = []

    @hydra.main(version_base="1.3", config_path=None, config_name="train")
    def call(config: Any) -> None:
        try:
            plain = _plain(config)
            plain["wrappers"] = plain.pop(_WRAPPER_LIST, plain["wrappers"]) or {}
            codes.append(function({**plain, "algorithm_name": _choice(algorithm)}))
        except MazejaxError as error:  # kept from Hydra, which would print around it
            errors.append(error)

    wanted = [_as_hydra_has_it(argument, free) for argument in _flags_first(arguments)]
    argv, sys.argv = sys.argv, ["mazejax train", *wanted]
    try:
        call()
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_one_line(error)) from error
    finally:
        sys.argv = argv
    if errors:
        raise errors[0]
    return codes


def _check_overrides(overrides: list[str]) -> tuple[str, tuple[str, ...]]:
    """The chosen algorithm, and with what keys begin that one may invent.

    Raises ConfigError for an unknown key or choice.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parsed = []
    for text in overrides:
        try:
            parsed += OverridesParser.create().parse_overrides([text])
        except HydraException as error:
            key = text.split("=")[0]
            raise ConfigError(f"{key}: cannot read {text!r}; write key=value") from error
    choices = {o.key_or_group: str(o.value()) for o in parsed if not o.is_sweep_override()}
    chosen = _chosen_algorithm(choices)
    known = nodes.known_keys(chosen, _chosen_network(choices))
    inner = tuple(key for key in known if key.endswith("."))
    free = (*inner, *(f"{key[:-1]}={{" for key in inner))
    for override in parsed:
        key = override.key_or_group
        if key not in known and not key.startswith(("hydra.", "hydra/", *inner)):
            raise ConfigError(f"{key}: unknown key; {_suggest(key, known)}")
        if key.startswith("wrappers."):
            _check_wrapper(key)
        elif key == "wrappers" and not override.is_sweep_override():
            _check_stack(override.value())
    return chosen, free


def _check_stack(value: Any) -> None:
    """Raise ConfigError unless `wrappers=VALUE` is a name, a mapping or a list."""
    if isinstance(value, str):
        experiments.load(value, "wrappers")
    elif not isinstance(value, (dict, list)):
        raise ConfigError(
            f"wrappers: expected a name or wrappers with their fields, got {value!r}; "
            f"for instance wrappers={{TimeLimit:{{max_steps:100}}}}"
        )


def _check_wrapper(key: str) -> None:
    """Raise ConfigError unless `wrappers.NAME.FIELD` names what there is."""
    _, name, *rest = key.split(".")
    names = registry.wrappers.names()
    if name not in names:
        near = {".".join(("wrappers", other, *rest)) for other in names}
        raise ConfigError(f"{key}: unknown wrapper; {did_you_mean(key, near)}")
    try:
        known = field_names(registry.wrappers.get(name))
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from None
    if rest and known is not None and rest[0] not in known:
        fields = {f"wrappers.{name}.{field}" for field in known}
        raise ConfigError(f"{key}: unknown key; {did_you_mean(key, fields)}")


def _chosen_network(choices: dict[str, str]) -> str | None:
    """The template of networks that is chosen; None for that of the algorithm."""
    if "algorithm/network" in choices:
        name, known = choices["algorithm/network"], registry.networks.names()
        if name not in known:
            raise ConfigError(f"algorithm/network: unknown {name!r}; {did_you_mean(name, known)}")
        return name
    if "experiment" not in choices:
        return None
    return experiments.choices(experiments.load(choices["experiment"])).get("algorithm/network")


def _chosen_algorithm(choices: dict[str, str]) -> str:
    """That of the overrides, else that of their experiment."""
    names = registry.algorithms.names()
    chosen = choices.get("algorithm")
    if chosen is not None and chosen not in names:
        raise ConfigError(f"algorithm: unknown {chosen!r}; {did_you_mean(chosen, names)}")
    if "experiment" not in choices:
        return chosen or nodes.DEFAULT_ALGORITHM
    settings = experiments.load(choices["experiment"])
    own = experiments.algorithm_name(settings)
    fields = settings.get("algorithm", {})
    plain = [key for key, value in fields.items() if not isinstance(value, dict)]
    foreign = {f"algorithm.{key}" for key in plain} - nodes.known_keys(chosen or own)
    if foreign:
        raise ConfigError(
            f"algorithm: {chosen} has no {min(foreign)}, which experiment={choices['experiment']} "
            f"sets; leave out algorithm={chosen}"
        )
    return chosen or own


def _suggest(key: str, known: set[str]) -> str:
    """Suggestion among the keys, also of those whose last part is meant without its group."""
    if key == f"algorithm.network.{TEMPLATE}":
        return "choose it by algorithm/network=NAME"
    last = key.rsplit(".", 1)[-1]
    same_ending = sorted(k for k in known if k.rsplit(".", 1)[-1] == last)
    if key.split(".")[0] in registry.wrappers.names():
        same_ending = [f"wrappers.{key}"]
    if same_ending:
        return f"did you mean {same_ending[0]!r}?"
    _, dot, rest = key.partition(".")
    return did_you_mean(key, known | {f"{k}{rest}" for k in known if dot and k.endswith(".")})


def _plain(config: Any) -> dict[str, Any]:
    from omegaconf import OmegaConf

    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


def _choice(default: str) -> str:
    from hydra.core.hydra_config import HydraConfig

    return str(HydraConfig.get().runtime.choices.get("algorithm", default))


def _as_hydra_has_it(argument: str, free: tuple[str, ...]) -> str:
    if argument.startswith("wrappers=["):
        return argument.replace("wrappers", f"++{_WRAPPER_LIST}", 1)
    # Hydra has no node that knows the keys that one likes.
    return f"++{argument}" if argument.startswith(free) else argument


def _flags_first(arguments: list[str]) -> list[str]:
    # Hydra takes what follows the first override for overrides too.
    return sorted(arguments, key=lambda argument: not argument.startswith("-"))


def _one_line(error: BaseException) -> str:
    """Key and reason of an error, found along its chain of causes."""
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    keys = [getattr(link, "full_key", None) for link in reversed(chain)]
    keys += re.findall(r"override \+*([^\s=]+)=", str(error))
    key = next((str(key) for key in keys if key), "")
    reason = str(chain[-1]).split("\n")[0].replace("$FULL_KEY", key)
    if reason.endswith("is not Optional"):
        reason = "must not be null"
    return reason if reason.startswith(key) else f"{key}: {reason}"
