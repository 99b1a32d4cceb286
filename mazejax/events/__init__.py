"""What happens in environments, in the problem's own words, and the statistics of it."""

from mazejax._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "ActionEvents": "mazejax.events.builtin",
        "Attribute": "mazejax.events.topic",
        "BaseEnvEvents": "mazejax.events.builtin",
        "Distribution": "mazejax.events.distribution",
        "EpisodeStatistics": "mazejax.events.statistics",
        "EpochStatistics": "mazejax.events.epoch",
        "Event": "mazejax.events.topic",
        "EventLog": "mazejax.events.log",
        "Firings": "mazejax.events.log",
        "KPICalculator": "mazejax.events.kpi",
        "ObservationEvents": "mazejax.events.builtin",
        "PolicyEvents": "mazejax.events.builtin",
        "Report": "mazejax.events.report",
        "RewardEvents": "mazejax.events.builtin",
        "Topic": "mazejax.events.topic",
        "episode_stats": "mazejax.events.levels",
        "epoch_stats": "mazejax.events.levels",
        "step_stats": "mazejax.events.levels",
    },
)
