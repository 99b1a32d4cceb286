"""Environments: the hierarchy, vectorization, the built-in tasks and the bridges."""

from mazejax._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "ActionConversion": "mazejax.envs.conversion",
        "CoreEnv": "mazejax.envs.core",
        "CoreReset": "mazejax.envs.core",
        "CoreStep": "mazejax.envs.core",
        "Env": "mazejax.envs.base",
        "EnvState": "mazejax.envs.maze_env",
        "Episode": "mazejax.envs.episode",
        "EpisodeEnd": "mazejax.envs.reset_params",
        "EventPolicy": "mazejax.envs.episode",
        "MazeEnv": "mazejax.envs.maze_env",
        "ObservationConversion": "mazejax.envs.conversion",
        "ResetParams": "mazejax.envs.reset_params",
        "RewardAggregator": "mazejax.envs.reward",
        "RewardSum": "mazejax.envs.reward",
        "StateStep": "mazejax.envs.base",
        "SuccessGatedCurriculum": "mazejax.envs.reset_params",
        "VectorEnv": "mazejax.envs.vector",
        "VectorState": "mazejax.envs.vector",
        "check_env": "mazejax.envs.check",
        "play": "mazejax.envs.episode",
        "random_policy": "mazejax.envs.episode",
        "replay": "mazejax.envs.episode",
    },
)
