"""mazejax: applied reinforcement learning, compiled end to end.

    import jax, mazejax

    env = mazejax.make("CartPole-v1")
    obs, state = env.reset(jax.random.key(0))
    run = mazejax.train("ppo", "CartPole-v1", total_steps=500_000)

Importing it imports no jax: every name is imported when it is first used.
"""

from importlib.metadata import version
from typing import Any

from mazejax import setup
from mazejax._lazy import lazy_names

setup.configure(cache=False)

_lazy_getattr, __dir__, __all__ = lazy_names(
    __name__,
    {
        "ActionConversion": "mazejax.envs.conversion",
        "A2C": "mazejax.algos.a2c",
        "ActorID": "mazejax.types",
        "Algorithm": "mazejax.algos.base",
        "Array": "mazejax.types",
        "CoreEnv": "mazejax.envs.core",
        "CoreReset": "mazejax.envs.core",
        "CoreStep": "mazejax.envs.core",
        "ES": "mazejax.algos.es",
        "Env": "mazejax.envs.base",
        "HostVectorEnv": "mazejax.envs.bridges.gymnasium",
        "MazeEnv": "mazejax.envs.maze_env",
        "ObservationConversion": "mazejax.envs.conversion",
        "PPO": "mazejax.algos.ppo",
        "Pytree": "mazejax.base",
        "RunContext": "mazejax.runners.run_context",
        "Scene": "mazejax.types",
        "Shape": "mazejax.types",
        "Step": "mazejax.types",
        "TimeLimit": "mazejax.wrappers.time",
        "VectorEnv": "mazejax.envs.vector",
        "Wrapper": "mazejax.wrappers.base",
        "algos": "mazejax.algos",
        "check_env": "mazejax.envs.check",
        "evaluate_on_host": "mazejax.runners.host",
        "envs": "mazejax.envs",
        "events": "mazejax.events",
        "errors": "mazejax.errors",
        "jit": "mazejax.base",
        "make": "mazejax.registry",
        "networks": "mazejax.networks",
        "random": "mazejax.random",
        "read_run": "mazejax.runners.read_run",
        "record_events": "mazejax.runners.event_recording",
        "register": "mazejax.registry",
        "registry": "mazejax.registry",
        "runners": "mazejax.runners",
        "spaces": "mazejax.spaces",
        "static": "mazejax.base",
        "sweep": "mazejax.runners.sweep",
        "train": "mazejax.runners.run_context",
        "train_on_host": "mazejax.runners.host",
        "trajectories": "mazejax.trajectories",
        "wrap": "mazejax.wrappers.compose",
        "wrappers": "mazejax.wrappers",
    },
)


def __getattr__(name: str) -> Any:
    return version("mazejax") if name == "__version__" else _lazy_getattr(name)
