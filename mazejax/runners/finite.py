"""What to say when an update is not finite: which quantity was first, and whose fault it is."""

from typing import Any

from mazejax.algos.base import NONFINITE
from mazejax.envs.base import Env
from mazejax.errors import ConfigError, EnvError, MazejaxError


def first_nonfinite(row: dict[str, Any]) -> str | None:
    """The first quantity in an update's metrics that is not finite; causes go before effects."""
    return next((name for name in NONFINITE if row[f"nonfinite/{name}"].count > 0), None)


def nonfinite_error(quantity: str, where: str, env: Env) -> MazejaxError:
    """The error that blames the env for what it gave, and the settings for the rest."""
    if quantity in ("obs", "reward"):
        return EnvError(f"{where}; mend {env}")
    return ConfigError(f"{where}; learning diverged: try a smaller algorithm.learning_rate")
