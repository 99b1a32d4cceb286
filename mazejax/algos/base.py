"""`Algorithm` and `TrainState`: what every learner shares.

An algorithm is a frozen dataclass of its own hyper-parameters; everything that changes
while it learns is one `TrainState`. All methods are pure, so one learner is vmapped over
seeds and over every number among its fields.
"""

import dataclasses
import math
from collections.abc import Collection
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mazejax import random
from mazejax.algos import acting, devices, events
from mazejax.algos.collect import CollectState, Episodes, Policies, run_episodes
from mazejax.algos.metrics import Metrics
from mazejax.algos.normalize import RewardStatistics
from mazejax.base import Pytree, is_concrete, is_number, static
from mazejax.envs.base import Env
from mazejax.envs.reset import check_strategy
from mazejax.envs.reset_params import ResetParams
from mazejax.envs.vector import VectorEnv
from mazejax.errors import ConfigError, did_you_mean
from mazejax.events.accumulator import Accumulator
from mazejax.networks.template import NetworkTemplate
from mazejax.types import Array, Key, PyTree, Rollout

NONFINITE = ("obs", "reward", "loss", "gradient", "variables")
"""What is watched for entries that are not finite, causes before consequences."""

_NETWORK_PER = ("step_key", "actor")


class Counter(Pytree):
    """A count beyond 2^32 as two uint32, because there is no int64 without x64."""

    low: Array
    high: Array

    @classmethod
    def zero(cls) -> Self:
        """0."""
        return cls(jnp.zeros((), jnp.uint32), jnp.zeros((), jnp.uint32))

    def add(self, amount: int) -> Self:
        """The count plus an amount below 2^32."""
        low = self.low + np.uint32(amount)
        return type(self)(low, self.high + (low < self.low).astype(jnp.uint32))

    def to_float(self) -> Array:
        """float32, for ratios."""
        return self.high.astype(jnp.float32) * 2.0**32 + self.low.astype(jnp.float32)

    def __int__(self) -> int:
        return (int(self.high) << 32) + int(self.low)


class TrainState(Pytree):
    """Everything that changes while an algorithm learns."""

    variables: PyTree
    """Of the networks by step key: weights, and statistics of observations if they keep any."""
    optimizer: PyTree
    """The optimizer's state."""
    collect: CollectState | None
    """Env states, observations, memories, running episodes; None where no envs are kept."""
    key: Key
    """Root of everything that the learner draws."""
    updates: Counter
    """Updates made."""
    rewards: RewardStatistics | None = None
    """Of what rewards are scaled by, where they are."""


class Algorithm(Pytree):
    """Base of all learners: `init`, `update` and `train`, all pure.

    A subclass defines `init`, `collect`, `learn`, `make_optimizer` and the size of an update.
    """

    compile_time: ClassVar[bool] = True

    env: Env
    """What is learned; only its spaces and its schedule matter to `learn`."""
    total_steps: int = static(default=500_000)
    """Flat env steps to train for; rounded up to whole updates."""
    num_envs: int = static(default=16)
    """Envs stepped together, N."""
    auto_reset: str = static(default="auto")
    """`auto`, `always`, `compact` or `pool`."""
    reset_params: ResetParams | None = dataclasses.field(default=None, metadata={"config": False})
    """Hook that chooses numbers of the training envs at each reset; evaluation keeps the env's."""
    network_per: str = static(default="step_key")
    """Who shares a network: all agents of a `step_key`, or each `actor` has its own."""
    normalize_obs: bool = static(default=False)
    """Whether Box observations are normalized by running statistics, which are saved with the
    weights and stand still in evaluation."""
    num_devices: int = static(default=1)
    """Devices over which the envs are divided; minibatches and all else are shared alike."""
    axis_name: str | None = static(default=None, metadata={"config": False})
    """Mesh axis of a `shard_map` of one's own around `update`; all sizes, `total_steps` too, are
    then those of one device."""
    statistics: str = static(default="all")
    """Whose events become statistics: `all`, those of the `env`, or `none`."""
    network: NetworkTemplate | None = None
    """Template of the network, built for each step key; None where policies are something else."""

    def init(self, key: Key) -> TrainState:
        """The state before the first update; the key is the root of all that is drawn."""
        raise NotImplementedError

    def init_learner(self, key: Key) -> TrainState:
        """Fresh weights, and no envs: for rollouts that come from elsewhere."""
        key = random.as_key(key)
        variables = self.init_variables(key)
        return TrainState(
            variables=variables,
            optimizer=self.make_optimizer().init(acting.weights_of(variables)),
            collect=None,
            key=key,
            updates=Counter.zero(),
        )

    def make_optimizer(self) -> optax.GradientTransformation:
        """What turns gradients of the weights into steps, which the learning rate scales."""
        raise NotImplementedError

    def update(self, state: TrainState) -> tuple[TrainState, Metrics]:
        """One update: collect, then learn."""
        if self.num_devices > 1:
            return devices.update(self, state)
        state, metrics = self._update(state)
        if self.axis_name is not None:
            metrics = devices.merge_metrics(metrics, self.axis_name)
        return state, metrics

    def collect(self, state: TrainState) -> tuple[CollectState | None, Rollout, Episodes]:
        """The next rollout, [T, N, ...], and the episodes that ended in it."""
        raise NotImplementedError

    def learn(self, state: TrainState, rollout: Rollout) -> tuple[TrainState, Metrics]:
        """Learn from a rollout, wherever it comes from."""
        raise NotImplementedError

    def policies(self, variables: PyTree, deterministic: bool = False) -> Policies:
        """How each actor acts with the variables: drawn from the distribution, or its mode."""
        return acting.policies(self.actor_critics, self.env, variables, deterministic)

    def initial_carry(self, num_envs: int) -> tuple[PyTree, ...] | None:
        """What policies begin episodes with, [N, ...] by sub-step; None without memory."""
        return acting.initial_carries(self.actor_critics, self.env, num_envs)

    @property
    def actor_critics(self) -> acting.Networks:
        """The network of each step key."""
        if self.network is None:
            return {}
        return acting.build_networks(self.network, self.env, self.network_per, self.normalize_obs)

    def init_variables(self, key: Key) -> dict[str, PyTree]:
        """Fresh variables of the networks, by step key; the key is the one given to `init`."""
        init_key = random.stream(key, "init")
        return {
            step_key: network.init(random.stream(init_key, step_key))
            for step_key, network in self.actor_critics.items()
        }

    @property
    def steps_per_update(self) -> int:
        """Flat env steps that one update collects, over all envs."""
        raise NotImplementedError

    @property
    def num_updates(self) -> int:
        """Updates that make up `total_steps`, rounded up."""
        return math.ceil(self.total_steps / self.steps_per_update)

    @property
    def vector_env(self) -> VectorEnv:
        """The envs that it trains on."""
        return VectorEnv(
            self.env,
            self.num_envs,
            self.auto_reset,
            reset_params=self.reset_params,
            axis_name=self.axis_name,
        )

    def on_one_device(self) -> Self:
        """The share of one of `num_devices` devices, for `shard_map` over `devices.AXIS`."""
        share = self.replace(
            num_devices=1, axis_name=devices.AXIS, **self._sizes_of_share(), total_steps=1
        )
        return share.replace(total_steps=self.num_updates * share.steps_per_update)

    def _sizes_of_share(self) -> dict[str, int]:
        check_divides("num_envs", self.num_envs, "num_devices", self.num_devices)
        return {"num_envs": self.num_envs // self.num_devices}

    def _update(self, state: TrainState) -> tuple[TrainState, Metrics]:
        collected, rollout, episodes = self.collect(state)
        state, metrics = self.learn(state.replace(collect=collected), rollout)
        return state, {**episode_metrics(episodes), **metrics}

    def train(self, key: Key) -> tuple[TrainState, Metrics]:
        """All updates as one pure function: the state, and metrics with an axis [num_updates].

        For research code that vmaps or shards whole runs; `mazejax.train` is the same
        loop with progress, evaluation and checkpoints.
        """
        return jax.lax.scan(
            lambda state, _: self.update(state), self.init(key), None, length=self.num_updates
        )

    def evaluate(
        self,
        variables: PyTree,
        key: Key,
        num_episodes: int = 100,
        max_steps: int = 100_000,
        deterministic: bool = True,
    ) -> Episodes:
        """One episode each in `num_episodes` fresh envs, [num_episodes].

        An episode that does not end within `max_steps` has `ended` false and is not in the
        statistics of events.
        """
        env = VectorEnv(self.env, num_episodes, self.auto_reset)
        policies = self.policies(variables, deterministic)
        return run_episodes(
            env,
            policies,
            random.stream(random.as_key(key), "evaluation"),
            max_steps,
            self.initial_carry(num_episodes),
            events.to_keep(env, self.statistics),
        )

    def validate(self) -> None:
        """Raise ConfigError for sizes that are not positive and an unknown reset strategy."""
        if not isinstance(self.env, Env):
            raise ConfigError(f"env: expected an Env, got {_described(self.env)}")
        check_positive_integers(self, "total_steps", "num_envs", "num_devices")
        check_strategy(self.auto_reset)
        check_choice(self, "network_per", _NETWORK_PER)
        check_choice(self, "statistics", events.LEVELS)
        if self.num_devices > 1 and self.axis_name is not None:
            raise ConfigError(
                "axis_name: is for a shard_map of one's own, num_devices makes one; set one of them"
            )
        if self.num_devices > 1:
            self.on_one_device()


def update_key(state: TrainState, name: str) -> Key:
    """Key of the coming update for a purpose."""
    key = jax.random.fold_in(random.stream(state.key, name), state.updates.high)
    return jax.random.fold_in(key, state.updates.low)


def episode_metrics(episodes: Episodes) -> Metrics:
    """Return and length of the episodes that ended, and statistics of their events.

    Absent when none did.
    """
    ended, returns, lengths = episodes.ended, episodes.returns, episodes.lengths
    return {
        "train/episode_return": Accumulator.of(returns, ended),
        "train/episode_length": Accumulator.of(lengths, ended),
        **events.of_rewards(ended, returns, lengths),
        **(episodes.statistics or {}),
    }


def nonfinite_metrics(**quantities: PyTree) -> Metrics:
    """For each of `NONFINITE` the number of entries that are not finite; absent when all are."""
    metrics = {}
    for name in NONFINITE:
        tree = quantities[name]
        leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
        bad = sum((jnp.sum(~jnp.isfinite(x)) for x in leaves), jnp.zeros((), jnp.int32))
        metrics[f"nonfinite/{name}"] = Accumulator.of(bad, bad > 0)
    return metrics


def check_positive_integers(algorithm: Algorithm, *names: str) -> None:
    """Raise ConfigError unless each of these fields is a positive integer."""
    for name in names:
        value = getattr(algorithm, name)
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ConfigError(f"{name}: must be a positive integer, got {value!r}")


def check_template(template: Any, example: str) -> None:
    """Raise ConfigError unless the network's template can be built for spaces."""
    if isinstance(template, type) and hasattr(template, "build"):
        raise ConfigError(
            f"network: expected a template, got the class {template.__name__}; "
            f"write {template.__name__}()"
        )
    if not hasattr(template, "build"):
        raise ConfigError(
            f"network: expected a template such as {example}(), got {type(template).__name__}"
        )


def _described(env: Any) -> str:
    """The kind of what was given in the place of an Env, and how to make one of it."""
    kind = type(env).__name__
    if isinstance(env, str):
        return f"{kind}; write mazejax.make({env!r})"
    if isinstance(env, type) and issubclass(env, Env):
        return f"the class {env.__name__}; make one, {env.__name__}(...)"
    if isinstance(getattr(env, "spec", None), Env):
        return f"{kind}; give its spec, and train with mazejax.train_on_host"
    packages = {parent.__module__.partition(".")[0] for parent in type(env).__mro__}
    if packages & {"gymnasium", "gym"}:
        return (
            f"{kind} of Gymnasium, which cannot be compiled; step it on the host with "
            f"mazejax.HostVectorEnv, see docs/learners.md"
        )
    if "gymnax" in packages:
        return f"{kind} of gymnax; write mazejax.make('gymnax/{getattr(env, 'name', 'NAME')}')"
    return kind


def check_choice(algorithm: Algorithm, name: str, known: Collection[str]) -> None:
    """Raise ConfigError unless the field is one of the known names."""
    value = getattr(algorithm, name)
    if value not in known:
        raise ConfigError(f"{name}: unknown {value!r}; {did_you_mean(str(value), known)}")


def check_range(
    algorithm: Algorithm,
    name: str,
    low: float = 0.0,
    high: float = math.inf,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """Raise ConfigError unless the number is finite and in [low, high], without open ends."""
    value: Any = getattr(algorithm, name)
    if not is_concrete(value):
        return
    if not is_number(value):
        raise ConfigError(f"{name}: must be a number, got {value!r}")
    numbers = np.asarray(value, np.float64)
    above = numbers > low if open_low else numbers >= low
    below = numbers < high if open_high else numbers <= high
    if not np.all(np.isfinite(numbers) & above & below):
        span = f"{'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
        raise ConfigError(f"{name}: must be finite and in {span}, got {value}")


def check_divides(whole_name: str, whole: int, parts_name: str, parts: int) -> None:
    """Raise ConfigError naming the nearest numbers that divide, if `parts` does not."""
    if whole % parts:
        small = [d for d in range(1, math.isqrt(whole) + 1) if whole % d == 0]
        divisors = sorted({*small, *(whole // d for d in small)})
        below = [d for d in divisors if d < parts][-1:]
        near = [*below, *[d for d in divisors if d > parts][:1]]
        raise ConfigError(
            f"{parts_name}: {whole_name} = {whole} does not divide into {parts} parts; "
            f"nearest that do: {', '.join(map(str, near))}"
        )
