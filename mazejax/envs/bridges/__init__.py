"""Bridges: environments of other libraries as ours, and ours as theirs."""

from mazejax._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {"brax": "mazejax.envs.bridges.brax", "gymnax": "mazejax.envs.bridges.gymnax"},
)
