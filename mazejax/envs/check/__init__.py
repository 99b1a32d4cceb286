"""`check_env`: does an environment keep its contract, and how to mend it where it does not."""

from mazejax._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "CheckReport": "mazejax.envs.check.report",
        "Costs": "mazejax.envs.check.report",
        "check_env": "mazejax.envs.check.report",
    },
)
