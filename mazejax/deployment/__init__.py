"""Trained policies outside training."""

from mazejax._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {"Interface": "mazejax.deployment.interface", "Policy": "mazejax.deployment.policy"},
)
