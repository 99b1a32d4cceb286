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
        "MazeEnv": "mazejax.envs.maze_env",
        "ObservationConversion": "mazejax.envs.conversion",
        "StateStep": "mazejax.envs.base",
        "VectorEnv": "mazejax.envs.vector",
        "VectorState": "mazejax.envs.vector",
        "check_env": "mazejax.envs.check",
    },
)
