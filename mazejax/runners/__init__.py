"""Runs: the host loop around compiled updates, and all that a run leaves on disk."""

from mazejax._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "ConsoleWriter": "mazejax.runners.console",
        "Evaluation": "mazejax.runners.evaluation",
        "MetricsWriter": "mazejax.runners.writers",
        "Plan": "mazejax.runners.plan",
        "RunContext": "mazejax.runners.run_context",
        "RunSettings": "mazejax.runners.settings",
        "Sweep": "mazejax.runners.sweep",
        "evaluate_on_host": "mazejax.runners.host",
        "plan": "mazejax.runners.plan",
        "record_events": "mazejax.runners.event_recording",
        "sweep": "mazejax.runners.sweep",
        "train": "mazejax.runners.run_context",
        "train_on_host": "mazejax.runners.host",
        "trained_policy": "mazejax.runners.event_playing",
        "write_hparams": "mazejax.runners.hparams",
    },
)
