"""Runs: the host loop around compiled updates, and all that a run leaves on disk."""

from mazejax._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "Evaluation": "mazejax.runners.evaluation",
        "MetricsWriter": "mazejax.runners.writers",
        "Plan": "mazejax.runners.plan",
        "RunContext": "mazejax.runners.run_context",
        "RunSettings": "mazejax.runners.settings",
        "plan": "mazejax.runners.plan",
        "train": "mazejax.runners.run_context",
    },
)
