"""Learners, and what they share: rollouts, returns, losses, metrics."""

from mazejax._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "A2C": "mazejax.algos.a2c",
        "Algorithm": "mazejax.algos.base",
        "ES": "mazejax.algos.es",
        "PPO": "mazejax.algos.ppo",
        "TrainState": "mazejax.algos.base",
        "collect": "mazejax.algos.collect",
        "gae": "mazejax.algos.returns",
        "metrics": "mazejax.algos.metrics",
        "returns": "mazejax.algos.returns",
    },
)
