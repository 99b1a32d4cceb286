"""Training and evaluation on envs that are stepped on the host.

One jitted policy step, one step of the envs, and so on: rollouts have the very form that
`collect` gives them and go to the algorithm's own `learn`. Policies draw by (key, env,
episode, time) as in compiled envs, so an env that is stepped here learns what it would
learn there.
"""

import contextlib
import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mazejax import random
from mazejax.algos.actor_critic import ActorCriticAlgorithm
from mazejax.algos.base import Algorithm, TrainState, episode_metrics
from mazejax.algos.collect import Acted, Episodes
from mazejax.algos.metrics import Metrics, merge_rows
from mazejax.envs import keys
from mazejax.envs.base import Env, select
from mazejax.envs.bridges.gymnasium import HostStep, HostVectorEnv
from mazejax.errors import ConfigError
from mazejax.runners.evaluation import Evaluation, check_sizes
from mazejax.runners.finite import first_nonfinite, nonfinite_error
from mazejax.runners.program import CACHED_PROGRAMS, strong_types
from mazejax.runners.progress import choose_progress
from mazejax.runners.signals import StopRequest
from mazejax.types import Array, Key, PyTree, Rollout, Transition


def train_on_host(
    algorithm: ActorCriticAlgorithm, envs: HostVectorEnv, seed: int = 0, progress: str = "auto"
) -> tuple[TrainState, Metrics]:
    """The state after all updates, and metrics with an axis [updates] as of `algorithm.train`.

    The algorithm is made with `env=envs.spec` and `num_envs=envs.num_envs`; of the state,
    `collect` is None, for the envs keep theirs to themselves. Ctrl-C ends the training
    after the update under way. All 64 bits of the seed count. `progress` is `auto` (a live
    line in a terminal), `plain` or `none`.
    """
    key = random.as_key(random.key(seed))
    collector = HostCollector(algorithm, envs, random.stream(key, "envs"))
    state, learn = _compile_init(algorithm)(key), _compile_learn(algorithm)
    rows: list[dict[str, Any]] = []
    steps = algorithm.steps_per_update
    line = choose_progress(progress, algorithm.num_updates * steps, 0)
    with contextlib.closing(line), StopRequest() as stop:
        while len(rows) < algorithm.num_updates and stop.signal is None:
            began = time.perf_counter()
            rollout, episodes = collector.collect(state.variables)
            state, metrics = learn(state, rollout, episodes)
            rows.append(jax.device_get(metrics))
            _check_finite(rows[-1], len(rows), algorithm.env)
            latest = merge_rows(rows[-1:]).get("train/episode_return", {}).get("mean")
            line.update(len(rows) * steps, steps / (time.perf_counter() - began), latest)
    return state, jax.tree.map(lambda *leaves: np.stack(leaves), *rows) if rows else {}


def evaluate_on_host(
    algorithm: Algorithm,
    variables: PyTree,
    envs: HostVectorEnv,
    seed: int = 0,
    episodes: int = 100,
    max_steps: int = 100_000,
    deterministic: bool = True,
) -> Evaluation:
    """That many episodes of the policy, as equally many of each env as can be.

    So long episodes count like short ones. The envs, of any number, are reset first; what
    has not ended after `max_steps` steps of each is unfinished.
    """
    check_sizes(episodes, max_steps)
    _check_spaces(algorithm, envs)
    root = random.stream(random.as_key(random.key(seed)), "evaluation")
    player = _Player(algorithm, envs, root, deterministic)
    left = np.full(envs.num_envs, episodes // envs.num_envs)
    left[: episodes % envs.num_envs] += 1
    returns: list[Any] = [np.zeros(0, np.float32)]
    lengths: list[Any] = [np.zeros(0, np.int32)]
    for _ in range(max_steps):
        if not left.any():
            break
        _, ended = player.step(player.act(variables).env_action)
        counted = ended.ended & (left > 0)
        left = left - counted
        returns.append(ended.returns[counted])
        lengths.append(ended.lengths[counted])
    return Evaluation(np.concatenate(returns), np.concatenate(lengths), int(left.sum()))


class HostCollector:
    """`collect` for envs on the host: it keeps where they, memories and episodes stand.

    All that the policy draws, and the seed of the envs, derive from the key.
    """

    def __init__(self, algorithm: ActorCriticAlgorithm, envs: HostVectorEnv, key: Key) -> None:
        _check_algorithm(algorithm, envs)
        self._algorithm = algorithm
        self._player = _Player(algorithm, envs, key)
        self._evaluate = _compile_critic(algorithm)

    def collect(self, variables: PyTree) -> tuple[Rollout, Episodes]:
        """The next rollout [T, N, ...] and the episodes that ended in it, as NumPy arrays."""
        player, num_steps = self._player, self._algorithm.num_steps
        seen, done = _Stack(num_steps), _Stack(num_steps)
        memory, finals = player.memory(), _Finals()
        for t in range(num_steps):
            obs = player.obs
            acted = player.act(variables)
            # Before the step, after which the arrays of the envs may hold the next observations.
            seen.put(t, (obs, acted.action, acted.log_prob, acted.value))
            step, episodes = player.step(acted.env_action)
            done.put(t, (step.reward, step.terminated, step.truncated, episodes))
            finals.add(t, step, player.carry)
        obs, action, log_prob, value = seen.tree()
        reward, terminated, truncated, episodes = done.tree()
        last = np.asarray(self._evaluate(variables, player.obs, player.memory()))
        following = np.concatenate([value[1:], last[None]])
        final_value = finals.values(functools.partial(self._evaluate, variables), value.shape)
        step_key = self._algorithm.env.actors[0].step_key
        transition = Transition(obs, action, reward, terminated, truncated, log_prob, value)
        next_value: Any = np.where(truncated, final_value, following)
        carry = {step_key: memory} if jax.tree.leaves(memory) else {}
        return Rollout({step_key: transition}, {step_key: next_value}, carry), episodes


class _Player:
    """A policy in host envs: it acts, steps them and keeps account of the running episodes."""

    def __init__(
        self, algorithm: Algorithm, envs: HostVectorEnv, root: Key, deterministic: bool = False
    ) -> None:
        self._envs, self._root = envs, root
        self._act = _compile_act(algorithm, deterministic)
        self._begin = _compile_begin(algorithm)
        self._episode = np.zeros(envs.num_envs, np.uint32)
        self._length: Any = np.zeros(envs.num_envs, np.int32)
        self._return = np.zeros(envs.num_envs, np.float32)
        carry = algorithm.initial_carry(envs.num_envs)
        self.carry: PyTree = () if carry is None else carry[0]
        """Memory after the last action, [N, ...], on the device."""
        # 30 bits: some simulators keep seeds as int32, and Gymnasium adds the env's number.
        self.obs = envs.reset(int(random.randint(random.stream(root, "seed"), (), 2**30)))
        """[N, ...]."""

    def act(self, variables: PyTree) -> Acted:
        """What the policy does now, on the host but for its memory."""
        moment = (self._root, self._episode, self._length)
        acted = self._act(variables, *moment, self.obs, self.carry)
        self.carry = acted.carry
        return jax.device_get(acted._replace(carry=()))

    def memory(self) -> PyTree:
        """Memory before the next action: anew where an episode has ended."""
        return self._begin(self._length, self.carry)

    def step(self, env_action: PyTree) -> tuple[HostStep, Episodes]:
        """One step of the envs, and which episodes it ended, [N]."""
        step = self._envs.step(env_action)
        ended = step.terminated | step.truncated
        episodes = Episodes(ended, self._return + step.reward, self._length + np.int32(1))
        self.obs = step.obs
        self._episode = self._episode + ended
        self._length = np.where(ended, np.int32(0), episodes.lengths)
        self._return = np.where(ended, np.float32(0), episodes.returns)
        return step, episodes


class _Stack:
    """Trees [N, ...] of successive steps as one tree [T, N, ...], in the dtypes of JAX."""

    def __init__(self, num_steps: int) -> None:
        self._num_steps = num_steps
        self._structure: Any = None
        self._arrays: list[np.ndarray] = []

    def put(self, t: int, tree: PyTree) -> None:
        """Copy the tree to time t."""
        leaves, self._structure = jax.tree.flatten(tree)
        if not self._arrays:
            # Without 64-bit types, float64 observations would be converted at every use.
            dtypes = [jax.dtypes.canonicalize_dtype(leaf.dtype) for leaf in leaves]
            shapes = [(self._num_steps, *leaf.shape) for leaf in leaves]
            self._arrays = [np.empty(*both) for both in zip(shapes, dtypes, strict=True)]
        for array, leaf in zip(self._arrays, leaves, strict=True):
            array[t] = leaf

    def tree(self) -> Any:
        """All that was put in."""
        return self._structure.unflatten(self._arrays)


class _Finals:
    """Final observations of the episodes that were truncated in a rollout."""

    def __init__(self) -> None:
        self._places: list[tuple[int, int]] = []
        self._taken: list[PyTree] = []

    def add(self, t: int, step: HostStep, carry: PyTree) -> None:
        """Keep those of the step at time t, with the memory from before the reset."""
        rows = np.flatnonzero(step.truncated & ~step.terminated)
        if rows.size:
            self._places += [(t, int(row)) for row in rows]
            kept = (step.final_obs, carry)
            self._taken.append(jax.tree.map(lambda leaf: np.asarray(leaf)[rows], kept))

    def values(self, evaluate: Any, shape: tuple[int, int]) -> np.ndarray:
        """What they are worth, [T, N] float32; 0 elsewhere.

        Evaluated in blocks of N rows, the last one filled up, so that the critic that is
        compiled for a step of the envs serves here too.
        """
        values = np.zeros(shape, np.float32)
        if not self._taken:
            return values
        every = jax.tree.map(lambda *parts: np.concatenate(parts), *self._taken)
        for begin in range(0, len(self._places), shape[1]):
            places = self._places[begin : begin + shape[1]]
            rows = np.arange(begin, begin + shape[1])
            block = jax.tree.map(lambda leaf, at=rows: leaf.take(at, axis=0, mode="clip"), every)
            worth = np.asarray(evaluate(*block))
            values[tuple(zip(*places, strict=True))] = worth[: len(places)]
        return values


@functools.lru_cache(maxsize=CACHED_PROGRAMS)
def _compile_init(algorithm: ActorCriticAlgorithm) -> Any:
    """(key) -> state without envs."""
    return jax.jit(lambda key: strong_types(algorithm.init_learner(key)))


@functools.lru_cache(maxsize=CACHED_PROGRAMS)
def _compile_learn(algorithm: ActorCriticAlgorithm) -> Any:
    """(state, rollout, episodes) -> (state, metrics as of `update`); the state is donated."""

    def learn(state: TrainState, rollout: Rollout, episodes: Episodes) -> tuple[Any, Metrics]:
        state, metrics = algorithm.learn(state, rollout)
        return strong_types(state), {**episode_metrics(episodes), **metrics}

    return jax.jit(learn, donate_argnums=0)


@functools.lru_cache(maxsize=CACHED_PROGRAMS)
def _compile_act(algorithm: Algorithm, deterministic: bool) -> Any:
    """(variables, root key, episode [N], time [N], obs, carry) -> Acted."""

    def act(
        variables: PyTree, root: Key, episode: Array, time: Array, obs: PyTree, carry: PyTree
    ) -> Acted:
        (policy,) = algorithm.policies(variables, deterministic).values()
        index = jnp.arange(episode.size, dtype=jnp.int32)
        episode_keys = jax.vmap(keys.episode_key, in_axes=(None, 0, 0))(root, index, episode)
        policy_keys = jax.vmap(lambda key, t: keys.moment_key(key, t, 0, "policy"))(
            episode_keys, time
        )
        acted = policy(policy_keys, obs, _begun(algorithm, time, carry))
        return acted._replace(entropy=None)  # which nobody reads here

    return jax.jit(act)


@functools.lru_cache(maxsize=CACHED_PROGRAMS)
def _compile_critic(algorithm: ActorCriticAlgorithm) -> Any:
    """(variables, obs [N, ...], carry [N, ...]) -> values [N]."""

    def evaluate(variables: PyTree, obs: PyTree, carry: PyTree) -> Array:
        (critic,) = algorithm.critics(variables).values()
        return critic(obs, carry)

    return jax.jit(evaluate)


@functools.lru_cache(maxsize=CACHED_PROGRAMS)
def _compile_begin(algorithm: Algorithm) -> Any:
    """(time [N], carry) -> carry, anew where an episode begins."""
    return jax.jit(functools.partial(_begun, algorithm))


def _begun(algorithm: Algorithm, time: Array, carry: PyTree) -> PyTree:
    fresh = algorithm.initial_carry(time.shape[0])
    return carry if fresh is None else select(time == 0, fresh[0], carry)


def _check_algorithm(algorithm: ActorCriticAlgorithm, envs: HostVectorEnv) -> None:
    """Raise ConfigError unless the algorithm can learn from these envs."""
    if not isinstance(algorithm, ActorCriticAlgorithm):
        raise ConfigError(
            f"host envs: got {type(algorithm).__name__}, expected PPO or A2C, which learn from "
            f"rollouts"
        )
    _check_spaces(algorithm, envs)
    if algorithm.num_envs != envs.num_envs:
        raise ConfigError(
            f"num_envs: the algorithm has {algorithm.num_envs}, the envs are {envs.num_envs}; "
            f"make it with num_envs=envs.num_envs"
        )
    if algorithm.reset_params is not None:
        raise ConfigError("reset_params: choose numbers of compiled envs only; leave it out")
    if algorithm.num_devices > 1 or algorithm.axis_name is not None:
        raise ConfigError("num_devices: host envs feed a single device; leave it at 1")


def _check_spaces(algorithm: Algorithm, envs: HostVectorEnv) -> None:
    env = algorithm.env
    theirs = [*env.observation_spaces.values()], [*env.action_spaces.values()]
    flat = len(env.actors) == 1 and env.actors[0].agent_id is not None
    if not flat or theirs != ([envs.observation_space], [envs.action_space]):
        raise ConfigError(
            f"env: the algorithm is for {env}, whose spaces are not those of {envs}; "
            f"make it with env=envs.spec"
        )


def _check_finite(row: dict[str, Any], update: int, env: Env) -> None:
    """Raise for the first quantity of an update that is not finite."""
    quantity = first_nonfinite(row)
    if quantity is not None:
        raise nonfinite_error(quantity, f"update {update}: {quantity} is not finite", env)
