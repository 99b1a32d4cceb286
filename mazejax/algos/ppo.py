"""Proximal policy optimization.

Rollouts, generalised advantages, several epochs of shuffled minibatches on the clipped
surrogate. Schulman et al., 2017, arXiv:1707.06347; details as Huang et al., "The 37
implementation details of PPO", 2022, but for truncation, which is bootstrapped exactly.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from mazejax import random
from mazejax.algos import collect as collecting
from mazejax.algos import losses, minibatch
from mazejax.algos.base import (
    Algorithm,
    Counter,
    TrainState,
    check_divides,
    check_positive_integers,
    check_range,
    nonfinite_metrics,
    update_key,
)
from mazejax.algos.collect import Act, Acted, CollectState, Episodes
from mazejax.algos.metrics import Accumulator, Metrics
from mazejax.algos.returns import explained_variance, gae
from mazejax.base import static
from mazejax.errors import ConfigError, did_you_mean
from mazejax.networks.policy import ActorCritic
from mazejax.networks.template import MLPActorCritic
from mazejax.types import Array, Key, PyTree, Rollout

_SCHEDULES = ("constant", "linear")


class Batch(NamedTuple):
    """What the loss reads of each row, [B, ...]."""

    obs: PyTree
    action: PyTree
    log_prob: Array
    value: Array
    advantage: Array
    target: Array


class PPO(Algorithm):
    """PPO for any observation and action space."""

    network: MLPActorCritic = MLPActorCritic()
    """Template of policy and critic."""
    num_steps: int = static(default=64)
    """Flat steps of each env in one rollout, T."""
    num_epochs: int = static(default=4)
    """Passes over each rollout."""
    num_minibatches: int = static(default=4)
    """Parts that each pass is shuffled into."""
    learning_rate: float = 2.5e-3
    """Adam's step size, at the beginning."""
    learning_rate_schedule: str = static(default="linear")
    """`linear` falls to 0 at the end of `total_steps`; `constant`."""
    gamma: float = 0.99
    """Discount of rewards per flat step."""
    gae_lambda: float = 0.95
    """Weight of longer returns in the advantages."""
    clip_eps: float = 0.2
    """Largest change of the action probability ratio per update."""
    value_clip: float | None = None
    """Largest change of the value per update; None does not limit it."""
    ent_coef: float = 0.01
    """Weight of the entropy bonus."""
    vf_coef: float = 0.5
    """Weight of the value loss."""
    max_grad_norm: float = 0.5
    """Gradients of a larger global norm are scaled down to it."""

    def validate(self) -> None:
        """Raise ConfigError for numbers out of range and sizes that do not divide."""
        super().validate()
        if not hasattr(self.network, "build"):
            raise ConfigError(
                f"network: expected a template such as MLPActorCritic(), got "
                f"{type(self.network).__name__}"
            )
        check_positive_integers(self, "num_steps", "num_epochs", "num_minibatches")
        check_divides(
            "num_envs * num_steps", self.steps_per_update, "num_minibatches", self.num_minibatches
        )
        for name in ("learning_rate", "clip_eps", "max_grad_norm"):
            check_range(self, name, open_low=True)
        for name in ("ent_coef", "vf_coef"):
            check_range(self, name)
        for name in ("gamma", "gae_lambda"):
            check_range(self, name, high=1.0)
        if self.value_clip is not None:
            check_range(self, "value_clip", open_low=True)
        if self.learning_rate_schedule not in _SCHEDULES:
            raise ConfigError(
                f"learning_rate_schedule: unknown {self.learning_rate_schedule!r}; "
                f"{did_you_mean(str(self.learning_rate_schedule), _SCHEDULES)}"
            )

    @property
    def steps_per_update(self) -> int:
        """N * T."""
        return self.num_envs * self.num_steps

    @property
    def actor_critic(self) -> ActorCritic:
        """The network for this env's spaces."""
        return self.network.build(self.env.observation_space, self.env.action_space)

    def init(self, key: Key) -> TrainState:
        """Fresh weights and freshly reset envs."""
        key = random.as_key(key)
        variables = self.actor_critic.init(random.stream(key, "init"))
        return TrainState(
            variables=variables,
            optimizer=self._optimizer().init(variables),
            collect=collecting.start(self.vector_env, random.stream(key, "envs")),
            key=key,
            updates=Counter.zero(),
        )

    def collect(self, state: TrainState) -> tuple[CollectState, Rollout, Episodes]:
        """The next rollout, [T, N, ...]."""

        def value(obs: PyTree, carry: PyTree) -> Array:
            return self.actor_critic.apply(state.variables, obs, carry)[0].value

        act = self.policy(state.variables)
        return collecting.collect(self.vector_env, act, value, state.collect, self.num_steps)

    def policy(self, variables: PyTree, deterministic: bool = False) -> Act:
        """How the variables act: drawn from the distribution, or its mode."""
        network = self.actor_critic

        def act(keys: Key, obs: PyTree, carry: PyTree) -> Acted:
            output, carry = network.apply(variables, obs, carry)
            if deterministic:
                action = output.distribution.mode()
            else:
                action = jax.vmap(lambda d, key: d.sample(key))(output.distribution, keys)
            log_prob = output.distribution.log_prob(action)
            return Acted(action, network.to_env(action), log_prob, output.value, carry)

        return act

    def learn(self, state: TrainState, rollout: Rollout) -> tuple[TrainState, Metrics]:
        """All epochs on a rollout [T, N, ...]."""
        self._check_rollout(rollout)
        batch = self._batch(rollout)
        packed, unpack = minibatch.pack(batch)
        key = update_key(state, "shuffle")
        size = self.steps_per_update // self.num_minibatches
        rate = self._learning_rate(state.updates)

        def one_minibatch(carry: tuple[PyTree, PyTree], step: Array) -> tuple[tuple, dict]:
            variables, optimizer = carry
            epoch, index = step // self.num_minibatches, step % self.num_minibatches
            rows = minibatch.shuffled_rows(packed, jax.random.fold_in(key, epoch), index, size)
            gradient, parts = self._gradient(variables, unpack(rows))
            norm = optax.tree.norm(gradient)
            change, optimizer = self._optimizer().update(gradient, optimizer)
            variables = jax.tree.map(lambda v, c: v - rate * c, variables, change)
            return (variables, optimizer), {**parts, "optimizer/grad_norm": norm}

        (variables, optimizer), steps = jax.lax.scan(
            one_minibatch,
            (state.variables, state.optimizer),
            jnp.arange(self.num_epochs * self.num_minibatches),
        )
        metrics = {name: Accumulator.of(values) for name, values in steps.items()}
        explained = explained_variance(batch.value, batch.target)
        metrics["value/explained_variance"] = Accumulator.of(explained, jnp.isfinite(explained))
        metrics["optimizer/learning_rate"] = Accumulator.of(rate)
        metrics |= nonfinite_metrics(
            obs=batch.obs,
            reward=rollout.transitions.reward,
            loss=steps["loss/total"],
            gradient=steps["optimizer/grad_norm"],
            variables=variables,
        )
        new_state = state.replace(
            variables=variables, optimizer=optimizer, updates=state.updates.add(1)
        )
        return new_state, metrics

    def loss(self, variables: PyTree, batch: Batch) -> tuple[Array, dict[str, Array]]:
        """Mean loss of rows [B, ...] with standardized advantages, and its parts."""
        output, _ = self.actor_critic.apply(variables, batch.obs)
        log_ratio = output.distribution.log_prob(batch.action) - batch.log_prob
        ratio = jnp.exp(log_ratio)
        policy_loss = jnp.mean(losses.clipped_surrogate(ratio, batch.advantage, self.clip_eps))
        if self.value_clip is None:
            errors = losses.value_loss(output.value, batch.target)
        else:
            errors = losses.clipped_value_loss(
                output.value, batch.value, batch.target, self.value_clip
            )
        value_loss = jnp.mean(errors)
        entropy = jnp.mean(output.distribution.entropy())
        total = policy_loss + self.vf_coef * value_loss - self.ent_coef * entropy
        return total, {
            "loss/total": total,
            "loss/policy": policy_loss,
            "loss/value": value_loss,
            "policy/entropy": entropy,
            "policy/approx_kl": jnp.mean(losses.approximate_kl(log_ratio)),
            "policy/clip_fraction": jnp.mean(jnp.abs(ratio - 1.0) > self.clip_eps),
        }

    def _gradient(self, variables: PyTree, batch: Batch) -> tuple[PyTree, dict[str, Array]]:
        """Gradient of the mean loss of a minibatch, a cache-sized chunk at a time."""
        batch = batch._replace(advantage=losses.standardize(batch.advantage))
        rows = batch.advantage.shape[0]
        size = minibatch.chunk_size(rows)
        gradient = jax.grad(self.loss, has_aux=True)
        if size == rows:
            return gradient(variables, batch)
        chunks = jax.tree.map(lambda x: x.reshape(rows // size, size, *x.shape[1:]), batch)

        def add_chunk(total: PyTree, chunk: Batch) -> tuple[PyTree, None]:
            return jax.tree.map(jnp.add, total, gradient(variables, chunk)), None

        shapes = jax.eval_shape(gradient, variables, jax.tree.map(lambda x: x[0], chunks))
        nothing = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        total, _ = jax.lax.scan(add_chunk, nothing, chunks)
        return jax.tree.map(lambda x: x * (size / rows), total)

    def _batch(self, rollout: Rollout) -> Batch:
        """Rows [T * N, ...] with advantages and value targets."""
        steps = rollout.transitions
        advantage = gae(
            steps.reward,
            steps.value,
            rollout.next_value,
            steps.terminated,
            steps.truncated,
            self.gamma,
            self.gae_lambda,
        )
        target = advantage + steps.value
        batch = Batch(steps.obs, steps.action, steps.log_prob, steps.value, advantage, target)
        return jax.tree.map(lambda x: x.reshape(self.steps_per_update, *x.shape[2:]), batch)

    def _check_rollout(self, rollout: Rollout) -> None:
        wanted = (self.num_steps, self.num_envs)
        for path, leaf in jax.tree_util.tree_leaves_with_path(rollout):
            if leaf.shape[:2] != wanted:
                raise ConfigError(
                    f"rollout{jax.tree_util.keystr(path)}: got shape {leaf.shape}, expected "
                    f"[num_steps, num_envs, ...] = {[*wanted]}"
                )

    def _optimizer(self) -> optax.GradientTransformation:
        # 1e-5 and not optax's 1e-8: as in OpenAI baselines, steadier with small gradients.
        clip = optax.clip_by_global_norm(self.max_grad_norm)
        return optax.chain(clip, optax.scale_by_adam(eps=1e-5))

    def _learning_rate(self, updates: Counter) -> Array:
        if self.learning_rate_schedule == "constant":
            return jnp.asarray(self.learning_rate, jnp.float32)
        left = jnp.maximum(1.0 - updates.to_float() / float(self.num_updates), 0.0)
        return self.learning_rate * left
