"""Settings of a run that do not change what is learned: how often to look, save and show."""

import math

from mazejax.base import Pytree, static
from mazejax.errors import ConfigError, did_you_mean

_CHOICES = {
    "progress": ("auto", "plain", "none"),
    "print_statistics": ("evaluations", "end", "never"),
}


class RunSettings(Pytree):
    """How a run is watched and kept."""

    num_evaluations: int = static(default=10)
    """Evaluations spread evenly over the run; the best policy is chosen by them."""
    eval_episodes: int = static(default=100)
    """Episodes of one evaluation."""
    max_episode_steps: int = static(default=100_000)
    """Steps after which an evaluation episode that does not end is given up."""
    target_return: float | None = static(default=None)
    """Stop as soon as an evaluation reaches this mean return; None never does."""
    num_checkpoints: int = static(default=10)
    """Checkpoints spread evenly over the run, beside those at its beginning and end."""
    keep_checkpoints: int = static(default=3)
    """Latest checkpoints that stay on disk."""
    tensorboard: bool = static(default=True)
    """Write TensorBoard files."""
    progress: str = static(default="auto")
    """`auto` (a live line in a terminal), `plain` (lines that stay) or `none`."""
    print_statistics: str = static(default="end")
    """When a table of the statistics of events is printed: after `evaluations`, at the `end` or
    `never`; without progress it never is."""

    def validate(self) -> None:
        """Raise ConfigError for counts below their least value and unknown choices."""
        least = {"num_evaluations": 0, "num_checkpoints": 0}
        least |= {"eval_episodes": 1, "max_episode_steps": 1, "keep_checkpoints": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise ConfigError(
                    f"{name}: must be a whole number of at least {low}, got {value!r}"
                )
        if self.target_return is not None and not math.isfinite(self.target_return):
            raise ConfigError(f"target_return: must be finite, got {self.target_return}")
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value not in known:
                raise ConfigError(f"{name}: unknown {value!r}; {did_you_mean(str(value), known)}")


def spread(count: int, num_updates: int) -> frozenset[int]:
    """`count` update numbers spread evenly over 1..num_updates, the last included."""
    return frozenset(math.ceil(num_updates * (i + 1) / count) for i in range(count))
