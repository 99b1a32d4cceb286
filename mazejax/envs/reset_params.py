"""`ResetParams`: numbers of an env that are chosen anew for every episode.

Domain randomization and curricula: a hook draws an env's numbers at each reset and may
remember how its episodes went. Every env has a memory of its own, so what it draws
depends neither on how many envs stand beside it nor on the reset strategy.
"""

from typing import ClassVar, NamedTuple

import jax.numpy as jnp

from mazejax.base import Pytree, static
from mazejax.errors import ConfigError
from mazejax.types import Array, Key, PyTree


class EpisodeEnd(NamedTuple):
    """How an episode of one env ended."""

    episode_return: Array
    """Sum of the rewards, float32 []."""
    length: Array
    """Flat steps, int32 []."""
    terminated: Array
    """bool []."""
    truncated: Array
    """bool []."""


class ResetParams(Pytree):
    """Chooses the numbers of one env for each of its episodes; vectorized by `VectorEnv`."""

    compile_time: ClassVar[bool] = True

    def init(self) -> PyTree:
        """What is remembered before the first episode."""
        return ()

    def sample(self, key: Key, memory: PyTree) -> dict[str, Array]:
        """Numbers of the env, by field name, for the episode that begins."""
        raise NotImplementedError

    def update(self, memory: PyTree, episode: EpisodeEnd) -> PyTree:
        """What is remembered after an episode."""
        return memory


class CurriculumMemory(Pytree):
    """Where an env stands in a curriculum."""

    level: Array
    """int32 []."""
    streak: Array
    """Successes in a row, or failures as a negative number, int32 []."""


class SuccessGatedCurriculum(ResetParams):
    """One number that grows harder while episodes succeed, and easier while they fail.

    An episode succeeds when its return reaches `success_return`. After `patience`
    successes in a row the level rises by one, after as many failures it falls by one.
    """

    parameter: str = static()
    """Field of the env, named as in `VectorEnv.batched`."""
    easiest: float
    """The number at level 0."""
    hardest: float
    """The number at the last level; those between lie on a line."""
    success_return: float
    num_levels: int = static(default=10)
    patience: int = static(default=3)

    def validate(self) -> None:
        """Raise ConfigError unless there are levels to climb and a patience to climb them."""
        if self.num_levels < 2 or self.patience < 1:
            raise ConfigError(
                f"SuccessGatedCurriculum: expected num_levels >= 2 and patience >= 1, got "
                f"{self.num_levels} and {self.patience}"
            )

    def init(self) -> CurriculumMemory:
        """Level 0."""
        return CurriculumMemory(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))

    def sample(self, key: Key, memory: CurriculumMemory) -> dict[str, Array]:
        """The number of the level; nothing about it is random."""
        share = memory.level.astype(jnp.float32) / (self.num_levels - 1)
        return {self.parameter: self.easiest + share * (self.hardest - self.easiest)}

    def update(self, memory: CurriculumMemory, episode: EpisodeEnd) -> CurriculumMemory:
        """A longer or a new streak; at the end of its patience another level."""
        success = episode.episode_return >= self.success_return
        streak = jnp.where(
            success, jnp.maximum(memory.streak, 0) + 1, jnp.minimum(memory.streak, 0) - 1
        )
        moves = jnp.abs(streak) >= self.patience
        level = jnp.clip(
            memory.level + jnp.where(moves, jnp.sign(streak), 0), 0, self.num_levels - 1
        )
        return CurriculumMemory(level, jnp.where(moves, 0, streak))
