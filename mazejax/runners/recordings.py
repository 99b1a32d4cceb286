"""Files from recordings: what recording wrappers hold of the episodes that ended.

    envs = VectorEnv(ActionRecording(env, max_steps=500), 16)
    ...
    save_actions("episodes", envs, state)

Each takes the state of a `VectorEnv` and writes the last finished episode of every env
into a folder, under a name that tells the env and the number of the episode; what is there
already stays.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mazejax import base, files
from mazejax.envs.base import Env
from mazejax.envs.parameters import set_leaves
from mazejax.envs.vector import VectorEnv, VectorState
from mazejax.errors import ConfigError, EnvError
from mazejax.trajectories.episode_file import save_episode
from mazejax.types import Key, PyTree
from mazejax.wrappers.base import find, find_state
from mazejax.wrappers.record import (
    ActionRecording,
    GIFExport,
    Recorder,
    Recording,
    SpacesRecording,
)


def save_actions(folder: str | os.PathLike, envs: VectorEnv, state: VectorState) -> list[Path]:
    """Write episode files, `env00000-episode000000.episode` and so on: key and actions.

    They are those of the env within the ActionRecording, for `load_episode`. Every episode
    is played again before it is written: an EnvError says if that gives another one.
    """
    if envs.reset_params is not None:
        raise ConfigError(
            "save_actions: reset_params chose the numbers of episodes that are over, which are "
            "no longer known; use SpacesRecording"
        )
    # The keys are those of the running episodes, the recordings of those before.
    keys = envs.episode_keys(state.replace(episode=state.episode - 1))

    def write(path: Path, index: int, recording: Recording) -> None:
        env = _with_numbers_of(envs, index)
        _save_played(path, find(env, ActionRecording), keys[index], recording)

    return _save_finished(folder, envs, state, ActionRecording, ".episode", write)


def save_spaces(folder: str | os.PathLike, envs: VectorEnv, state: VectorState) -> list[Path]:
    """Write `env00000-episode000000.npz` and so on: what policies and learners saw.

    Arrays [T, ...] are named by sub-step: `0/obs`, or `0/obs/NAME` of a Dict, `0/action`,
    `0/reward`, `0/active`; `0/final_obs` is what that actor would see of the last state;
    `terminated`, `truncated` and `step_keys`, one name for each sub-step.
    """
    step_keys = np.array([actor.step_key for actor in envs.actors])

    def write(path: Path, index: int, recording: Recording) -> None:
        arrays = {"step_keys": step_keys}
        for substep, row in enumerate(recording.rows):
            parts = {name: getattr(row, name) for name in ("obs", "action", "reward", "active")}
            arrays |= _named({**parts, "final_obs": recording.last[substep]}, str(substep))
        arrays |= {n: getattr(recording.ending, n) for n in ("terminated", "truncated")}
        files.write_npz(path, arrays)

    return _save_finished(folder, envs, state, SpacesRecording, ".npz", write)


def save_gifs(
    folder: str | os.PathLike,
    envs: VectorEnv,
    state: VectorState,
    fps: float = 30,
    width: int = 480,
) -> list[Path]:
    """Write `env00000-episode000000.gif` and so on, one frame for every flat step and the end."""
    from mazejax.rendering.frames import write_gif
    from mazejax.rendering.rasterizer import rasterize

    def write(path: Path, index: int, recording: Recording) -> None:
        env = _with_numbers_of(envs, index).unwrapped
        num_steps = int(recording.ending.length)
        states = [_row(recording.rows[0], t) for t in range(num_steps)] + [recording.last]
        scenes = (env.draw(env.from_maze_state(s, t)) for t, s in enumerate(states))
        write_gif(path, (rasterize(scene, width) for scene in scenes), fps)

    return _save_finished(folder, envs, state, GIFExport, ".gif", write)


def _save_finished(
    folder: str | os.PathLike,
    envs: VectorEnv,
    state: VectorState,
    kind: type[Recorder],
    ending: str,
    write: Callable[[Path, int, Recording], None],
) -> list[Path]:
    """Files of the episodes that a recorder of this kind has finished, one for each env."""
    files.make_folder(folder)
    paths = []
    for index, number, recording in _finished(envs, state, kind):
        path = files.child(folder, f"env{index:05d}-episode{number:06d}{ending}")
        paths.append(path)
        if not path.exists():
            write(path, index, recording)
    return paths


def _finished(
    envs: VectorEnv, state: VectorState, kind: type[Recorder]
) -> Iterator[tuple[int, int, Recording]]:
    """(env, number of the episode, its recording up to its length) on the host."""
    recorder = find(envs.env, kind)
    tapes = find_state(envs.env, kind, state.envs)
    numbers = np.asarray(state.episode)
    recordings = jax.device_get(jax.jit(jax.vmap(recorder.finished))(tapes))
    for index in range(envs.num_envs):
        recording = _row(recordings, index)
        length = int(recording.ending.length)
        if length > recorder.max_steps:
            raise ConfigError(
                f"{kind.__name__}.max_steps: an episode has {length} flat steps, of which "
                f"{recorder.max_steps} were kept; raise it"
            )
        if length:
            rows = jax.tree.map(lambda leaf, length=length: leaf[:length], recording.rows)
            yield index, int(numbers[index]) - 1, recording.replace(rows=rows)


def _save_played(path: Path, recorder: ActionRecording, key: Key, recording: Recording) -> None:
    """Write the episode that the recorded actions make of the wrapped env."""
    episode = _replay(recorder.env, key, recording.rows)
    told = recording.ending
    same = int(episode.length) == int(told.length) and np.allclose(
        episode.episode_return, told.episode_return, rtol=1e-3, atol=1e-3
    )
    if not same:
        raise EnvError(
            f"{recorder}: recorded {int(told.length)} flat steps with return "
            f"{float(told.episode_return):g}, which play again as {int(episode.length)} with "
            f"{float(episode.episode_return):g}; put ActionRecording around all wrappers that draw "
            f"or skip steps, and within those that remember other episodes"
        )
    save_episode(path, episode, recorder.env)


@base.jit
def _replay(env: Env, key: Key, actions: tuple[PyTree, ...]) -> Any:
    return env.replay(key, actions)


def _with_numbers_of(envs: VectorEnv, index: int) -> Env:
    """The env with the numbers that it has in this place."""
    numbers = {name: np.asarray(values)[index] for name, values in (envs.batched or {}).items()}
    return set_leaves(envs.env, numbers)


def _row(tree: PyTree, index: int) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[index], tree)


def _named(tree: PyTree, prefix: str) -> dict[str, np.ndarray]:
    """The arrays of a tree of dicts, by path."""
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return {
        f"{prefix}/{jax.tree_util.keystr(path, simple=True, separator='/')}": np.asarray(leaf)
        for path, leaf in paths
    }
