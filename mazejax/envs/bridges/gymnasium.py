"""Vector environments of Gymnasium, stepped on the host.

`HostVectorEnv` mends at the border what differs from ours: dtypes and plain dicts, float32
rewards, final observations as one array. Only autoreset in the same step is taken, since
then every step that an env makes is one that a policy chose. Neither this module nor its
envs import jax; policies and learning are `mazejax.runners.host`'s.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from mazejax.errors import ConfigError, EnvError, did_you_mean
from mazejax.spaces import convert
from mazejax.spaces.base import Space
from mazejax.spaces.composite import Dict
from mazejax.spaces.shapes import check_shapes

if TYPE_CHECKING:
    import gymnasium

    from mazejax.envs.bridges.host_spec import HostEnvSpec
    from mazejax.types import PyTree


class HostStep(NamedTuple):
    """What one step of all envs returns: NumPy arrays [N, ...]."""

    obs: "PyTree"
    """After the reset where an episode ended, in the dtypes of the space."""
    reward: np.ndarray
    """float32."""
    terminated: np.ndarray
    """bool: the task ended."""
    truncated: np.ndarray
    """bool: the clock ended the episode; both flags may be true at once."""
    final_obs: "PyTree"
    """Before the reset where an episode ended; elsewhere `obs`."""
    info: dict[str, Any]
    """Gymnasium's, as it came."""


class HostVectorEnv:
    """Gymnasium envs stepped together, each reset in the step in which its episode ends.

        with HostVectorEnv.make("CartPole-v1", num_envs=16) as envs:
            algorithm = mazejax.PPO(envs.spec, num_envs=16)
            state, metrics = mazejax.runners.train_on_host(algorithm, envs)

    `make` builds them by name; a `gymnasium.vector.VectorEnv` that was made with
    `AutoresetMode.SAME_STEP` is wrapped by the constructor. Leaving the context closes them.
    """

    def __init__(self, envs: "gymnasium.vector.VectorEnv") -> None:
        _check_vector_env(envs)
        self.envs = envs
        """Gymnasium's vector env."""
        self.num_envs = int(envs.num_envs)
        """N."""
        self.observation_space = convert.from_gymnasium(
            envs.single_observation_space, "observation_space"
        )
        """Of a single env, ours."""
        self.action_space = convert.from_gymnasium(envs.single_action_space, "action_space")
        """Of a single env, ours."""

    @classmethod
    def make(
        cls,
        env_id: str,
        num_envs: int,
        vectorization_mode: str = "sync",
        vector_kwargs: dict[str, Any] | None = None,
        **options: Any,
    ) -> Self:
        """The registered Gymnasium env, N times.

        `sync` steps one after the other, `async` each in a process of its own, which is
        started anew and not forked: guard the program with `if __name__ == "__main__"`.
        Processes leave Ctrl-C to the program. `vector_entry_point` takes the env's own
        vectorization, if that resets in the same step. `vector_kwargs` and the options are
        those of `gymnasium.make_vec`.
        """
        import gymnasium

        same_step = {"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}
        by_mode: dict[str, dict[str, Any]] = {
            "sync": same_step,
            "async": {**same_step, "context": "spawn"},  # a fork of JAX's threads may hang
            "vector_entry_point": {},  # Gymnasium refuses kwargs for other classes than its own
        }
        if vectorization_mode not in by_mode:
            hint = did_you_mean(str(vectorization_mode), by_mode)
            raise ConfigError(f"vectorization_mode: unknown {vectorization_mode!r}; {hint}")
        own = {**by_mode[vectorization_mode], **(vector_kwargs or {})}
        try:
            with _deaf_to_interrupts(vectorization_mode == "async"):
                envs = gymnasium.make_vec(
                    env_id, num_envs, vectorization_mode, vector_kwargs=own, **options
                )
        except gymnasium.error.Error as error:
            reason = str(error).partition("\n")[0]
            raise ConfigError(f"HostVectorEnv.make({env_id!r}): {reason}") from error
        try:
            return cls(envs)
        except Exception:
            envs.close()
            raise

    @property
    def spec(self) -> "HostEnvSpec":
        """Name and spaces as the `Env` that algorithms take; this imports jax."""
        from mazejax.envs.bridges.host_spec import HostEnvSpec

        return HostEnvSpec(self.name, (self.observation_space, self.action_space))

    @property
    def name(self) -> str:
        """Gymnasium's name of the env, else that of its class."""
        known = self.envs.spec
        return type(self.envs.unwrapped).__name__ if known is None else known.id

    def reset(self, seed: int | None = None) -> "PyTree":
        """First observations [N, ...] of all envs; Gymnasium spreads the seed over them."""
        obs, _ = self.envs.reset(seed=seed)
        check_shapes(self.observation_space, obs, f"{self.name}: obs", (self.num_envs,))
        return _from_gymnasium(self.observation_space, obs)

    def step(self, action: "PyTree") -> HostStep:
        """One step of every env by actions [N, ...] of our dtypes.

        Floats are clipped to the bounds of the env. The arrays of a step are to be used
        before the next one if the envs were made with `copy=False`.
        """
        check_shapes(self.action_space, action, "action", (self.num_envs,))
        theirs = _to_gymnasium(self.action_space, self.envs.single_action_space, action)
        obs, reward, terminated, truncated, info = self.envs.step(theirs)
        obs = _from_gymnasium(self.observation_space, obs)
        terminated, truncated = np.asarray(terminated, bool), np.asarray(truncated, bool)
        final_obs = self._final_obs(obs, terminated | truncated, info)
        reward = np.asarray(reward, np.float32)
        return HostStep(obs, reward, terminated, truncated, final_obs, info)

    def close(self) -> None:
        """Close the envs and end their processes; closing twice is harmless."""
        self.envs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"HostVectorEnv({self.envs!r})"

    def _final_obs(self, obs: "PyTree", ended: np.ndarray, info: dict[str, Any]) -> "PyTree":
        if not ended.any():
            return obs
        given = info.get("final_obs")
        if given is None:
            raise EnvError(
                f"{self.name}: an episode ended, but info has no 'final_obs'; a vector env of "
                f"AutoresetMode.SAME_STEP gives there the observation before the reset"
            )
        rows = np.flatnonzero(ended)
        return _with_rows(self.observation_space, obs, rows, [given[row] for row in rows])


def _check_vector_env(envs: Any) -> None:
    """Raise unless these are vector envs that reset in the step in which an episode ends."""
    import gymnasium

    if not isinstance(envs, gymnasium.vector.VectorEnv):
        raise ConfigError(
            f"HostVectorEnv: got {envs!r}, expected a gymnasium.vector.VectorEnv; "
            f"make one by name with HostVectorEnv.make('CartPole-v1', num_envs=16)"
        )
    # The attribute goes first: vector envs of one class write their modes into the same
    # dict, the metadata of that class, where the one that was made last wins.
    unknown = envs.metadata.get("autoreset_mode", "unknown")
    mode = getattr(envs.unwrapped, "autoreset_mode", unknown)
    wanted = gymnasium.vector.AutoresetMode.SAME_STEP
    if mode not in (wanted, wanted.value):
        raise EnvError(
            f"{envs!r}: got autoreset mode {getattr(mode, 'value', mode)}, expected SameStep; "
            f"use HostVectorEnv.make(..., vectorization_mode='sync'), or give gymnasium.make_vec "
            f"vectorization_mode='sync' and vector_kwargs={{'autoreset_mode': 'SameStep'}}"
        )


@contextlib.contextmanager
def _deaf_to_interrupts(wanted: bool) -> Iterator[None]:
    """Where processes are started that shall live on after Ctrl-C: they inherit the deafness.

    Otherwise they end before the program that trains has finished its update.
    """
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)


def _from_gymnasium(space: Space, value: Any) -> "PyTree":
    """The value [N, ...] as plain dicts of arrays in our dtypes; shares memory where it can."""
    if isinstance(space, Dict):
        return {key: _from_gymnasium(part, value[key]) for key, part in space.items()}
    return np.asarray(value, space.dtype)


def _to_gymnasium(space: Space, theirs: Any, value: Any) -> Any:
    """The value [N, ...] in Gymnasium's dtypes."""
    if isinstance(space, Dict):
        return {key: _to_gymnasium(part, theirs[key], value[key]) for key, part in space.items()}
    value = np.asarray(value).astype(theirs.dtype)
    # A float32 that was clipped to a bound in float32 may lie beyond the bound in float64.
    return np.clip(value, theirs.low, theirs.high) if theirs.dtype.kind == "f" else value


def _with_rows(space: Space, obs: "PyTree", rows: np.ndarray, values: list[Any]) -> "PyTree":
    """A copy of the observations [N, ...] in which these rows have these values."""
    if isinstance(space, Dict):
        return {
            key: _with_rows(part, obs[key], rows, [value[key] for value in values])
            for key, part in space.items()
        }
    changed = np.array(obs)
    for row, value in zip(rows, values, strict=True):
        changed[row] = value
    return changed
