"""Evolution strategies: a policy learned from the returns of perturbed copies of itself.

Members of a population come in pairs that differ in the sign of their noise and in nothing
else, not even in their luck; the ranks of their returns weigh the noise, which gives a
gradient without backpropagation. Salimans et al., 2017, arXiv:1703.03864.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from mazejax.algos import acting, events
from mazejax.algos.base import (
    Algorithm,
    TrainState,
    check_choice,
    check_divides,
    check_positive_integers,
    check_range,
    check_template,
    episode_metrics,
    nonfinite_metrics,
    update_key,
)
from mazejax.algos.collect import (
    Act,
    Acted,
    CollectState,
    Episodes,
    FlatStep,
    Policies,
    watch_episodes,
)
from mazejax.algos.metrics import Metrics
from mazejax.base import static
from mazejax.errors import ConfigError
from mazejax.events.accumulator import Accumulator
from mazejax.events.epoch import EventSummary
from mazejax.networks.mlp import MLPPolicy
from mazejax.networks.normalization import RunningStatistics
from mazejax.networks.policy import STATISTICS
from mazejax.networks.template import NetworkTemplate
from mazejax.types import ActorID, Array, Key, PyTree, Rollout

_OPTIMIZERS = ("adam", "sgd")

_CACHED_BYTES = 2**19  # measured at 4,610 weights, see docs/performance.md
_LEAST_TOGETHER = 32


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
    network: NetworkTemplate = MLPPolicy()
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
            near = _either(self.population_size - 1, self.population_size + 1)
            raise ConfigError(
                f"population_size: must be even, for members come in mirrored pairs, got "
                f"{self.population_size}; try {near}"
            )
        for name in ("noise_stddev", "learning_rate"):
            check_range(self, name, open_low=True)
        check_range(self, "momentum", high=1.0, open_high=True)
        check_range(self, "weight_decay")
        check_choice(self, "optimizer", _OPTIMIZERS)
        _ = self.actor_critics  # rules that do not fit the spaces are refused now
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

    def init(self, key: Key) -> TrainState:
        """Fresh weights; no env stands between generations, each of which resets its own."""
        return self.init_learner(key)

    def make_optimizer(self) -> optax.GradientTransformation:
        """Adam, or momentum alone."""
        if self.optimizer == "adam":
            return optax.scale_by_adam()
        # The mean and not the sum of past gradients: momentum then leaves the step size alone.
        return optax.ema(self.momentum, debias=False)

    def _update(self, state: TrainState) -> tuple[TrainState, Metrics]:
        """One generation: play the episodes of all members, then step along the gradient."""
        learned = acting.weights_of(state.variables)
        center, unravel = ravel_pytree(learned)
        noise = self._noise(state)
        episodes, seen = self._play(state, noise)
        returns = jnp.mean(episodes.returns, axis=-1)
        gradient = self._gradient(returns, noise)
        # Adam and SGD descend.
        descent = unravel(self.weight_decay * center - gradient)
        change, optimizer = self.make_optimizer().update(descent, state.optimizer)
        change = jax.tree.map(lambda c: -self.learning_rate * c, change)
        variables = acting.with_weights(state.variables, optax.apply_updates(learned, change))
        gradient_norm, env_steps = jnp.linalg.norm(gradient), jnp.sum(episodes.lengths)
        if self.axis_name is not None:
            env_steps = jax.lax.psum(env_steps, self.axis_name)
        metrics = {
            **episode_metrics(episodes),
            "population/return": Accumulator.of(returns),
            "population/env_steps": Accumulator.of(env_steps),
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
            variables=self._with_statistics(variables, seen),
            optimizer=optimizer,
            updates=state.updates.add(1),
        )
        return new_state, metrics

    def collect(self, state: TrainState) -> tuple[CollectState | None, Rollout, Episodes]:
        """The episodes of the coming generation, [2, P / 2, E]; there is no rollout to keep."""
        return state.collect, Rollout({}, {}), self._play(state, self._noise(state))[0]

    def _sizes_of_share(self) -> dict[str, int]:
        check_divides("population_size", self.population_size, "num_devices", self.num_devices)
        least = 2 * self.num_devices
        if self.population_size % least:
            below = self.population_size // least * least
            raise ConfigError(
                f"population_size: must be even on each of num_devices = {self.num_devices}, for "
                f"members come in mirrored pairs, got {self.population_size}; try "
                f"{_either(below, below + least)}"
            )
        return {"population_size": self.population_size // self.num_devices}

    def _noise(self, state: TrainState) -> Array:
        """Noise of the coming generation, [P / 2, D]; pairs are numbered across devices."""
        learned = acting.weights_of(state.variables)
        size = sum(leaf.size for leaf in jax.tree.leaves(learned))
        pairs = jnp.arange(self.population_size // 2)
        if self.axis_name is not None:
            pairs += jax.lax.axis_index(self.axis_name) * pairs.size
        return draw_noise(update_key(state, "noise"), pairs, size)

    def _gradient(self, returns: Array, noise: Array) -> Array:
        """From the returns [2, P / 2] of all devices' members, which are ranked together."""
        if self.axis_name is None:
            return estimate_gradient(centered_ranks(returns), noise, self.noise_stddev)
        everyone = jax.lax.all_gather(returns, self.axis_name, axis=1, tiled=True)
        first = jax.lax.axis_index(self.axis_name) * returns.shape[1]
        own = jax.lax.dynamic_slice_in_dim(centered_ranks(everyone), first, returns.shape[1], 1)
        share = estimate_gradient(own, noise, self.noise_stddev)
        return jax.lax.pmean(share, self.axis_name)

    def _play(self, state: TrainState, noise: Array) -> tuple[Episodes, PyTree]:
        """E episodes of every member, [2, P / 2, E], and the statistics of what each group saw.

        Both of a pair meet the same draws.
        """
        center, unravel = ravel_pytree(acting.weights_of(state.variables))
        pairs, episodes_each = self.population_size // 2, self.episodes_per_member
        size = _group_size(pairs, center.size)
        members = mirrored(center, noise, self.noise_stddev).reshape(-1, size, center.size)
        firsts = jnp.tile(jnp.arange(0, pairs, size) * episodes_each, 2)
        if self.axis_name is not None:
            firsts += jax.lax.axis_index(self.axis_name) * pairs * episodes_each
        env = self.vector_env.replace(num_envs=size * episodes_each, axis_name=None)
        key = update_key(state, "episodes")
        # Members' policies are random changes of one: their thoughts say nothing.
        keep = events.to_keep(env, "env" if self.statistics == "all" else self.statistics)
        # Counted from nothing: what is known already is merged with it once, afterwards.
        unseen = _statistics_of(state.variables, lambda s: s.replace(count=jnp.zeros_like(s.count)))

        def play(group: tuple[Array, Array]) -> tuple[Episodes, PyTree]:
            weights, first = jax.vmap(unravel)(group[0]), group[1]
            policies = self._member_policies(state.variables, weights)
            carry = self.initial_carry(env.num_envs)
            watch = self._watch if self.normalize_obs else None
            envs = env.replace(first_env=first)
            return watch_episodes(envs, policies, key, self.max_steps, carry, watch, unseen, keep)

        # One group after the other: their weights stay in the cache, and none waits for the
        # longest episode of all.
        episodes, seen = jax.lax.map(play, (members, firsts))
        statistics = episodes.statistics and _merged(episodes.statistics)
        shape = (2, pairs, episodes_each)
        played = jax.tree.map(lambda x: x.reshape(shape), episodes.replace(statistics=None))
        return played.replace(statistics=statistics), seen

    def _watch(self, seen: PyTree, now: FlatStep, running: Array) -> PyTree:
        """The statistics with the observations of a flat step counted in, [N, ...]."""
        grown = {}
        for step_key, network in self.actor_critics.items():
            steps = now.transitions[step_key]
            where = jnp.broadcast_to(
                running.reshape(running.shape + (1,) * (steps.reward.ndim - 1)), steps.reward.shape
            )
            where = where if steps.active is None else where & steps.active
            grown[step_key] = network.add_observations(seen[step_key], steps.obs, where)
        return grown

    def _with_statistics(self, variables: PyTree, seen: PyTree) -> PyTree:
        """The variables with what all groups saw, [G, ...], on all devices."""
        if not jax.tree.leaves(seen):
            return variables
        if self.axis_name is not None:
            seen = jax.lax.all_gather(seen, self.axis_name, axis=0, tiled=True)
        merged = _folded(
            lambda known, new: _statistics_of(known, lambda k, n: k.merge(n), new),
            _statistics_of(variables, lambda known: known),
            seen,
        )
        return {key: {**own, **merged[key]} for key, own in variables.items()}

    def _member_policies(self, variables: PyTree, weights: PyTree) -> Policies:
        """How M members act in M * E envs, E in a row each; their weights are [M, ...]."""

        def of_actor(actor: ActorID) -> Act:
            def act_alone(weights: PyTree, keys: Key, obs: PyTree, carry: PyTree) -> Acted:
                member = acting.with_weights(variables, weights)
                return self.policies(member, self.deterministic)[actor](keys, obs, carry)

            def act(keys: Key, obs: PyTree, carry: PyTree) -> Acted:
                episodes = self.episodes_per_member
                by_member = jax.tree.map(
                    lambda x: x.reshape(-1, episodes, *x.shape[1:]), (keys, obs, carry)
                )
                acted = jax.vmap(act_alone)(weights, *by_member)
                return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), acted)

            return act

        return {actor: of_actor(actor) for actor in dict.fromkeys(self.env.actors)}


def _either(below: int, above: int) -> str:
    """Both numbers to choose from, or the upper one if the lower is 0."""
    return f"{below} or {above}" if below else str(above)


def _group_size(pairs: int, num_weights: int) -> int:
    """Members that are played together: as many as divide a side and fit into the cache."""
    fitting = max(_LEAST_TOGETHER, _CACHED_BYTES // (4 * num_weights))
    return next(size for size in range(min(pairs, fitting), 0, -1) if pairs % size == 0)


def _folded(merge: Callable, start: PyTree, parts: PyTree) -> PyTree:
    """`start` merged with all parts [G, ...], in a loop: programs do not grow with their number."""
    return jax.lax.scan(lambda known, new: (merge(known, new), None), start, parts)[0]


def _merged(statistics: dict[str, EventSummary]) -> dict[str, EventSummary]:
    """The summaries of all groups, [G, ...], as one."""
    first, others = (jax.tree.map(lambda x, at=at: x[at], statistics) for at in (0, slice(1, None)))
    return _folded(
        lambda known, new: {name: own.merge(new[name]) for name, own in known.items()},
        first,
        others,
    )


def draw_noise(key: Key, pairs: Array, size: int) -> Array:
    """Standard normal noise of the pairs of these numbers on `size` weights, [pairs, size]."""
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, pairs)
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


def _statistics_of(variables: PyTree, function: Callable, *others: PyTree) -> PyTree:
    """`function` of all statistics among the variables by step key; {} where there are none."""
    return {
        key: {
            STATISTICS: jax.tree.map(
                function,
                own[STATISTICS],
                *(other[key][STATISTICS] for other in others),
                is_leaf=lambda node: isinstance(node, RunningStatistics),
            )
        }
        if STATISTICS in own
        else {}
        for key, own in variables.items()
    }
