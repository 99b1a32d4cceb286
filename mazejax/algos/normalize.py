"""Rewards of one scale: divided by the running standard deviation of discounted returns.

The statistics are part of the train state and touch nothing but what is learned from:
reported and evaluated returns are always the env's own. Observations are normalized where
their statistics live, beside the weights, in `networks.normalization`.
"""

from typing import Self

import jax
import jax.numpy as jnp

from mazejax.algos.credit import has_own_rewards
from mazejax.base import Pytree
from mazejax.envs.base import Env
from mazejax.envs.structured import step_keys
from mazejax.networks.normalization import CLIP, RunningStatistics
from mazejax.types import Array, Rollout


class RewardStatistics(Pytree):
    """How far discounted returns spread: one number, for all streams of reward together.

    A stream is the reward of a flat step, or that of each slot where slots have rewards of
    their own. As `VecNormalize` of OpenAI baselines does it, whose clipping keeps first
    rewards after long silence, and returns that are always the same, from being huge.
    """

    statistics: RunningStatistics
    """Of discounted returns so far in their episodes."""
    returns: Array
    """Of the running episodes, [N, S] float32."""

    @classmethod
    def start(cls, env: Env, num_envs: int) -> Self:
        """Of nothing seen."""
        own = sum(
            env.agent_counts[actor.step_key] if actor.agent_id is None else 1
            for actor in env.actors
        )
        streams = own if has_own_rewards(env) else 1
        return cls(RunningStatistics.start(), jnp.zeros((num_envs, streams), jnp.float32))

    def scale(
        self, env: Env, rollout: Rollout, gamma: float | Array, axis_name: str | None = None
    ) -> tuple[Self, Rollout]:
        """The statistics with a rollout [T, N, ...] counted in, and it with scaled rewards.

        No scaled reward is larger than `normalization.CLIP`.
        Inside `shard_map` the name of the mesh axis counts the rollouts of all devices.
        """
        steps = [rollout.transitions[key] for key in step_keys(env.actors)]
        rewards = jnp.concatenate([_by_slot(s.reward) for s in steps], axis=-1)
        if not has_own_rewards(env):
            rewards = jnp.sum(rewards, axis=-1, keepdims=True)
        done = (steps[0].terminated | steps[0].truncated)[..., None]

        def one_step(before: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
            reward, done = now
            returns = reward + gamma * before
            return jnp.where(done, 0.0, returns), returns

        last, returns = jax.lax.scan(one_step, self.returns, (rewards, done))
        statistics = self.statistics.add(returns, axis_name=axis_name)
        scaled = {
            key: s.replace(reward=jnp.clip(s.reward * statistics.scale, -CLIP, CLIP))
            for key, s in rollout.transitions.items()
        }
        return type(self)(statistics, last), rollout.replace(transitions=scaled)


def _by_slot(reward: Array) -> Array:
    """[T, N, S] from [T, N] or [T, N, S]."""
    return reward[..., None] if reward.ndim == 2 else reward
