"""Options of other libraries' constructors, which become constants of our programs."""

from typing import Any

from mazejax.errors import ConfigError


def constant(key: str, value: Any) -> Any:
    """An option of a constructor as a hashable value: lists become tuples.

    Raises ConfigError for a value that has no hash.
    """
    value = tuple(value) if isinstance(value, list) else value
    try:
        hash(value)
    except TypeError:
        raise ConfigError(
            f"{key}: got {type(value).__name__}, expected a number, a text or a list of them, "
            f"since it is a constant of the program; leave it out or convert it"
        ) from None
    return value
