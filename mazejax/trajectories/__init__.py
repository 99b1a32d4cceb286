"""What was played, kept on disk."""

from mazejax._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "EpisodeRecord": "mazejax.trajectories.episode_file",
        "load_episode": "mazejax.trajectories.episode_file",
        "read_episode": "mazejax.trajectories.episode_file",
        "save_episode": "mazejax.trajectories.episode_file",
    },
)
