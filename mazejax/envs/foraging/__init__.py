"""Foraging: agents that move at once, see little, share food, and drop out when they starve."""

from mazejax._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "Foraging": "mazejax.envs.foraging.core",
        "ForagingEvents": "mazejax.envs.foraging.events",
        "ForagingKPIs": "mazejax.envs.foraging.events",
        "ForagingState": "mazejax.envs.foraging.core",
        "GreedyForager": "mazejax.envs.foraging.policies",
        "LocalView": "mazejax.envs.foraging.conversions",
        "StayOrMove": "mazejax.envs.foraging.conversions",
        "draw_foraging": "mazejax.envs.foraging.drawing",
        "make_foraging": "mazejax.envs.foraging.make",
    },
)
