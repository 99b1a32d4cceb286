"""Evolution strategies: a policy learned from the returns of perturbed copies of itself.

Members of a population come in pairs that differ in the sign of their noise and in nothing
else, not even in their luck; the ranks of their returns weigh the noise, which gives a
gradient without backpropagation. Salimans et al., 2017, arXiv:1703.03864.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from mazejax import random
from mazejax.algos.acting import build_networks
from mazejax.algos.base import (
    Algorithm,
    Counter,
    TrainState,
    check_choice,
    check_positive_integers,
    check_range,
    check_template,
    episode_metrics,
    nonfinite_metrics,
    update_key,
)
from mazejax.algos.collect import Act, Acted, CollectState, Episodes, Policies, run_episodes
from mazejax.algos.metrics import Accumulator, Metrics
from mazejax.base import static
from mazejax.errors import ConfigError
from mazejax.networks.blocks import ACTIVATIONS
from mazejax.networks.heads import ActionHead
from mazejax.networks.policy import ActorCritic
from mazejax.networks.template import MLPActorCritic
from mazejax.spaces.base import Space
from mazejax.spaces.mapper import DistributionMapper
from mazejax.types import Array, Key, PyTree, Rollout

_OPTIMIZERS = ("adam", "sgd")


class MLPPolicy(MLPActorCritic):
    """A dense network for the policy alone: its value is 0 everywhere."""

    def build(self, observation_space: Space, action_space: Space) -> ActorCritic:
        """The policy for these spaces."""
        mapper = DistributionMapper()
        module = _PolicyMLP(self.hidden, self.activation, action_space, mapper)
        return ActorCritic(module, observation_space, action_space, mapper)


class ES(Algorithm):
    """OpenAI's evolution strategies, for any spaces and any schedule, a network per step key.

    The networks of all step keys are perturbed together and share what their episode
    returns, summed over sub-steps and agents. The noise of a generation, [P / 2, D] for D
    weights, is kept for its gradient beside the members, [P, D]: with P = 256 and D = 4,610
    it takes 2.3 MiB, and drawing it again 25 times as long as reading it.

    `total_steps` is a budget that counts every episode with `max_steps`, since a compiled
    update cannot know how long episodes will be; what was really stepped is the metric
    `population/env_steps`. So give the env's own time limit as `max_steps`.
    """

    total_steps: int = static(default=5_000_000)
    """Most flat env steps to train for, each episode counted as `max_steps`."""
    num_envs: int = static(default=1, init=False, repr=False, metadata={"config": False})
    """Follows from the population: `population_size * episodes_per_member`, N."""
    network: MLPPolicy = MLPPolicy()
    """Template of the policy, built for each step key."""
    population_size: int = static(default=64)
    """Perturbed policies in one generation, P; even, for they come in mirrored pairs."""
    episodes_per_member: int = static(default=1)
    """Episodes over which a member's return is averaged, E."""
    max_steps: int = static(default=1000)
    """Flat steps after which an episode of a member is given up and counts as it stands."""
    deterministic: bool = static(default=False)
    """Whether members act by the mode of their distribution; else they draw from it."""
    noise_stddev: float = 0.1
    """Standard deviation of the noise on each weight."""
    optimizer: str = static(default="adam")
    """`adam`, or `sgd` with momentum."""
    learning_rate: float = 0.05
    """Step size of the optimizer."""
    momentum: float = 0.9
    """Share of the running mean of gradients in each step of `sgd`; `adam` has its own."""
    weight_decay: float = 0.005
    """L2 penalty: half of it times the squared norm of the weights counts against the fitness."""

    def __post_init__(self) -> None:
        check_positive_integers(self, "population_size", "episodes_per_member")
        object.__setattr__(self, "num_envs", self.population_size * self.episodes_per_member)
        super().__post_init__()

    def validate(self) -> None:
        """Raise ConfigError for an odd population and numbers out of range."""
        super().validate()
        check_template(self.network, "MLPPolicy")
        check_positive_integers(self, "max_steps")
        if self.population_size % 2:
            near = f"{self.population_size - 1} or {self.population_size + 1}"
            raise ConfigError(
                f"population_size: must be even, for members come in mirrored pairs, got "
                f"{self.population_size}; try {near.removeprefix('0 or ')}"
            )
        for name in ("noise_stddev", "learning_rate"):
            check_range(self, name, open_low=True)
        check_range(self, "momentum", high=1.0)
        check_range(self, "weight_decay")
        check_choice(self, "optimizer", _OPTIMIZERS)
        if self.reset_params is not None and jax.tree.leaves(
            jax.eval_shape(self.reset_params.init)
        ):
            raise ConfigError(
                f"reset_params: {type(self.reset_params).__name__} remembers past episodes, but "
                f"each generation begins in fresh envs; use a hook without memory"
            )

    @property
    def steps_per_update(self) -> int:
        """P * E * max_steps: the most that one generation can step."""
        return self.num_envs * self.max_steps

    @property
    def actor_critics(self) -> dict[str, ActorCritic]:
        """The network of each step key."""
        return build_networks(self.network, self.env)

    def init(self, key: Key) -> TrainState:
        """Fresh weights; no env stands between generations."""
        key = random.as_key(key)
        variables = self.init_variables(key)
        return TrainState(
            variables=variables,
            optimizer=self._optimizer().init(variables),
            # Each generation resets its own envs, so that nothing is carried from one to the next.
            collect=CollectState(*[()] * 5),  # type: ignore[arg-type]
            key=key,
            updates=Counter.zero(),
        )

    def update(self, state: TrainState) -> tuple[TrainState, Metrics]:
        """One generation: play the episodes of all members, then step along the gradient."""
        center, unravel = ravel_pytree(state.variables)
        noise = self._noise(state)
        episodes = self._play(state, unravel, center, noise)
        returns = jnp.mean(episodes.returns, axis=-1)
        gradient = estimate_gradient(centered_ranks(returns), noise, self.noise_stddev)
        # Adam and SGD descend.
        descent = unravel(self.weight_decay * center - gradient)
        change, optimizer = self._optimizer().update(descent, state.optimizer)
        change = jax.tree.map(lambda c: -self.learning_rate * c, change)
        variables = optax.apply_updates(state.variables, change)
        gradient_norm = jnp.linalg.norm(gradient)
        metrics = {
            **episode_metrics(episodes),
            "population/return": Accumulator.of(returns),
            "population/env_steps": Accumulator.of(jnp.sum(episodes.lengths)),
            "optimizer/grad_norm": Accumulator.of(gradient_norm),
            "optimizer/update_norm": Accumulator.of(optax.tree.norm(change)),
            **nonfinite_metrics(
                # Observations stay within the episodes; what they spoil shows in the weights.
                obs=(),
                reward=episodes.returns,
                loss=(),
                gradient=gradient_norm,
                variables=variables,
            ),
        }
        new_state = state.replace(
            variables=variables, optimizer=optimizer, updates=state.updates.add(1)
        )
        return new_state, metrics

    def collect(self, state: TrainState) -> tuple[CollectState, Rollout, Episodes]:
        """The episodes of the coming generation, [2, P / 2, E]; there is no rollout to keep."""
        center, unravel = ravel_pytree(state.variables)
        episodes = self._play(state, unravel, center, self._noise(state))
        return state.collect, Rollout({}, {}), episodes

    def _noise(self, state: TrainState) -> Array:
        """Noise of the coming generation, [P / 2, D]."""
        size = sum(leaf.size for leaf in jax.tree.leaves(state.variables))
        return draw_noise(update_key(state, "noise"), self.population_size // 2, size)

    def _play(
        self, state: TrainState, unravel: Callable[[Array], PyTree], center: Array, noise: Array
    ) -> Episodes:
        """E episodes of every member, [2, P / 2, E]; both of a pair meet the same draws."""
        members = mirrored(center, noise, self.noise_stddev)
        variables = jax.vmap(jax.vmap(unravel))(members)
        env = self.vector_env.replace(num_envs=self.num_envs // 2)
        key = update_key(state, "episodes")

        def play(variables: PyTree) -> Episodes:
            policies = self._member_policies(variables)
            return run_episodes(env, policies, key, self.max_steps)

        episodes = jax.vmap(play)(variables)
        shape = (2, self.population_size // 2, self.episodes_per_member)
        return jax.tree.map(lambda x: x.reshape(shape), episodes)

    def _member_policies(self, variables: PyTree) -> Policies:
        """How M members act in M * E envs, E in a row each; the variables are [M, ...]."""

        def of_step_key(step_key: str) -> Act:
            def act_alone(variables: PyTree, keys: Key, obs: PyTree, carry: PyTree) -> Acted:
                return self.policies(variables, self.deterministic)[step_key](keys, obs, carry)

            def act(keys: Key, obs: PyTree, carry: PyTree) -> Acted:
                episodes = self.episodes_per_member
                by_member = jax.tree.map(
                    lambda x: x.reshape(-1, episodes, *x.shape[1:]), (keys, obs, carry)
                )
                acted = jax.vmap(act_alone)(variables, *by_member)
                return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), acted)

            return act

        return {step_key: of_step_key(step_key) for step_key in self.actor_critics}

    def _optimizer(self) -> optax.GradientTransformation:
        if self.optimizer == "adam":
            return optax.scale_by_adam()
        # The mean and not the sum of past gradients: momentum then leaves the step size alone.
        return optax.ema(self.momentum, debias=False)


def draw_noise(key: Key, num: int, size: int) -> Array:
    """Standard normal noise of `num` pairs on `size` weights, [num, size] float32."""
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(num))
    return jax.vmap(lambda key: jax.random.normal(key, (size,), jnp.float32))(keys)


def mirrored(center: Array, noise: Array, stddev: float | Array) -> Array:
    """Weights of all members, [2, M, D]: center [D] plus and minus the scaled noise [M, D]."""
    step = stddev * noise
    return center[None, None] + jnp.stack([step, -step])


def estimate_gradient(fitness: Array, noise: Array, stddev: float | Array) -> Array:
    """Gradient of the expected fitness, [D], from mirrored members' [2, M] and noise [M, D].

    g = 1 / (2 M stddev) * sum_i (f_i^+ - f_i^-) eps_i: unbiased for the fitness smoothed by
    the noise. Salimans et al., 2017, equation 1, with mirrored sampling.
    """
    return (fitness[0] - fitness[1]) @ noise / (fitness.size * stddev)


def centered_ranks(values: Array) -> Array:
    """Ranks of the values, any shape, from -0.5 (least) to 0.5 (greatest), float32.

    Equal values share the mean of their ranks, so that what makes no difference gives
    exactly no gradient. What is nan counts as least.
    """
    flat = jnp.where(jnp.isnan(values), -jnp.inf, values).reshape(-1)
    ordered = jnp.sort(flat)
    # The mean rank of a value is half of (how many are less) + (how many are not greater) - 1.
    less = jnp.searchsorted(ordered, flat, side="left")
    not_greater = jnp.searchsorted(ordered, flat, side="right")
    # As integers up to the one division: all values equal must give 0 and not nearly 0.
    doubled = (less + not_greater - flat.size).astype(jnp.float32)
    return (doubled / max(2 * (flat.size - 1), 1)).reshape(values.shape)


class _PolicyMLP(nn.Module):
    hidden: tuple[int, ...]
    activation: str
    action_space: Space
    mapper: DistributionMapper

    @nn.compact
    def __call__(self, features: Array) -> tuple[PyTree, Array]:
        x = features
        for i, width in enumerate(self.hidden):
            init = nn.initializers.orthogonal(2.0**0.5)
            x = ACTIVATIONS[self.activation](
                nn.Dense(width, kernel_init=init, name=f"dense_{i}")(x)
            )
        parameters: Any = ActionHead(self.action_space, self.mapper, name="policy")(x)
        return parameters, jnp.zeros(features.shape[:-1], jnp.float32)
