"""Tiny envs with known answers, for tests of learners and of reset strategies.

Each isolates one thing that a learner must get right, and `value` gives the true value
of an observation under the best policy, so that a test says which part is wrong. What
is random in them, their docstrings say.
"""

import jax
import jax.numpy as jnp
import numpy as np

from mazejax import random
from mazejax.base import Pytree, static
from mazejax.envs.base import Env, StateStep, flag
from mazejax.errors import ConfigError
from mazejax.spaces.simple import Box, Discrete
from mazejax.types import Array, Key

_TARGET = 0.5
"""Best continuous action: not a bound, so that clipping cannot find it by accident."""


class ProbeState(Pytree):
    """State of a probe."""

    signal: Array
    """What the observation shows, float32 []."""
    time: Array
    """Steps since the reset, int32 []."""


class ProbeEnv(Env):
    """Base of the probes: one number is observed, and one step is an episode.

        observation  Box(1), within [-1, 1]
        action       Discrete(2), or Box(1) within [-1, 1] if `continuous`

    A subclass says what the number is at the start (`signal`), what an action earns
    (`reward`), and what an observation is worth (`value`).
    """

    continuous: bool = static(default=False)
    """Whether actions are continuous."""

    @property
    def observation_space(self) -> Box:
        """One number."""
        return Box(-1.0, 1.0, (1,))

    @property
    def action_space(self) -> Box | Discrete:
        """Two actions, or one number."""
        return Box(-1.0, 1.0, (1,)) if self.continuous else Discrete(2)

    def signal(self, key: Key) -> Array:
        """The number observed after a reset, float32 []."""
        return jnp.zeros((), jnp.float32)

    def reward(self, state: ProbeState, action: Array) -> Array:
        """What the action earns in the state, float32 []."""
        return jnp.ones((), jnp.float32)

    def value(self, obs: Array, gamma: float) -> Array:
        """True value [...] of observations [..., 1] under the best policy."""
        raise NotImplementedError

    def reset_state(self, key: Key) -> ProbeState:
        """The signal at time 0."""
        return ProbeState(self.signal(key), jnp.zeros((), jnp.int32))

    def step_state(self, key: Key, state: ProbeState, action: Array) -> StateStep:
        """The reward, and the end of the episode."""
        new = state.replace(time=state.time + 1)
        return StateStep(new, self.reward(state, action), flag(True), flag(), {})

    def observe(self, state: ProbeState) -> Array:
        """[1] float32."""
        return state.signal[None]

    def time(self, state: ProbeState) -> Array:
        """Steps since the reset, int32."""
        return state.time


# --- values and actions -----------------------------------------------------------------


class ConstantReward(ProbeEnv):
    """One step that earns 1, whatever is done: V = 1. Fails if the critic cannot learn."""

    def value(self, obs: Array, gamma: float) -> Array:
        """1."""
        return jnp.ones(obs.shape[:-1])


class ObservationReward(ProbeEnv):
    """One step that earns what was observed, -1 or 1 at random: V(obs) = obs.

    Fails if the critic does not see its observation.
    """

    def signal(self, key: Key) -> Array:
        """-1 or 1 with equal probability."""
        return _random_sign(key)

    def reward(self, state: ProbeState, action: Array) -> Array:
        """The observation."""
        return state.signal

    def value(self, obs: Array, gamma: float) -> Array:
        """The observation."""
        return obs[..., 0]


class DelayedReward(ProbeEnv):
    """Two steps, observing 0 and then 1; the second earns 1: V(0) = gamma, V(1) = 1.

    Fails if values are not discounted or not carried back in time.
    """

    def reward(self, state: ProbeState, action: Array) -> Array:
        """1 in the second step."""
        return state.signal

    def step_state(self, key: Key, state: ProbeState, action: Array) -> StateStep:
        """From 0 to 1, and from 1 to the end."""
        new = ProbeState(jnp.ones((), jnp.float32), state.time + 1)
        return StateStep(new, self.reward(state, action), new.time >= 2, flag(), {})

    def value(self, obs: Array, gamma: float) -> Array:
        """gamma, then 1."""
        return jnp.where(obs[..., 0] > 0.5, 1.0, gamma)


class ActionReward(ProbeEnv):
    """One step that earns 1 for action 1 and -1 for action 0: V = 1.

    Continuous: 1 - (action - 0.5)^2, best at 0.5. Fails if the policy does not learn.
    """

    def reward(self, state: ProbeState, action: Array) -> Array:
        """1 for the best action."""
        return _earned(self, action, jnp.ones((), jnp.float32))

    def value(self, obs: Array, gamma: float) -> Array:
        """1."""
        return jnp.ones(obs.shape[:-1])


class ObservationActionReward(ProbeEnv):
    """One step; observes -1 or 1 and earns 1 for action 0 or 1 respectively, else -1: V = 1.

    Continuous: 1 - (action - obs / 2)^2, best at half the observation. Fails if the
    policy does not see its observation.
    """

    def signal(self, key: Key) -> Array:
        """-1 or 1 with equal probability."""
        return _random_sign(key)

    def reward(self, state: ProbeState, action: Array) -> Array:
        """1 for the action that the observation asks for."""
        return _earned(self, action, state.signal)

    def value(self, obs: Array, gamma: float) -> Array:
        """1."""
        return jnp.ones(obs.shape[:-1])


# --- ends of episodes -------------------------------------------------------------------


class EndlessReward(ProbeEnv):
    """Earns 1 in every step and never ends: V = 1 / (1 - gamma).

    With a TimeLimit around it the value must stay the same: fails if the values of
    truncated steps are zeroed.
    """

    def step_state(self, key: Key, state: ProbeState, action: Array) -> StateStep:
        """Goes on."""
        new = state.replace(time=state.time + 1)
        return StateStep(new, self.reward(state, action), flag(), flag(), {})

    def value(self, obs: Array, gamma: float) -> Array:
        """1 / (1 - gamma)."""
        return jnp.full(obs.shape[:-1], 1.0 / (1.0 - gamma))


class WildReset(ProbeEnv):
    """Earns much in its first step and nothing after; truncated by its own clock.

    Observes 1 at the start, 0 from then on: V(1) = 10 (`first_reward`), V(0) = 0. Fails
    if truncated steps bootstrap from the observation after the reset, which makes
    V(0) large.
    """

    first_reward: float = 10.0
    """What the first step earns."""
    length: int = static(default=4)
    """Steps to the truncation."""

    def validate(self) -> None:
        """Raise ConfigError unless there is a step after the first."""
        if self.length < 2:
            raise ConfigError(f"WildReset.length: got {self.length}, expected at least 2")

    def signal(self, key: Key) -> Array:
        """1."""
        return jnp.ones((), jnp.float32)

    def reward(self, state: ProbeState, action: Array) -> Array:
        """`first_reward` in the first step."""
        return state.signal * self.first_reward

    def step_state(self, key: Key, state: ProbeState, action: Array) -> StateStep:
        """From 1 to 0, and on with 0."""
        new = ProbeState(jnp.zeros((), jnp.float32), state.time + 1)
        reward, truncated = self.reward(state, action), new.time >= self.length
        return StateStep(new, reward, flag(), truncated, {})

    def value(self, obs: Array, gamma: float) -> Array:
        """`first_reward` at the start, then 0."""
        return obs[..., 0] * self.first_reward


class RampReward(ProbeEnv):
    """Goes round a circle of phases 0, 1, 2, 3, each of which earns its number.

    Starts at a random phase, observes it one-hot, and is truncated by its own clock after
    two steps; it never terminates. V(p) = sum over k < 4 of gamma^k ((p + k) mod 4),
    divided by 1 - gamma^4. Fails if truncated steps bootstrap from the value of the
    observation that was acted on, not from the final one.

        observation  Box(4), one-hot
        reward       from 0 to 3
    """

    phases: int = static(default=4)
    """Phases of the circle."""
    length: int = static(default=2)
    """Steps to the truncation."""

    @property
    def observation_space(self) -> Box:
        """One-hot phase."""
        return Box(0.0, 1.0, (self.phases,))

    def signal(self, key: Key) -> Array:
        """A random phase, as a float32."""
        return random.randint(key, (), self.phases).astype(jnp.float32)

    def reward(self, state: ProbeState, action: Array) -> Array:
        """The number of the phase that is left."""
        return state.signal

    def step_state(self, key: Key, state: ProbeState, action: Array) -> StateStep:
        """On to the next phase."""
        new = ProbeState((state.signal + 1.0) % self.phases, state.time + 1)
        reward, truncated = self.reward(state, action), new.time >= self.length
        return StateStep(new, reward, flag(), truncated, {})

    def observe(self, state: ProbeState) -> Array:
        """[phases] float32, one-hot."""
        return (jnp.arange(self.phases) == state.signal).astype(jnp.float32)

    def value(self, obs: Array, gamma: float) -> Array:
        """The discounted sum around the circle."""
        now, ahead = np.arange(self.phases)[:, None], np.arange(self.phases)[None, :]
        one_round = (gamma**ahead * ((now + ahead) % self.phases)).sum(axis=1)
        return obs @ jnp.asarray(one_round / (1.0 - gamma**self.phases), jnp.float32)


# --- resets -----------------------------------------------------------------------------


class ExpensiveState(Pytree):
    """State of an `ExpensiveReset`."""

    drawn: Array
    """Two words that depend on every bit of the reset's key, uint32 [2]."""
    length: Array
    """Steps of this episode, int32 []."""
    time: Array
    """Steps since the reset, int32 []."""


class ExpensiveReset(Env):
    """Episodes of random length whose reset draws and mixes in a loop; a step is trivial.

        observation  Box(3), within [0, 1]: what the reset drew, share of the episode gone
        action       Discrete(2), of no effect
        reward       1 for every step
        terminated   after 1 to `longest` steps, drawn by the reset

    The state records the reset's draws exactly, in integers, so that two runs agree bit
    for bit or have reset differently.
    """

    iterations: int = static(default=64)
    """Draws of a reset, one after another: its cost."""
    longest: int = static(default=20)
    """Steps of the longest episodes."""

    def validate(self) -> None:
        """Raise ConfigError unless both sizes are positive."""
        for name in ("iterations", "longest"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"ExpensiveReset.{name}: got {getattr(self, name)}, expected at least 1"
                )

    @property
    def observation_space(self) -> Box:
        """Three shares."""
        return Box(0.0, 1.0, (3,))

    @property
    def action_space(self) -> Discrete:
        """Two actions of no effect."""
        return Discrete(2)

    def reset_state(self, key: Key) -> ExpensiveState:
        """Words mixed from `iterations` draws, and a length."""

        def draw_and_mix(words: Array, index: Array) -> tuple[Array, None]:
            bits = jax.random.bits(jax.random.fold_in(key, index), (2,), jnp.uint32)
            return (words ^ bits) * np.uint32(0x9E3779B9) + words[::-1], None

        indices = jnp.arange(self.iterations, dtype=jnp.uint32)
        words = jax.lax.scan(draw_and_mix, jnp.zeros(2, jnp.uint32), indices)[0]
        length = random.randint(random.stream(key, "length"), (), self.longest) + 1
        return ExpensiveState(words, length, jnp.zeros((), jnp.int32))

    def step_state(self, key: Key, state: ExpensiveState, action: Array) -> StateStep:
        """One step less to go."""
        new = state.replace(time=state.time + 1)
        over = new.time >= new.length
        return StateStep(new, jnp.ones((), jnp.float32), over, flag(), {})

    def observe(self, state: ExpensiveState) -> Array:
        """[3] float32."""
        # 24 bits are exact in float32.
        drawn = (state.drawn >> 8).astype(jnp.float32) * np.float32(2.0**-24)
        gone = state.time.astype(jnp.float32) / state.length.astype(jnp.float32)
        return jnp.append(drawn, gone)

    def time(self, state: ExpensiveState) -> Array:
        """Steps since the reset, int32."""
        return state.time


def _random_sign(key: Key) -> Array:
    """-1 or 1, float32 []."""
    return (2 * random.randint(key, (), 2) - 1).astype(jnp.float32)


def _earned(env: ProbeEnv, action: Array, wanted: Array) -> Array:
    """1 for the action that has the sign of `wanted`; continuous, for half of `wanted`."""
    if env.continuous:
        return 1.0 - jnp.square(action[0] - _TARGET * wanted)
    return jnp.where((action == 1) == (wanted > 0), 1.0, -1.0).astype(jnp.float32)
