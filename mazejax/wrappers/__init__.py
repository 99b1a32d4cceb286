"""Wrappers: envs around an env, each of one concern."""

from mazejax._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {"TimeLimit": "mazejax.wrappers.time", "Wrapper": "mazejax.wrappers.base"},
)
