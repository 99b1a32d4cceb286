"""Wrappers that end episodes by the clock."""

import numpy as np

from mazejax.base import is_concrete
from mazejax.envs.base import StateStep
from mazejax.errors import ConfigError
from mazejax.types import Array, Key, PyTree
from mazejax.wrappers.base import Wrapper


class TimeLimit(Wrapper):
    """Truncates an episode after `max_steps` flat steps.

    A natural end in the last allowed step sets both flags, so nothing is bootstrapped.
    The limit is read from the env's own time and costs no state.
    """

    max_steps: Array | int = 1000
    """Flat steps an episode may last; a leaf, so it may differ between vectorized envs."""

    def validate(self) -> None:
        """Raise ConfigError unless the limit is a positive whole number."""
        limit = self.max_steps
        if is_concrete(limit) and not np.all(np.asarray(limit) >= 1):
            raise ConfigError(f"TimeLimit.max_steps: must be at least 1, got {limit}")

    def step_state(self, key: Key, state: PyTree, action: PyTree) -> StateStep:
        """The wrapped env's step, truncated when the time is up."""
        step = self.env.step_state(key, state, action)
        return step._replace(truncated=step.truncated | (self.time(step.state) >= self.max_steps))
