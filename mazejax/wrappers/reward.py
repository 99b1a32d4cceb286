"""Wrappers that change rewards: scaling, clipping, and normalization by the returns so far.

What the env itself gave stays in `info["reward_original"]`. All work alike on rewards []
and [A], and on the credit that an env redistributes.
"""

import jax.numpy as jnp
import numpy as np

from mazejax.base import Pytree, is_concrete
from mazejax.envs.base import StateStep
from mazejax.envs.structured import flat_reward
from mazejax.errors import ConfigError
from mazejax.types import Array, Key, PyTree
from mazejax.wrappers.base import RewardWrapper, StatefulWrapper, WrapperState, with_reward


class RewardScaling(RewardWrapper):
    """Multiplies rewards by `scale`."""

    scale: float = 1.0
    """Factor; a leaf, so it may differ between vectorized envs."""

    def validate(self) -> None:
        """Raise ConfigError unless the factor is finite."""
        if is_concrete(self.scale) and not np.isfinite(self.scale).all():
            raise ConfigError(f"RewardScaling.scale: must be a finite number, got {self.scale}")

    def reward(self, reward: Array) -> Array:
        """The scaled reward."""
        return reward * self.scale


class RewardClipping(RewardWrapper):
    """Clips every reward to [min_val, max_val]; of agents at once, each one's."""

    min_val: float = -1.0
    max_val: float = 1.0

    def validate(self) -> None:
        """Raise ConfigError unless there is a number between the bounds."""
        if not is_concrete((self.min_val, self.max_val)):
            return
        if not np.all(np.asarray(self.min_val) <= np.asarray(self.max_val)):
            raise ConfigError(
                f"RewardClipping.min_val: must be at most max_val, got {self.min_val} and "
                f"{self.max_val}; exchange them"
            )

    def reward(self, reward: Array) -> Array:
        """The clipped reward."""
        return jnp.clip(reward, self.min_val, self.max_val)


class ReturnMoments(Pytree):
    """What is known of the discounted returns of one env."""

    running_return: Array
    """R of the running episode, float32 []."""
    count: Array
    """Returns seen, float32 []; stands still at 2^24, where the mean has long converged."""
    mean: Array
    """Their mean, float32 []."""
    m2: Array
    """Sum of their squared deviations from the mean, float32 []."""

    def seen(self) -> "ReturnMoments":
        """The moments of one return more, the running one. Welford, 1962."""
        count = self.count + 1.0
        deviation = self.running_return - self.mean
        mean = self.mean + deviation / count
        m2 = self.m2 + deviation * (self.running_return - mean)
        return self.replace(count=count, mean=mean, m2=m2)


class ReturnNormalization(StatefulWrapper):
    """Divides rewards by the standard deviation of the discounted returns seen so far.

    R = gamma * R + r in every flat step, where r sums over sub-steps and agents;
    reward / sqrt(Var[R] + epsilon), without a shift. As long as all returns were equal, as
    the first is, rewards are left as they are. Earlier sub-steps of a flat step are divided
    by what was known before it. Engstrom et al., 2020, arXiv:2005.12729, section 3.

    R is 0 when an episode begins; the moments belong to the place in a `VectorEnv` and
    outlive its episodes, while a reset by hand begins anew. Hence what an episode earns
    depends on those before it: replay it on the wrapped env.
    """

    gamma: float = 0.99
    """Discount of the returns."""
    epsilon: float = 1e-8
    """Added to the variance."""

    def validate(self) -> None:
        """Raise ConfigError for a discount outside [0, 1] or a negative epsilon."""
        if is_concrete(self.gamma) and not np.all((0 <= self.gamma) & (self.gamma <= 1)):
            raise ConfigError(f"ReturnNormalization.gamma: must be from 0 to 1, got {self.gamma}")
        if is_concrete(self.epsilon) and not np.all(np.asarray(self.epsilon) > 0):
            raise ConfigError(f"ReturnNormalization.epsilon: must be positive, got {self.epsilon}")

    @property
    def has_carry_over(self) -> bool:
        """The moments outlive episodes."""
        return True

    def carry_over(self, ended: WrapperState, fresh: WrapperState) -> WrapperState:
        """The moments go on, the return begins anew."""
        memory = ended.memory.replace(running_return=fresh.memory.running_return)
        return super().carry_over(ended, fresh).replace(memory=memory)

    def first(self, key: Key, inner: PyTree) -> ReturnMoments:
        """Nothing seen."""
        nothing = jnp.zeros((), jnp.float32)
        return ReturnMoments(nothing, nothing, nothing, nothing)

    def next(
        self, memory: ReturnMoments, before: PyTree, action: PyTree, step: StateStep
    ) -> ReturnMoments:
        """The running return with this reward, and seen when the flat step is over."""
        is_first, is_last = self.env.substep(before) == 0, self.env.substep(step.state) == 0
        past = memory.running_return * self.gamma if is_first else memory.running_return
        memory = memory.replace(running_return=past + flat_reward([step.reward]))
        return memory.seen() if is_last else memory

    def step_state(self, key: Key, state: WrapperState, action: PyTree) -> StateStep:
        """The wrapped env's step with the divided reward."""
        step = super().step_state(key, state, action)
        moments = step.state.memory
        variance = moments.m2 / jnp.maximum(moments.count, 1.0)
        deviation = jnp.sqrt(variance + self.epsilon)
        scale = jnp.where(moments.m2 > 0, 1.0 / deviation, 1.0)
        return with_reward(step, step.reward * scale, lambda credit: credit * scale)
