"""Proximal policy optimization.

Rollouts, generalised advantages, several epochs of shuffled minibatches on the clipped
surrogate. Schulman et al., 2017, arXiv:1707.06347; details as Huang et al., "The 37
implementation details of PPO", 2022, but for truncation, which is bootstrapped exactly.
"""

import jax
import jax.numpy as jnp
import optax

from mazejax.algos import losses, minibatch
from mazejax.algos.actor_critic import ActorCriticAlgorithm, Batch, Batches, Optimized
from mazejax.algos.base import (
    TrainState,
    check_divides,
    check_positive_integers,
    check_range,
    update_key,
)
from mazejax.base import static
from mazejax.types import Array


class PPO(ActorCriticAlgorithm):
    """PPO for any observation and action space and any schedule, a network per step key."""

    num_epochs: int = static(default=4)
    """Passes over each rollout."""
    num_minibatches: int = static(default=4)
    """Parts that each pass is shuffled into."""
    clip_eps: float = 0.2
    """Largest change of the action probability ratio per update."""
    value_clip: float | None = None
    """Largest change of the value per update; None does not limit it."""
    target_kl: float | None = None
    """No more is learned from a rollout once a minibatch has 1.5 times this approximate KL
    divergence from the policy that collected it; None does not stop. The metric
    `optimizer/minibatches` says of how many was learned."""

    def validate(self) -> None:
        """Raise ConfigError for numbers out of range and sizes that do not divide."""
        super().validate()
        check_positive_integers(self, "num_epochs", "num_minibatches")
        rows, what = self.steps_per_update, "num_envs * num_steps"
        if any(network.is_recurrent for network in self.actor_critics.values()):
            rows, what = self.num_envs, "num_envs (of recurrent policies)"
        check_divides(what, rows, "num_minibatches", self.num_minibatches)
        check_range(self, "clip_eps", open_low=True)
        for name in ("value_clip", "target_kl"):
            if getattr(self, name) is not None:
                check_range(self, name, open_low=True)

    def optimize(self, state: TrainState, batches: Batches) -> Optimized:
        """All epochs, one minibatch after the other; parts have an axis of minibatches."""
        packed, unpack = minibatch.pack(batches)
        key = update_key(state, "shuffle")
        if self.axis_name is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(self.axis_name))
        num_rows = jax.tree.leaves(packed)[0].shape[0]
        size = num_rows // self.num_minibatches
        rate = self._learning_rate(state.updates)
        ent_coef = self._entropy_weight(state.updates)

        def one_minibatch(carry: tuple, step: Array) -> tuple[tuple, tuple]:
            variables, optimizer, *stopped = carry
            epoch, index = step // self.num_minibatches, step % self.num_minibatches
            rows = minibatch.shuffled_rows(packed, jax.random.fold_in(key, epoch), index, size)
            gradient, parts = self.gradient(variables, unpack(rows), ent_coef)
            parts["optimizer/grad_norm"] = optax.tree.norm(gradient)
            moved = self.descend(variables, optimizer, gradient, rate)
            if self.target_kl is not None:
                now = stopped[0] | (_largest_kl(parts) > 1.5 * self.target_kl)
                moved = jax.tree.map(
                    lambda old, new: jnp.where(now, old, new), (variables, optimizer), moved
                )
                stopped = [now]
            return (*moved, *stopped), (parts, *map(jnp.logical_not, stopped))

        begin: tuple = (state.variables, state.optimizer)
        if self.target_kl is not None:
            begin = (*begin, jnp.zeros((), bool))
        (variables, optimizer, *_), parts = jax.lax.scan(
            one_minibatch, begin, jnp.arange(self.num_epochs * self.num_minibatches)
        )
        return Optimized(variables, optimizer, *parts)

    def policy_losses(self, log_prob: Array, batch: Batch) -> tuple[Array, dict[str, Array]]:
        """The clipped surrogate of each entry."""
        log_ratio = log_prob - batch.log_prob
        if batch.weight is not None:
            # Nothing holds the ratio of what does not count near 1: it might overflow.
            log_ratio = jnp.where(batch.weight > 0, log_ratio, 0.0)
        ratio = jnp.exp(log_ratio)
        return losses.clipped_surrogate(ratio, batch.advantage, self.clip_eps), {
            "policy/approx_kl": losses.approximate_kl(log_ratio),
            "policy/clip_fraction": jnp.abs(ratio - 1.0) > self.clip_eps,
        }

    def value_losses(self, value: Array, batch: Batch) -> Array:
        """Half the squared errors, those of values kept near the old ones if `value_clip`."""
        if self.value_clip is None:
            return losses.value_loss(value, batch.target)
        return losses.clipped_value_loss(value, batch.value, batch.target, self.value_clip)


def _largest_kl(parts: dict[str, Array]) -> Array:
    kls = [value for name, value in parts.items() if name.startswith("policy/approx_kl")]
    return jnp.stack(kls).max()
