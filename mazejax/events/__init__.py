"""What happens in environments, in the problem's own words."""

from mazejax._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "Attribute": "mazejax.events.topic",
        "EpisodeCounts": "mazejax.events.kpi",
        "Event": "mazejax.events.topic",
        "EventLog": "mazejax.events.log",
        "Firings": "mazejax.events.log",
        "KPICalculator": "mazejax.events.kpi",
        "Topic": "mazejax.events.topic",
    },
)
