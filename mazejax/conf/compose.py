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
            codes.append(function({**_plain(config), "algorithm_name": _choice(algorithm)}))
        except MazejaxError as error:  # kept from Hydra, which would print around it
            errors.append(error)

    # Hydra has no node that knows the keys that one likes.
    wanted = [f"++{a}" if a.startswith(free) else a for a in _flags_first(arguments)]
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
    return chosen, free


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
    return f"did you mean {same_ending[0]!r}?" if same_ending else did_you_mean(key, known)


def _plain(config: Any) -> dict[str, Any]:
    from omegaconf import OmegaConf

    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


def _choice(default: str) -> str:
    from hydra.core.hydra_config import HydraConfig

    return str(HydraConfig.get().runtime.choices.get("algorithm", default))


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
