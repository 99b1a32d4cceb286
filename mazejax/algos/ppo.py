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
from mazejax.algos import credit, losses, minibatch
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
from mazejax.algos.collect import Act, Acted, CollectState, Episodes, Evaluate, Policies
from mazejax.algos.metrics import Accumulator, Metrics
from mazejax.algos.returns import explained_variance
from mazejax.base import static
from mazejax.errors import ConfigError, did_you_mean
from mazejax.networks.policy import ActorCritic
from mazejax.networks.template import MLPActorCritic
from mazejax.types import Array, Key, PyTree, Rollout

_SCHEDULES = ("constant", "linear")
_CRITICS = ("step", "shared")


class Batch(NamedTuple):
    """What the loss reads of the rows of one step key, [B, ...] or [B, S, ...]."""

    obs: PyTree
    action: PyTree
    log_prob: Array
    value: Array
    advantage: Array
    target: Array
    weight: Array | None = None
    """How much each entry counts for the policy, float32; None where all count alike."""
    value_weight: Array | None = None
    """How much each entry counts for the critic, float32; None where all count alike."""


Batches = dict[str, Batch]
"""By step key."""


class PPO(Algorithm):
    """PPO for any observation and action space and any schedule, a network per step key."""

    network: MLPActorCritic = MLPActorCritic()
    """Template of policy and critic, built for each step key."""
    critic: str = static(default="step")
    """`step`: each sub-step is judged by its own value; `shared`: all by that of the first."""
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
        for name, known in (("learning_rate_schedule", _SCHEDULES), ("critic", _CRITICS)):
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"{name}: unknown {getattr(self, name)!r}; "
                    f"{did_you_mean(str(getattr(self, name)), known)}"
                )

    @property
    def steps_per_update(self) -> int:
        """N * T."""
        return self.num_envs * self.num_steps

    @property
    def actor_critics(self) -> dict[str, ActorCritic]:
        """The network of each step key."""
        observations, actions = self.env.observation_spaces, self.env.action_spaces
        return {key: self.network.build(observations[key], actions[key]) for key in actions}

    def init(self, key: Key) -> TrainState:
        """Fresh weights and freshly reset envs."""
        key = random.as_key(key)
        init_key = random.stream(key, "init")
        variables = {
            step_key: network.init(random.stream(init_key, step_key))
            for step_key, network in self.actor_critics.items()
        }
        return TrainState(
            variables=variables,
            optimizer=self._optimizer().init(variables),
            collect=collecting.start(self.vector_env, random.stream(key, "envs")),
            key=key,
            updates=Counter.zero(),
        )

    def collect(self, state: TrainState) -> tuple[CollectState, Rollout, Episodes]:
        """The next rollout, [T, N, ...]."""
        return collecting.collect(
            self.vector_env,
            self.policies(state.variables),
            self.critics(state.variables),
            state.collect,
            self.num_steps,
        )

    def policies(self, variables: PyTree, deterministic: bool = False) -> Policies:
        """How the variables act: drawn from the distribution, or its mode."""
        return {
            step_key: _policy(network, variables[step_key], deterministic)
            for step_key, network in self.actor_critics.items()
        }

    def critics(self, variables: PyTree) -> dict[str, Evaluate]:
        """What the variables think observations are worth."""
        return {
            step_key: _critic(network, variables[step_key])
            for step_key, network in self.actor_critics.items()
        }

    def learn(self, state: TrainState, rollout: Rollout) -> tuple[TrainState, Metrics]:
        """All epochs on a rollout [T, N, ...]."""
        self._check_rollout(rollout)
        batches = self._batches(rollout)
        packed, unpack = minibatch.pack(batches)
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
        metrics |= _explained(batches)
        metrics["optimizer/learning_rate"] = Accumulator.of(rate)
        metrics |= nonfinite_metrics(
            obs={key: batch.obs for key, batch in batches.items()},
            reward={key: steps.reward for key, steps in rollout.transitions.items()},
            loss=steps["loss/total"],
            gradient=steps["optimizer/grad_norm"],
            variables=variables,
        )
        new_state = state.replace(
            variables=variables, optimizer=optimizer, updates=state.updates.add(1)
        )
        return new_state, metrics

    def loss(self, variables: PyTree, batches: Batches) -> tuple[Array, dict[str, Array]]:
        """Loss of rows with standardized advantages, summed over step keys, and its parts."""
        total, parts = jnp.zeros((), jnp.float32), dict[str, Array]()
        for step_key, batch in batches.items():
            loss, own = self._loss(step_key, variables[step_key], batch)
            total += loss
            suffix = f"/{step_key}" if len(batches) > 1 else ""
            parts |= {f"{name}{suffix}": part for name, part in own.items()}
        return total, {"loss/total": total, **parts}

    def _loss(
        self, step_key: str, variables: PyTree, batch: Batch
    ) -> tuple[Array, dict[str, Array]]:
        """Mean loss of the entries of one step key, and its parts."""
        output, _ = self.actor_critics[step_key].apply(variables, batch.obs)
        log_ratio = output.distribution.log_prob(batch.action) - batch.log_prob
        if batch.weight is not None:
            # Nothing holds the ratio of what does not count near 1: it might overflow.
            log_ratio = jnp.where(batch.weight > 0, log_ratio, 0.0)
        ratio = jnp.exp(log_ratio)
        policy_losses = losses.clipped_surrogate(ratio, batch.advantage, self.clip_eps)
        loss = policy_loss = _mean(policy_losses, batch.weight)
        entropy = _mean(output.distribution.entropy(), batch.weight)
        parts = {
            "loss/policy": policy_loss,
            "policy/entropy": entropy,
            "policy/approx_kl": _mean(losses.approximate_kl(log_ratio), batch.weight),
            "policy/clip_fraction": _mean(jnp.abs(ratio - 1.0) > self.clip_eps, batch.weight),
        }
        if self.critic == "step" or step_key == self.env.actors[0].step_key:
            parts["loss/value"] = _mean(self._value_losses(output.value, batch), batch.value_weight)
            loss = policy_loss + self.vf_coef * parts["loss/value"]
        return loss - self.ent_coef * entropy, parts

    def _value_losses(self, value: Array, batch: Batch) -> Array:
        if self.value_clip is None:
            return losses.value_loss(value, batch.target)
        return losses.clipped_value_loss(value, batch.value, batch.target, self.value_clip)

    def _gradient(self, variables: PyTree, batches: Batches) -> tuple[PyTree, dict[str, Array]]:
        """Gradient of the loss of a minibatch, a cache-sized chunk at a time."""
        batches = {key: _standardized(batch) for key, batch in batches.items()}
        rows = self.steps_per_update // self.num_minibatches
        size = minibatch.chunk_size(rows)
        gradient = jax.grad(self.loss, has_aux=True)
        if size == rows:
            return gradient(variables, batches)
        chunks = jax.tree.map(lambda x: x.reshape(rows // size, size, *x.shape[1:]), batches)

        def add_chunk(total: PyTree, chunk: Batches) -> tuple[PyTree, None]:
            return jax.tree.map(jnp.add, total, gradient(variables, chunk)), None

        shapes = jax.eval_shape(gradient, variables, jax.tree.map(lambda x: x[0], chunks))
        nothing = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        total, _ = jax.lax.scan(add_chunk, nothing, chunks)
        return jax.tree.map(lambda x: x * (size / rows), total)

    def _batches(self, rollout: Rollout) -> Batches:
        """Rows [T * N, ...] by step key, with advantages and value targets."""
        assign = credit.assign if self.critic == "step" else credit.assign_shared
        credits = assign(self.env, rollout, self.gamma, self.gae_lambda)
        batches = {}
        for key, steps in rollout.transitions.items():
            advantage, target, has_target = credits[key]
            batches[key] = Batch(
                obs=steps.obs,
                action=steps.action,
                log_prob=steps.log_prob,
                value=steps.value,
                advantage=advantage,
                target=target,
                weight=None if steps.active is None else steps.active.astype(jnp.float32),
                value_weight=None if has_target is None else has_target.astype(jnp.float32),
            )
        return jax.tree.map(lambda x: x.reshape(self.steps_per_update, *x.shape[2:]), batches)

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


def _policy(network: ActorCritic, variables: PyTree, deterministic: bool) -> Act:
    def act(keys: Key, obs: PyTree, carry: PyTree) -> Acted:
        output, carry = network.apply(variables, obs, carry)
        if deterministic:
            action = output.distribution.mode()
        else:
            draw = lambda distribution, key: distribution.sample(key)  # noqa: E731
            for _ in range(keys.ndim):
                draw = jax.vmap(draw)
            action = draw(output.distribution, keys)
        log_prob = output.distribution.log_prob(action)
        return Acted(action, network.to_env(action), log_prob, output.value, carry)

    return act


def _critic(network: ActorCritic, variables: PyTree) -> Evaluate:
    return lambda obs, carry: network.apply(variables, obs, carry)[0].value


def _standardized(batch: Batch) -> Batch:
    """The minibatch with standardized advantages, and weights of mean 1."""
    where = None if batch.weight is None else batch.weight > 0
    return batch._replace(
        advantage=losses.standardize(batch.advantage, where=where),
        weight=_of_mean_one(batch.weight),
        value_weight=_of_mean_one(batch.value_weight),
    )


def _of_mean_one(weight: Array | None) -> Array | None:
    """The weights scaled to a mean of 1; all 0 if they are."""
    return None if weight is None else weight / jnp.maximum(jnp.mean(weight), 1e-8)


def _mean(values: Array, weight: Array | None) -> Array:
    return jnp.mean(values if weight is None else values * weight)


def _explained(batches: Batches) -> Metrics:
    metrics = {}
    for key, batch in batches.items():
        where = None if batch.value_weight is None else batch.value_weight > 0
        explained = explained_variance(batch.value, batch.target, where)
        name = f"value/explained_variance{'/' + key if len(batches) > 1 else ''}"
        metrics[name] = Accumulator.of(explained, jnp.isfinite(explained))
    return metrics
