"""Episode files: a key and the actions, from which a whole episode is simulated again.

All that an env draws follows from the episode's key, so a file of some hundred bytes
holds everything. It also says what the env was and what came out, so that an env that
plays the actions otherwise is found out, and what differs is named.
"""

import hashlib
import os
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mazejax import base, files, random
from mazejax.envs.base import Env
from mazejax.envs.episode import Episode
from mazejax.envs.structured import agent_axis
from mazejax.errors import ConfigError, EnvError, FileError, SpaceError
from mazejax.spaces.shapes import check_shapes
from mazejax.trajectories import identity
from mazejax.types import Array, Key, PyTree

FORMAT = "mazejax episode"

VERSION = 1
"""Of the format; raised when older versions could no longer read new files."""

MAX_EPISODE_BYTES = 64 * 2**20
"""Largest file that is written or read."""

_INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32")


class EpisodeRecord(NamedTuple):
    """Content of an episode file."""

    key: Key
    """Key of the episode."""
    actions: tuple[PyTree, ...]
    """NumPy arrays [T, ...] by sub-step of the schedule: what `env.replay` takes."""
    header: dict[str, Any]
    """What the file says of itself, of the env and of what came out; plain JSON."""


def save_episode(path: str | os.PathLike, episode: Episode, env: Env) -> None:
    """Write one episode of this env, up to its end, whole or not at all.

    What the file vouches for is the replay of its actions, whose floats may differ from
    those of another program in the last bits. An EnvError says if it does not agree with
    the episode in length, ending and rewards: then another env played it.
    """
    length = _length(episode)
    actions = jax.tree.map(lambda leaf: np.asarray(leaf)[:length], episode.actions)
    again = _replay(env, episode.key, actions)
    _check_agreement(env, episode, again)
    skeleton = jax.tree.map(lambda leaf: leaf.dtype.name, actions)
    header = {
        "format": FORMAT,
        "version": VERSION,
        "key": {
            "impl": random.impl_name(episode.key),
            "words": jax.random.key_data(episode.key).tolist(),
        },
        "actions": list(skeleton),
        **_outcome(again),
        **identity.describe(env),
        "written_by": identity.written_by(),
        "replay_sha256": _digest(env, again),
    }
    leaves = [_smallest(leaf) for leaf in jax.tree.leaves(actions)]
    files.write_bytes(path, _encoded(header, leaves, path))


def load_episode(
    path: str | os.PathLike, env: Env, check: Literal["bits", "outcome"] = "bits"
) -> Episode:
    """The episode of a file, simulated again on this env.

    `bits` wants rewards and final state to the bit as when it was saved; `outcome` only
    the same length and ending and nearly the same return, for files of another machine.
    Raises a FileError that names the first difference.
    """
    if check not in ("bits", "outcome"):
        raise ConfigError(f"check: must be 'bits' or 'outcome', got {check!r}")
    key, actions, header = read_episode(path)
    _check_fit(path, header, actions, env)
    episode = _replay(env, key, actions)
    outcome = _outcome(episode)
    if check == "outcome":
        same = _nearly_the_same(header, outcome)
    else:
        same = _digest(env, episode) == header["replay_sha256"]
    if not same:
        difference = identity.first_difference(header, env) or _other_outcome(header, outcome)
        raise FileError(f"{path}: {difference}")
    return episode


def read_episode(path: str | os.PathLike) -> EpisodeRecord:
    """The content of an episode file as it is, not yet replayed; nothing in it is ever run."""
    header, leaves = _decoded(path)
    try:
        skeleton = tuple(header["actions"])
        dtypes, structure = jax.tree.flatten(skeleton)
        pairs = zip(leaves, dtypes, strict=True)
        actions = structure.unflatten([_widened(leaf, dtype) for leaf, dtype in pairs])
        words = np.array(header["key"]["words"], np.uint32)
        key = random.wrap_words(jnp.asarray(words), header["key"]["impl"])
        length, digest = header["length"], header["replay_sha256"]
        whole = length > 0 and {len(leaf) for leaf in leaves} == {length} and key.shape == ()
        whole &= isinstance(digest, str) and _nearly_the_same(header, header)
    except (KeyError, TypeError, ValueError, OverflowError, ConfigError) as error:
        raise FileError(f"{path}: malformed header ({error!r}); restore the file") from error
    if not whole:
        raise FileError(f"{path}: header does not fit the actions beside it; restore the file")
    return EpisodeRecord(key, actions, header)


# --- replaying ------------------------------------------------------------------------


def _replay(env: Env, key: Key, actions: tuple[PyTree, ...]) -> Episode:
    """The episode of actions [T, ...] of NumPy, by a program that serves many lengths T."""
    length = len(jax.tree.leaves(actions)[0])
    num_padded = (1 << length.bit_length()) - length  # at least one more than there are

    def padded(leaf: np.ndarray) -> np.ndarray:
        return np.concatenate([leaf, np.repeat(leaf[-1:], num_padded, axis=0)])

    episode = _replay_first(env, key, jax.tree.map(padded, actions), jnp.int32(length))
    cut = jax.tree.map(lambda leaf: jnp.asarray(jax.device_get(leaf)[:length]), episode.substeps)
    return episode.replace(substeps=cut)


@base.jit
def _replay_first(env: Env, key: Key, actions: tuple[PyTree, ...], length: Array) -> Episode:
    """The episode of the first `length` of more actions; its sub-steps are those of all."""
    whole = env.replay(key, actions)
    ended, first = whole.length <= length, whole.substeps[0]

    def then(last: Array, before: Array) -> Array:
        return jnp.where(ended, last, before[length])

    return whole.replace(
        length=jnp.minimum(whole.length, length),
        terminated=whole.terminated & ended,
        truncated=whole.truncated & ended,
        final_state=jax.tree.map(then, whole.final_state, first.state),
        final_obs=jax.tree.map(then, whole.final_obs, first.obs),
    )


def _outcome(episode: Episode) -> dict[str, Any]:
    return {
        "length": int(episode.length),
        "terminated": bool(episode.terminated),
        "truncated": bool(episode.truncated),
        "episode_return": repr(float(episode.episode_return)),  # text: it may be nan
    }


def _nearly_the_same(header: dict[str, Any], outcome: dict[str, Any]) -> bool:
    one, other = (float(found["episode_return"]) for found in (header, outcome))
    names = ("length", "terminated", "truncated")
    return _near(one, other) and all(header[name] == outcome[name] for name in names)


def _near(one: Any, other: Any) -> bool:
    return np.allclose(one, other, rtol=1e-3, atol=1e-3, equal_nan=True)


def _digest(env: Env, episode: Episode) -> str:
    """sha256 of rewards, ending and the problem's final state, down to the bits."""
    bits = hashlib.sha256()
    rewards = [substep.reward for substep in episode.substeps]
    ending = (episode.length, episode.terminated, episode.truncated)
    told = (rewards, ending, env.maze_state(episode.final_state))
    for path, leaf in jax.tree_util.tree_leaves_with_path(told):
        array = identity.bits_of(leaf)
        bits.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
        bits.update(array.tobytes())
    return bits.hexdigest()


def _length(episode: Episode) -> int:
    if not isinstance(episode, Episode) or not base.is_concrete(episode):
        raise ConfigError(
            f"save_episode: expected an Episode outside jit, got {type(episode).__name__}"
        )
    if np.shape(episode.length) != ():
        raise ConfigError(
            f"save_episode: got {np.shape(episode.length)} episodes, expected one; take one with "
            f"jax.tree.map(lambda leaf: leaf[i], episodes)"
        )
    if int(episode.length) < 1:
        raise ConfigError("save_episode: the episode has no steps; play some")
    return int(episode.length)


def _check_agreement(env: Env, episode: Episode, again: Episode) -> None:
    before, after = _outcome(episode), _outcome(again)
    same = _nearly_the_same(before, after)
    for mine, theirs in zip(episode.substeps, again.substeps, strict=True):
        rewards = np.asarray(mine.reward)[: before["length"]]
        same = same and _near(rewards, theirs.reward)
    if not same:
        raise EnvError(
            f"{env}: plays the episode's actions otherwise ({_told(before)}; again: "
            f"{_told(after)}); give the env that played it, with the same numbers, or save what "
            f"env.replay makes of them if chaos let last bits grow"
        )


def _told(outcome: dict[str, Any]) -> str:
    flags = [name for name in ("terminated", "truncated") if outcome[name]] or ["not ended"]
    steps, episode_return = outcome["length"], outcome["episode_return"]
    return f"{steps} flat steps, {' and '.join(flags)}, return {episode_return}"


# --- what differs ---------------------------------------------------------------------


def _other_outcome(header: dict[str, Any], outcome: dict[str, Any]) -> str:
    recorded = {name: header[name] for name in outcome}
    if recorded != outcome:
        what = f"replays otherwise: {_told(recorded)} became {_told(outcome)}"
        advice = "read_episode gives the actions as they are"
    else:
        what = "does not replay bit for bit: rewards or final state differ"
        advice = "check='outcome' forgives that"
    written_by, here = header.get("written_by"), identity.written_by()
    where = "" if written_by == here else f" (recorded with {written_by}, this is {here})"
    return f"{what}{where}; {advice}"


def _check_fit(
    path: str | os.PathLike, header: dict[str, Any], actions: tuple[PyTree, ...], env: Env
) -> None:
    """Raise a FileError unless the actions are of the shapes that the env takes."""
    if not identity.same_actions(header, env):
        raise FileError(f"{path}: {identity.first_difference(header, env)}")
    try:
        for actor, action in zip(env.actors, actions, strict=True):
            shape = (header["length"], *agent_axis(actor, env.agent_counts))
            check_shapes(env.action_spaces[actor.step_key], action, "action", shape)
    except (SpaceError, ValueError) as error:
        raise FileError(f"{path}: {error}; restore the file") from error


# --- bytes ----------------------------------------------------------------------------


def _smallest(array: np.ndarray) -> np.ndarray:
    """The array in the smallest integer dtype that holds its values; floats as they are."""
    if array.dtype.kind not in "iu":
        return array
    low, high = int(array.min()), int(array.max())
    for dtype in _INTEGERS:
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return array.astype(dtype)
    return array


def _widened(array: np.ndarray, dtype: str) -> np.ndarray:
    if np.dtype(dtype).kind not in "biuf" or array.ndim < 1:
        raise ValueError(f"an action of shape {array.shape} and dtype {dtype}")
    return array.astype(dtype)


def _encoded(header: dict[str, Any], leaves: list[np.ndarray], path: str | os.PathLike) -> bytes:
    """One safetensors file: the header as JSON, and the actions' leaves by their number."""
    from safetensors import SafetensorError
    from safetensors.numpy import save

    text = files.json_bytes({**header, "sha256": _content_digest(header, leaves)}, str(path))
    tensors = {str(i): np.ascontiguousarray(leaf) for i, leaf in enumerate(leaves)}
    try:
        data = save({"header": np.frombuffer(text, np.uint8), **tensors})
    except (SafetensorError, KeyError) as error:
        raise ConfigError(f"{path}: {error!r}; convert the actions first") from error
    if len(data) > MAX_EPISODE_BYTES:
        raise FileError(
            f"{path}: has {len(data)} bytes, mazejax.trajectories.episode_file.MAX_EPISODE_BYTES "
            f"allows {MAX_EPISODE_BYTES}; raise it if that is meant"
        )
    return data


def _decoded(path: str | os.PathLike) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Header and leaves of a file that is whole and of this format."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    cap = "mazejax.trajectories.episode_file.MAX_EPISODE_BYTES"
    data = files.read_bytes(path, MAX_EPISODE_BYTES, cap)
    try:
        tensors = load(data)
        text = tensors.pop("header").tobytes()
        leaves = [tensors[str(i)] for i in range(len(tensors))]
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise FileError(
            f"{path}: is damaged or no episode file ({error!r}); give one of save_episode"
        ) from error
    header = files.parse_json(text, path)
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise FileError(f"{path}: is no episode file; give one of save_episode")
    if header.get("version") != VERSION:
        raise FileError(
            f"{path}: format version {header.get('version')!r}, this mazejax reads {VERSION}; "
            f"use the mazejax that wrote it ({header.get('written_by')})"
        )
    if header.pop("sha256", None) != _content_digest(header, leaves):
        raise FileError(f"{path}: sha256: does not fit the content; the file is damaged")
    return header, leaves


def _content_digest(header: dict[str, Any], leaves: list[np.ndarray]) -> str:
    content = hashlib.sha256(files.json_bytes(header, "header"))
    for leaf in leaves:
        content.update(f"{leaf.dtype} {leaf.shape}\n".encode() + leaf.tobytes())
    return content.hexdigest()
