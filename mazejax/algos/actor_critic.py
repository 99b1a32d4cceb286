"""`ActorCriticAlgorithm`: what learners with a policy and a critic share.

Rollouts of any schedule become batches by step key with advantages and value targets;
losses are summed over step keys, gradients taken a cache-sized chunk at a time. How often
a rollout is used, and what the policy's loss is, each learner says.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from mazejax import random
from mazejax.algos import collect as collecting
from mazejax.algos import credit, losses, minibatch
from mazejax.algos.acting import build_networks, critic
from mazejax.algos.base import (
    Algorithm,
    Counter,
    TrainState,
    check_choice,
    check_positive_integers,
    check_range,
    check_template,
    nonfinite_metrics,
)
from mazejax.algos.collect import CollectState, Episodes, Evaluate
from mazejax.algos.metrics import Accumulator, Metrics
from mazejax.algos.returns import explained_variance
from mazejax.base import static
from mazejax.errors import ConfigError
from mazejax.networks.policy import ActorCritic, PolicyOutput
from mazejax.networks.template import MLPActorCritic
from mazejax.types import ActorID, Array, Key, PyTree, Rollout

# Over the share of the updates that are made, since optax counts in int32.
_SCHEDULES = {
    "constant": optax.constant_schedule(1.0),
    "linear": optax.linear_schedule(1.0, 0.0, transition_steps=1),
    "cosine": optax.cosine_decay_schedule(1.0, decay_steps=1),
}
_CRITICS = ("step", "shared", "delta")
_ADVANTAGE_NORMS = ("minibatch", "batch", "none")


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


class ActorCriticAlgorithm(Algorithm):
    """A network per step key that acts and judges, for any space and any schedule.

    A subclass defines `optimize`, the use it makes of a rollout, and `policy_losses`.
    """

    network: MLPActorCritic = MLPActorCritic()
    """Template of policy and critic, built for each step key."""
    critic: str = static(default="step")
    """`step`: each sub-step is judged by its own value; `shared`: all by that of the first, of
    the sum of all rewards (not for opponents, whose rewards sum to 0);
    `delta`: each value is that of the sub-step before plus what the network adds to it."""
    num_steps: int = static(default=64)
    """Flat steps of each env in one rollout, T."""
    learning_rate: float = 2.5e-3
    """Adam's step size, at the beginning."""
    learning_rate_schedule: str = static(default="linear")
    """`linear` or `cosine` falls to 0 at the end of `total_steps`; `constant`."""
    gamma: float = 0.99
    """Discount of rewards per flat step."""
    gae_lambda: float = 0.95
    """Weight of longer returns in the advantages."""
    advantage_norm: str = static(default="minibatch")
    """Over what advantages are standardized: each `minibatch`, the whole `batch`, or `none`."""
    ent_coef: float = 0.01
    """Weight of the entropy bonus, at the beginning."""
    ent_coef_schedule: str = static(default="constant")
    """`constant`, `linear` or `cosine`, as for the learning rate."""
    vf_coef: float = 0.5
    """Weight of the value loss."""
    max_grad_norm: float = 0.5
    """Gradients of a larger global norm are scaled down to it."""

    def validate(self) -> None:
        """Raise ConfigError for numbers out of range and choices that do not exist."""
        super().validate()
        check_template(self.network, "MLPActorCritic")
        check_positive_integers(self, "num_steps")
        for name in ("learning_rate", "max_grad_norm"):
            check_range(self, name, open_low=True)
        for name in ("ent_coef", "vf_coef"):
            check_range(self, name)
        for name in ("gamma", "gae_lambda"):
            check_range(self, name, high=1.0)
        for name in ("learning_rate_schedule", "ent_coef_schedule"):
            check_choice(self, name, _SCHEDULES)
        check_choice(self, "critic", _CRITICS)
        check_choice(self, "advantage_norm", _ADVANTAGE_NORMS)
        agents = [actor.agent_id for actor in self.env.actors]
        if self.critic == "delta" and (None in agents or len(agents) > len(self.env.agent_counts)):
            raise ConfigError(
                "critic: 'delta' needs a single agent in a single sub-step for each step key, for "
                "values build on each other; use 'step' or 'shared'"
            )

    @property
    def steps_per_update(self) -> int:
        """N * T."""
        return self.num_envs * self.num_steps

    @property
    def actor_critics(self) -> dict[str, ActorCritic]:
        """The network of each step key."""
        return build_networks(self.network, self.env)

    def init(self, key: Key) -> TrainState:
        """Fresh weights and freshly reset envs."""
        key = random.as_key(key)
        variables = self.init_variables(key)
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

    def critics(self, variables: PyTree) -> dict[str, Evaluate]:
        """What the variables think observations are worth."""
        return {
            step_key: critic(network, variables[step_key])
            for step_key, network in self.actor_critics.items()
        }

    def learn(self, state: TrainState, rollout: Rollout) -> tuple[TrainState, Metrics]:
        """Learn from a rollout [T, N, ...]."""
        self._check_rollout(rollout)
        batches = self._batches(rollout)
        variables, optimizer, steps = self.optimize(state, batches)
        metrics = {name: Accumulator.of(values) for name, values in steps.items()}
        metrics |= _explained(batches)
        metrics["optimizer/learning_rate"] = Accumulator.of(self._learning_rate(state.updates))
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

    def optimize(
        self, state: TrainState, batches: Batches
    ) -> tuple[PyTree, PyTree, dict[str, Array]]:
        """New variables and optimizer state, and the parts of the losses on the way."""
        raise NotImplementedError

    def policy_losses(self, log_prob: Array, batch: Batch) -> tuple[Array, dict[str, Array]]:
        """Losses [B, ...] for the log-probabilities that actions have now, and what to report."""
        raise NotImplementedError

    def value_losses(self, value: Array, batch: Batch) -> Array:
        """Losses [B, ...] of the values that observations have now."""
        return losses.value_loss(value, batch.target)

    def loss(
        self, variables: PyTree, batches: Batches, ent_coef: float | Array | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """Loss of rows, summed over step keys, and its parts; `ent_coef` is now's, if scheduled."""
        total, parts = jnp.zeros((), jnp.float32), dict[str, Array]()
        ent_coef = self.ent_coef if ent_coef is None else ent_coef
        before = jnp.zeros((), jnp.float32)
        for step_key in dict.fromkeys(actor.step_key for actor in self.env.actors):
            batch = batches[step_key]
            output, _ = self.actor_critics[step_key].apply(variables[step_key], batch.obs)
            value = output.value + before
            if self.critic == "delta":
                before = jax.lax.stop_gradient(value)
            loss, own = self._loss(step_key, output._replace(value=value), batch, ent_coef)
            total += loss
            suffix = f"/{step_key}" if len(batches) > 1 else ""
            parts |= {f"{name}{suffix}": part for name, part in own.items()}
        return total, {"loss/total": total, **parts}

    def gradient(
        self, variables: PyTree, batches: Batches, ent_coef: float | Array | None = None
    ) -> tuple[PyTree, dict[str, Array]]:
        """Gradient of the loss of rows [B, ...], a cache-sized chunk at a time, and its parts."""
        norm = self.advantage_norm == "minibatch"
        batches = {key: _weighted(batch, norm) for key, batch in batches.items()}
        rows = jax.tree.leaves(batches)[0].shape[0]
        size = minibatch.chunk_size(rows)
        gradient = jax.grad(self.loss, has_aux=True)
        if size == rows:
            return gradient(variables, batches, ent_coef)
        chunks = jax.tree.map(lambda x: x.reshape(rows // size, size, *x.shape[1:]), batches)

        def add_chunk(total: PyTree, chunk: Batches) -> tuple[PyTree, None]:
            return jax.tree.map(jnp.add, total, gradient(variables, chunk, ent_coef)), None

        first = jax.tree.map(lambda x: x[0], chunks)
        shapes = jax.eval_shape(gradient, variables, first, ent_coef)
        nothing = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        total, _ = jax.lax.scan(add_chunk, nothing, chunks)
        return jax.tree.map(lambda x: x * (size / rows), total)

    def descend(
        self, variables: PyTree, optimizer: PyTree, gradient: PyTree, rate: Array
    ) -> tuple[PyTree, PyTree]:
        """Variables and optimizer state after one step against the gradient."""
        change, optimizer = self._optimizer().update(gradient, optimizer)
        return jax.tree.map(lambda v, c: v - rate * c, variables, change), optimizer

    def _loss(
        self, step_key: str, output: PolicyOutput, batch: Batch, ent_coef: float | Array
    ) -> tuple[Array, dict[str, Array]]:
        """Mean loss of the entries of one step key, and its parts."""
        log_prob = output.distribution.log_prob(batch.action)
        policy_losses, reported = self.policy_losses(log_prob, batch)
        loss = policy_loss = _mean(policy_losses, batch.weight)
        entropy = _mean(output.distribution.entropy(), batch.weight)
        parts = {"loss/policy": policy_loss, "policy/entropy": entropy}
        parts |= {name: _mean(values, batch.weight) for name, values in reported.items()}
        if self.critic != "shared" or step_key == self.env.actors[0].step_key:
            parts["loss/value"] = _mean(self.value_losses(output.value, batch), batch.value_weight)
            loss = policy_loss + self.vf_coef * parts["loss/value"]
        return loss - ent_coef * entropy, parts

    def _batches(self, rollout: Rollout) -> Batches:
        """Rows [T * N, ...] by step key, with advantages and value targets."""
        if self.critic == "delta":
            rollout = _summed_values(self.env.actors, rollout)
        assign = credit.assign_shared if self.critic == "shared" else credit.assign
        credits = assign(self.env, rollout, self.gamma, self.gae_lambda)
        batches = {}
        for key, steps in rollout.transitions.items():
            advantage, target, has_target = credits[key]
            if self.advantage_norm == "batch":
                advantage = losses.standardize(advantage, where=steps.active)
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
        return self.learning_rate * self._share(self.learning_rate_schedule, updates)

    def _entropy_weight(self, updates: Counter) -> Array:
        return self.ent_coef * self._share(self.ent_coef_schedule, updates)

    def _share(self, schedule: str, updates: Counter) -> Array:
        """What a schedule leaves of a number, from 1 to 0."""
        done = updates.to_float() / float(self.num_updates)
        return jnp.asarray(_SCHEDULES[schedule](done), jnp.float32)


def _weighted(batch: Batch, norm: bool) -> Batch:
    """The minibatch with weights of mean 1 and, if so wished, standardized advantages."""
    where = None if batch.weight is None else batch.weight > 0
    advantage = losses.standardize(batch.advantage, where=where) if norm else batch.advantage
    return batch._replace(
        advantage=advantage,
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


def _summed_values(actors: tuple[ActorID, ...], rollout: Rollout) -> Rollout:
    """The rollout in which each value has those of the sub-steps before added to it."""
    value, next_value = dict[str, Array](), dict[str, Array]()
    total = next_total = jnp.zeros((), jnp.float32)
    for actor in actors:
        key = actor.step_key
        total = value[key] = total + rollout.transitions[key].value
        next_total = next_value[key] = next_total + rollout.next_value[key]
    steps = {key: t.replace(value=value[key]) for key, t in rollout.transitions.items()}
    return Rollout(steps, next_value)
