"""`ActorCriticAlgorithm`: what learners with a policy and a critic share.

Rollouts of any schedule become batches by step key with advantages and value targets;
losses are summed over step keys, gradients taken a cache-sized chunk at a time. How often
a rollout is used, and what the policy's loss is, each learner says.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from mazejax import random
from mazejax.algos import acting, batch, events, losses, minibatch
from mazejax.algos import collect as collecting
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
from mazejax.algos.batch import Batch, Batches
from mazejax.algos.collect import CollectState, Critics, Episodes
from mazejax.algos.metrics import Metrics
from mazejax.algos.normalize import RewardStatistics
from mazejax.algos.schedules import Schedule, as_points, check_schedule, left_of
from mazejax.base import static
from mazejax.errors import ConfigError
from mazejax.events.accumulator import Accumulator
from mazejax.networks.mlp import MLPActorCritic
from mazejax.networks.policy import PolicyOutput
from mazejax.networks.template import NetworkTemplate
from mazejax.types import Array, Key, PyTree, Rollout

_SCHEDULED = ("learning_rate_schedule", "ent_coef_schedule")
_CRITICS = ("step", "shared", "delta")
_ADVANTAGE_NORMS = ("minibatch", "batch", "none")


class Optimized(NamedTuple):
    """What became of variables that learned from a rollout."""

    variables: PyTree
    optimizer: PyTree
    parts: dict[str, Array]
    """Of the losses, [] or [M] of all minibatches."""
    applied: Array | None = None
    """From which minibatches was learned, [M] bool; None for all."""


class ActorCriticAlgorithm(Algorithm):
    """A network per step key that acts and judges, for any space and any schedule.

    A subclass defines `optimize`, the use it makes of a rollout, and `policy_losses`.
    """

    network: NetworkTemplate = MLPActorCritic()
    """Template of policy and critic, built for each step key."""
    critic: str = static(default="step")
    """`step`: each sub-step is judged by its own value; `shared`: all by that of the first, of
    the sum of all rewards (not for opponents, whose rewards sum to 0);
    `delta`: each value is that of the sub-step before plus what the network adds to it."""
    num_steps: int = static(default=64)
    """Flat steps of each env in one rollout, T."""
    learning_rate: float = 2.5e-3
    """Adam's step size, at the beginning."""
    learning_rate_schedule: Schedule = static(default="linear")
    """`linear` or `cosine` falls to 0 at the end of `total_steps`; `constant`; or points with
    lines between them, each a share of the training and what is left of the number there:
    `((0, 0), (0.1, 1), (1, 0))` warms up for a tenth of it."""
    gamma: float = 0.99
    """Discount of rewards per flat step."""
    gae_lambda: float = 0.95
    """Weight of longer returns in the advantages."""
    advantage_norm: str = static(default="minibatch")
    """Over what advantages are standardized: each `minibatch`, the whole `batch`, or `none`."""
    ent_coef: float = 0.01
    """Weight of the entropy bonus, at the beginning."""
    ent_coef_schedule: Schedule = static(default="constant")
    """As for the learning rate."""
    vf_coef: float = 0.5
    """Weight of the value loss."""
    max_grad_norm: float | None = 0.5
    """Gradients of a larger global norm are scaled down to it; None leaves them as they are."""
    normalize_reward: bool = static(default=False)
    """Whether rewards are divided by the running standard deviation of discounted returns."""

    def __post_init__(self) -> None:
        for name in _SCHEDULED:
            object.__setattr__(self, name, as_points(getattr(self, name)))
        super().__post_init__()

    def validate(self) -> None:
        """Raise ConfigError for numbers out of range and choices that do not exist."""
        super().validate()
        check_template(self.network, "MLPActorCritic")
        check_positive_integers(self, "num_steps")
        check_range(self, "learning_rate", open_low=True)
        if self.max_grad_norm is not None:
            check_range(self, "max_grad_norm", open_low=True)
        for name in ("ent_coef", "vf_coef"):
            check_range(self, name)
        for name in ("gamma", "gae_lambda"):
            check_range(self, name, high=1.0)
        for name in _SCHEDULED:
            check_schedule(self, name)
        check_choice(self, "critic", _CRITICS)
        check_choice(self, "advantage_norm", _ADVANTAGE_NORMS)
        agents = [actor.agent_id for actor in self.env.actors]
        if getattr(self.network, "central_critic", False):
            self._check_central_critic(agents)
        if self.critic == "delta" and (None in agents or len(agents) > len(self.env.agent_counts)):
            raise ConfigError(
                "critic: 'delta' needs a single agent in a single sub-step for each step key, for "
                "values build on each other; use 'step' or 'shared'"
            )
        self._check_critics()

    def _check_critics(self) -> None:
        """Raise ConfigError where a network that must judge does not; rules are refused too."""
        first = self.env.actors[0].step_key
        for key, network in self.actor_critics.items():
            if not network.has_critic and (self.critic != "shared" or key == first):
                raise ConfigError(
                    f"network: {type(self.network).__name__} gives no values for {key!r}, from "
                    f"which {type(self).__name__} learns; choose one with a critic, such as "
                    f"MLPActorCritic(), or give critics"
                )

    def _check_central_critic(self, agents: list[int | None]) -> None:
        if None not in agents:
            in_turn = "wrap the env in JointObservation for a critic of actors in turn"
            raise ConfigError(
                f"network.central_critic: no agents of {self.env} act at once, so there is nothing "
                f"more to see; {in_turn if len(agents) > 1 else 'leave it out'}"
            )
        if self.network_per == "actor":
            raise ConfigError(
                "network_per: 'actor' gives each agent a critic of its own, which network."
                "central_critic makes one of all; set one of the two"
            )

    @property
    def steps_per_update(self) -> int:
        """N * T."""
        return self.num_envs * self.num_steps

    def init(self, key: Key) -> TrainState:
        """Fresh weights and freshly reset envs."""
        key = random.as_key(key)
        envs_key, carry = random.stream(key, "envs"), self.initial_carry(self.num_envs)
        keep = events.to_keep(self.vector_env, self.statistics)
        return self.init_learner(key).replace(
            collect=collecting.start(self.vector_env, envs_key, carry, keep)
        )

    def init_learner(self, key: Key) -> TrainState:
        """Fresh weights, and no envs: for rollouts that come from elsewhere."""
        state = super().init_learner(key)
        if not self.normalize_reward:
            return state
        return state.replace(rewards=RewardStatistics.start(self.env, self.num_envs))

    def make_optimizer(self) -> optax.GradientTransformation:
        """Adam on gradients of limited norm."""
        # 1e-5 and not optax's 1e-8: as in OpenAI baselines, steadier with small gradients.
        adam, limit = optax.scale_by_adam(eps=1e-5), self.max_grad_norm
        return optax.chain(
            optax.identity() if limit is None else optax.clip_by_global_norm(limit), adam
        )

    def collect(self, state: TrainState) -> tuple[CollectState, Rollout, Episodes]:
        """The next rollout, [T, N, ...]."""
        if state.collect is None:
            raise ConfigError("collect: this state keeps no envs; make it with init(key)")
        return collecting.collect(
            self.vector_env,
            self.policies(state.variables),
            self.critics(state.variables),
            state.collect,
            self.num_steps,
            self.initial_carry(self.num_envs),
        )

    def critics(self, variables: PyTree) -> Critics:
        """What each actor thinks observations are worth, with the variables."""
        return acting.critics(self.actor_critics, self.env, variables)

    def learn(self, state: TrainState, rollout: Rollout) -> tuple[TrainState, Metrics]:
        """Learn from a rollout [T, N, ...]."""
        self._check_rollout(rollout)
        rewards, scaled = state.rewards, rollout
        if rewards is not None:
            rewards, scaled = rewards.scale(self.env, rollout, self.gamma, self.axis_name)
        batches = batch.from_rollout(self, scaled)
        variables, optimizer, steps, applied = self.optimize(state, batches)
        # After the last gradient: all minibatches see what the policy saw that collected them.
        variables = self._with_seen(variables, rollout)
        judged = None if applied is None else _up_to_first_false(applied)
        metrics = {name: Accumulator.of(values, judged) for name, values in steps.items()}
        if applied is not None:
            metrics["optimizer/minibatches"] = Accumulator.of(jnp.sum(applied))
        metrics |= batch.explained(batches)
        metrics["optimizer/learning_rate"] = Accumulator.of(self._learning_rate(state.updates))
        metrics |= nonfinite_metrics(
            obs={key: rows.obs for key, rows in batches.items()},
            reward={key: steps.reward for key, steps in rollout.transitions.items()},
            loss=steps["loss/total"],
            gradient=steps["optimizer/grad_norm"],
            variables=variables,
        )
        new_state = state.replace(
            variables=variables,
            optimizer=optimizer,
            updates=state.updates.add(1),
            rewards=rewards,
        )
        return new_state, metrics

    def optimize(self, state: TrainState, batches: Batches) -> Optimized:
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
            network, rows = self.actor_critics[step_key], batches[step_key]
            if rows.begins is None:
                output, _ = network.apply(variables[step_key], rows.obs)
            else:
                rows = batch.time_first(rows)
                output, _ = network.unroll(variables[step_key], rows.obs, rows.carry, rows.begins)
            value = output.value + before
            if self.critic == "delta":
                before = jax.lax.stop_gradient(value)
            loss, own = self._loss(step_key, output._replace(value=value), rows, ent_coef)
            total += loss
            suffix = f"/{step_key}" if len(batches) > 1 else ""
            parts |= {f"{name}{suffix}": part for name, part in own.items()}
        return total, {"loss/total": total, **parts}

    def gradient(
        self, variables: PyTree, batches: Batches, ent_coef: float | Array | None = None
    ) -> tuple[PyTree, dict[str, Array]]:
        """Gradient of the loss of rows [B, ...] by the weights, and the parts of the loss.

        Taken a cache-sized chunk at a time; where envs are divided over devices, the mean
        over all of them.
        """
        if self.advantage_norm == "minibatch":
            batches = batch.standardized(batches, self.actor_critics)
        batches = batch.of_mean_weight_one(batches, self.axis_name)

        def loss(learned: PyTree, batches: Batches) -> tuple[Array, dict[str, Array]]:
            return self.loss(acting.with_weights(variables, learned), batches, ent_coef)

        gradient = jax.grad(loss, has_aux=True)
        first = next(iter(batches.values()))
        found = minibatch.in_chunks(
            functools.partial(gradient, acting.weights_of(variables)),
            batches,
            steps_per_row=1 if first.begins is None else first.begins.shape[1],
        )
        return found if self.axis_name is None else jax.lax.pmean(found, self.axis_name)

    def descend(
        self, variables: PyTree, optimizer: PyTree, gradient: PyTree, rate: Array
    ) -> tuple[PyTree, PyTree]:
        """Variables and optimizer state after one step against the gradient."""
        change, optimizer = self.make_optimizer().update(gradient, optimizer)
        moved = jax.tree.map(lambda v, c: v - rate * c, acting.weights_of(variables), change)
        return acting.with_weights(variables, moved), optimizer

    def _loss(
        self, step_key: str, output: PolicyOutput, rows: Batch, ent_coef: float | Array
    ) -> tuple[Array, dict[str, Array]]:
        """Mean loss of the entries of one step key, and its parts."""
        log_prob = output.distribution.log_prob(rows.action)
        policy_losses, reported = self.policy_losses(log_prob, rows)
        loss = policy_loss = batch.mean(policy_losses, rows.weight)
        entropy = batch.mean(output.distribution.entropy(), rows.weight)
        parts = {"loss/policy": policy_loss, "policy/entropy": entropy}
        parts |= {name: batch.mean(values, rows.weight) for name, values in reported.items()}
        if self.critic != "shared" or step_key == self.env.actors[0].step_key:
            parts["loss/value"] = batch.mean(
                self.value_losses(output.value, rows), rows.value_weight
            )
            loss = policy_loss + self.vf_coef * parts["loss/value"]
        return loss - ent_coef * entropy, parts

    def _with_seen(self, variables: PyTree, rollout: Rollout) -> PyTree:
        """The variables with the rollout's observations counted in their statistics, if any."""
        grown = {}
        for key, network in self.actor_critics.items():
            steps = rollout.transitions[key]
            grown[key] = network.add_observations(
                variables[key], steps.obs, steps.active, self.axis_name
            )
        return grown

    def _check_rollout(self, rollout: Rollout) -> None:
        wanted = (self.num_steps, self.num_envs)
        steps = rollout.replace(carry={})
        for path, leaf in jax.tree_util.tree_leaves_with_path(steps):
            if leaf.shape[:2] != wanted:
                raise ConfigError(
                    f"rollout{jax.tree_util.keystr(path)}: got shape {leaf.shape}, expected "
                    f"[num_steps, num_envs, ...] = {[*wanted]}"
                )

    def _learning_rate(self, updates: Counter) -> Array:
        return self.learning_rate * self._left(self.learning_rate_schedule, updates)

    def _entropy_weight(self, updates: Counter) -> Array:
        return self.ent_coef * self._left(self.ent_coef_schedule, updates)

    def _left(self, schedule: Schedule, updates: Counter) -> Array:
        return left_of(schedule, updates.to_float() / float(self.num_updates))


def _up_to_first_false(flags: Array) -> Array:
    """The flags [M] with one more true after them: the minibatch that ended the learning."""
    return jnp.concatenate([jnp.ones_like(flags[:1]), flags[:-1]])
