"""Advantage actor-critic, synchronous.

Every rollout is used for one gradient step of the plain policy gradient with generalised
advantages. Mnih et al., 2016, arXiv:1602.01783, without the asynchrony.
"""

import optax

from mazejax.algos.actor_critic import ActorCriticAlgorithm, Batch, Batches, Optimized
from mazejax.algos.base import TrainState
from mazejax.base import static
from mazejax.types import Array


class A2C(ActorCriticAlgorithm):
    """A2C for any observation and action space and any schedule, a network per step key."""

    num_steps: int = static(default=8)
    """Flat steps of each env in one rollout, T."""
    advantage_norm: str = static(default="none")
    """Over what advantages are standardized: the rollout (`batch`, `minibatch`), or `none`."""

    def optimize(self, state: TrainState, batches: Batches) -> Optimized:
        """One step along the gradient of the whole rollout."""
        ent_coef = self._entropy_weight(state.updates)
        gradient, parts = self.gradient(state.variables, batches, ent_coef)
        parts["optimizer/grad_norm"] = optax.tree.norm(gradient)
        rate = self._learning_rate(state.updates)
        moved = self.descend(state.variables, state.optimizer, gradient, rate)
        return Optimized(*moved, parts)

    def policy_losses(self, log_prob: Array, batch: Batch) -> tuple[Array, dict[str, Array]]:
        """Minus the log-probability times the advantage of each entry."""
        return -log_prob * batch.advantage, {}
