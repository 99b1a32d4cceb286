"""Episode files: what is loaded is what was saved, or an error says what differs."""

import errno
import functools
import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load, save

import mazejax
from mazejax import files, random
from mazejax.envs import episode
from mazejax.envs.conversion import ActionConversion
from mazejax.errors import ConfigError, EnvError, FileError, SpaceError
from mazejax.spaces import Box, Dict, Discrete
from mazejax.trajectories import episode_file, load_episode, read_episode, save_episode
from mazejax.wrappers.base import Wrapper
from tests.envs.convoy import CONVOY
from tests.envs.test_episode import assert_same

T = 40


class Traces(list):
    """A list that may stand in a static field."""

    __hash__ = object.__hash__


class BothWays(ActionConversion):
    """A Dict action: a direction, and a force in newtons."""

    def space(self):
        return Dict({"right": Discrete(2, start=-300), "force": Box(0.0, 10.0, (1,))})

    def space_to_maze(self, action, state, agent):
        return jnp.where(action["right"] == -299, action["force"][0], -action["force"][0])


CARTPOLE = mazejax.make("CartPole-v1")
ENVS = {
    "cartpole": CARTPOLE,
    "pendulum": mazejax.make("Pendulum-v1"),
    "convoy": CONVOY,
    "dict": CARTPOLE.replace(env=CARTPOLE.env.replace(action_conversion=BothWays())),
}


@functools.cache
def played(name, num_steps=T, seed=0):
    env = ENVS[name]
    policy = episode.random_policy(env)
    return jax.jit(lambda key: episode.play(env, policy, key, num_steps))(random.key(seed))


@pytest.fixture
def path(tmp_path):
    """Of a saved episode of CartPole that has ended."""
    path = tmp_path / "one.episode"
    save_episode(path, played("cartpole"), CARTPOLE)
    return path


def cut(one):
    """The episode without what comes after its end."""
    substeps = jax.tree.map(lambda leaf: leaf[: int(one.length)], one.substeps)
    return one.replace(substeps=substeps)


def rewritten(path, sign=True, **changes):
    """The file with other entries in its header, `None` for none, with a digest that fits."""
    tensors = load(path.read_bytes())
    header = json.loads(tensors.pop("header").tobytes()) | changes
    header = {name: value for name, value in header.items() if value is not None}
    leaves = [tensors[str(i)] for i in range(len(tensors))]
    if sign:
        header.pop("sha256", None)
        header["sha256"] = episode_file._content_digest(header, leaves)
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    path.write_bytes(save({"header": text, **tensors}))


# --- round trips ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ENVS)
def test_what_is_loaded_is_what_was_saved(tmp_path, name):
    env, one = ENVS[name], played(name)
    save_episode(tmp_path / "a", one, env)
    loaded = load_episode(tmp_path / "a", env)
    assert_same(loaded, cut(one), rtol=1e-5, atol=1e-5)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(loaded))
    again = load_episode(tmp_path / "a", env)
    assert_same(again, loaded)
    save_episode(tmp_path / "b", loaded, env)  # what was loaded may be saved again
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_an_exact_env_is_loaded_to_the_bit(tmp_path):
    save_episode(tmp_path / "a", played("convoy"), CONVOY)
    assert_same(load_episode(tmp_path / "a", CONVOY), cut(played("convoy")))


@pytest.mark.parametrize("num_steps", [1, 3, 4])
def test_an_episode_that_was_not_over_is_not_over_when_it_is_loaded(tmp_path, num_steps):
    one, longer = played("cartpole", num_steps), played("cartpole")
    save_episode(tmp_path / "a", one, CARTPOLE)
    loaded = load_episode(tmp_path / "a", CARTPOLE)
    assert int(loaded.length) == num_steps < int(longer.length)
    assert not loaded.terminated and not loaded.truncated
    assert_same(loaded, one, rtol=1e-5, atol=1e-5)


class Traced(Wrapper):
    """Counts how often its step is traced."""

    traces: list = mazejax.static(default=Traces())

    def step_state(self, key, state, action):
        self.traces.append(1)
        return self.env.step_state(key, state, action)


def test_lengths_up_to_the_next_power_of_two_share_one_program(tmp_path):
    env, counts = Traced(CARTPOLE), []
    for num_steps in (4, 5, 7):
        save_episode(tmp_path / "a", played("cartpole", num_steps), env)
        assert int(load_episode(tmp_path / "a", env).length) == num_steps
        counts.append(len(env.traces))
    assert counts[0] == counts[1] == counts[2] > 0


def test_records_hold_key_actions_and_what_came_out(path):
    one = played("cartpole")
    key, actions, header = read_episode(path)
    assert random.impl_name(key) == "counter" and key == one.key
    np.testing.assert_array_equal(actions[0], one.actions[0][: int(one.length)])
    assert actions[0].dtype == np.int32
    assert header["env"] == "TimeLimit<CartPole>" and header["length"] == int(one.length)
    assert header["terminated"] is True and header["truncated"] is False
    assert float(header["episode_return"]) == float(one.episode_return)
    assert header["numbers"]["env.core_env.gravity"] == "9.8"
    assert header["numbers"]["max_steps"] == "500"
    assert int(jax.jit(CARTPOLE.replay)(key, actions).length) == int(one.length)


def test_dict_actions_keep_names_values_and_dtypes(tmp_path):
    one = played("dict")
    save_episode(tmp_path / "a", one, ENVS["dict"])
    action = read_episode(tmp_path / "a").actions[0]
    assert_same(action, jax.device_get(cut(one).actions[0]))
    assert set(np.unique(action["right"])) == {-300, -299}


def test_a_file_is_a_header_and_one_byte_for_an_action(tmp_path):
    def balance(key, obs, maze_state, actor):
        return (obs[2] + 0.4 * obs[3] + 0.05 * obs[1] + 0.01 * obs[0] > 0).astype(jnp.int32)

    one = jax.jit(lambda key: episode.play(CARTPOLE, balance, key, 500))(random.key(3))
    assert int(one.length) == 500 and one.truncated
    save_episode(tmp_path / "a", one, CARTPOLE)
    assert os.path.getsize(tmp_path / "a") < 2048
    assert load((tmp_path / "a").read_bytes())["0"].dtype == np.uint8
    assert float(load_episode(tmp_path / "a", CARTPOLE).episode_return) == 500.0


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([0, 255], "uint8"),
        ([-1, 127], "int8"),
        ([-1, 200], "int16"),
        ([0, 256], "uint16"),
        ([-1, 2**16], "int32"),
        ([0, 2**32 - 1], "uint32"),
        ([0, 2**40], "int64"),
    ],
)
def test_integers_are_kept_in_the_smallest_dtype_that_holds_them(values, dtype):
    kept = episode_file._smallest(np.array(values))
    assert kept.dtype == dtype and kept.tolist() == values


# --- what is not saved ----------------------------------------------------------------


def test_a_failed_write_leaves_the_older_file_and_no_draft(path, monkeypatch):
    before = path.read_bytes()

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(FileError, match=r"one\.episode: cannot write: the disk is full"):
            save_episode(path, played("cartpole", 4), CARTPOLE)
    assert path.read_bytes() == before and os.listdir(path.parent) == ["one.episode"]


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (
            lambda: mazejax.make("CartPole-v1", force=30.0),
            "^TimeLimit<CartPole>: plays the episode",
        ),
        (lambda: mazejax.make("CartPole-v1", max_steps=5), r"5 flat steps, truncated, return 5\.0"),
    ],
)
def test_an_env_that_plays_the_actions_otherwise_is_refused_before_writing(tmp_path, env, message):
    with pytest.raises(EnvError, match=message):
        save_episode(tmp_path / "a", played("cartpole"), env())
    assert not os.listdir(tmp_path)


def test_an_env_of_other_actions_or_rewards_is_refused_before_writing(tmp_path):
    with pytest.raises(SpaceError, match="action: got shape"):
        save_episode(tmp_path / "a", played("cartpole"), ENVS["pendulum"])
    with pytest.raises(EnvError, match="got actions of 1 sub-steps, expected 3"):
        save_episode(tmp_path / "a", played("cartpole"), CONVOY)
    with pytest.raises(EnvError, match="plays the episode's actions otherwise"):
        save_episode(tmp_path / "a", played("pendulum"), mazejax.make("Pendulum-v1", gravity=3.0))
    assert not os.listdir(tmp_path)


def test_only_one_episode_with_steps_is_saved(tmp_path):
    one = played("cartpole")
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), one)
    with pytest.raises(ConfigError, match=r"got \(2,\) episodes, expected one; take one with"):
        save_episode(tmp_path / "a", batch, CARTPOLE)
    with pytest.raises(ConfigError, match="has no steps"):
        save_episode(tmp_path / "a", one.replace(length=jnp.int32(0)), CARTPOLE)
    with pytest.raises(ConfigError, match="expected an Episode outside jit, got TimeLimit"):
        save_episode(tmp_path / "a", CARTPOLE, one)
    with pytest.raises(ConfigError, match="outside jit"):
        jax.jit(lambda e: save_episode(tmp_path / "a", e, CARTPOLE))(one)


def test_sizes_are_capped_when_writing_and_reading(path, monkeypatch):
    monkeypatch.setattr(episode_file, "MAX_EPISODE_BYTES", 1000)
    with pytest.raises(FileError, match=r"episode_file\.MAX_EPISODE_BYTES allows 1000"):
        save_episode(path, played("cartpole"), CARTPOLE)
    with pytest.raises(FileError, match=r"episode_file\.MAX_EPISODE_BYTES allows 1000"):
        load_episode(path, CARTPOLE)


# --- another env, another mazejax -----------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gravity": 3.0}, r"env\.core_env\.gravity: recorded with 9\.8, got 3\.0; make the env"),
        ({"force": 30.0}, r"env\.action_conversion\.force: recorded with 10\.0, got 30\.0"),
        ({"max_steps": 5}, r"max_steps: recorded with 500, got 5"),
        ({"max_steps": np.int32(5)}, r"max_steps: recorded with 500, got int32 5"),
    ],
)
def test_the_number_in_which_an_env_differs_is_named(path, changes, message):
    with pytest.raises(FileError, match=f"one.episode: {message}"):
        load_episode(path, mazejax.make("CartPole-v1", **changes))


def test_a_number_that_changes_nothing_is_no_hindrance(path):
    env = mazejax.make("CartPole-v1", max_steps=499)
    assert_same(load_episode(path, env), load_episode(path, CARTPOLE))


@pytest.mark.parametrize("name", ["pendulum", "convoy", "dict"])
def test_another_env_is_named(path, name):
    wanted = {
        "pendulum": r"env: recorded with TimeLimit<CartPole>, got TimeLimit<Pendulum>; load it",
        "convoy": r"env: recorded with TimeLimit<CartPole>, got TimeLimit<Convoy>",
        "dict": r"action_spaces: recorded with \{'0': 'Discrete\(2\)'\}, got \{'0': \"?'?Dict",
    }
    with pytest.raises(FileError, match=f"one.episode: {wanted[name]}"):
        load_episode(path, ENVS[name])


def test_another_version_of_the_random_bits_is_named(path):
    rewritten(path, random_version=0, replay_sha256="0" * 64)
    with pytest.raises(FileError, match=r"mazejax\.random\.VERSION: recorded with 0, got 1; use"):
        load_episode(path, CARTPOLE)


def test_what_replays_otherwise_for_no_known_reason_says_where_it_was_written(path):
    rewritten(path, replay_sha256="0" * 64)
    with pytest.raises(FileError, match="does not replay bit for bit: rewards or final state diff"):
        load_episode(path, CARTPOLE)
    loaded = load_episode(path, CARTPOLE, check="outcome")
    assert int(loaded.length) == int(played("cartpole").length)
    rewritten(path, written_by={"device": "abacus"})
    with pytest.raises(FileError, match=r"\(recorded with \{'device': 'abacus'\}, this is \{'maz"):
        load_episode(path, CARTPOLE)


def test_another_outcome_is_told_in_words(path):
    rewritten(path, episode_return="99.0")
    loaded = load_episode(path, CARTPOLE)  # the digest vouches for the bits
    assert float(loaded.episode_return) == loaded.length
    with pytest.raises(FileError, match=r"replays otherwise: .* terminated, return 99\.0 became"):
        load_episode(path, CARTPOLE, check="outcome")
    with pytest.raises(ConfigError, match="check: must be 'bits' or 'outcome', got 'none'"):
        load_episode(path, CARTPOLE, check="none")


# --- damage ---------------------------------------------------------------------------


def load_or_refuse(path, original):
    """Whether the damage was seen; what is loaded in spite of it is the very same."""
    try:
        key, actions, header = read_episode(path)
    except FileError as error:
        assert "one.episode" in str(error) and "\n" not in str(error)
        return True
    assert key == original.key and header == original.header
    np.testing.assert_array_equal(actions[0], original.actions[0])
    return False


def test_no_flipped_byte_gives_another_episode(path):
    original, whole = read_episode(path), path.read_bytes()
    rng = np.random.default_rng(0)
    places = {*range(0, 16), *rng.integers(0, len(whole), 60).tolist(), len(whole) - 1}
    seen = 0
    for place in sorted(places):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        seen += load_or_refuse(path, original)
    assert seen > 0.9 * len(places)


def test_no_truncated_or_prolonged_file_gives_another_episode(path):
    original, whole = read_episode(path), path.read_bytes()
    for length in (0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert load_or_refuse(path, original)
    for more in (b"\0", b" " * 8, whole):
        path.write_bytes(whole + more)
        assert load_or_refuse(path, original)


@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04 a zip file",
        b"\x80\x04\x95 a pickle.",
        save({"x": np.zeros(3)}),
        save({"header": np.frombuffer(b"[1, 2]", np.uint8)}),
        save({"header": np.frombuffer(b'{"format": "other"}', np.uint8)}),
        save({"header": np.frombuffer(b"{", np.uint8), "0": np.zeros(3)}),
        save({"header": np.frombuffer(b"[" * 5000, np.uint8)}),
        (2**63).to_bytes(8, "little") + b"{}",
    ],
)
def test_foreign_files_are_refused(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(FileError, match=r"x: "):
        load_episode(tmp_path / "x", CARTPOLE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, r"format version 2, this mazejax reads 1; use the mazejax that wrote it"),
        ({"version": None}, "format version None"),
        ({"format": "mazejax policy"}, "is no episode file; give one of save_episode"),
        ({"key": None}, r"malformed header \(KeyError"),
        ({"key": {"impl": "counter", "words": [1]}}, "malformed header"),
        ({"key": {"impl": "counter", "words": [1, 2**40]}}, "malformed header"),
        ({"key": {"impl": "dice", "words": [1, 2]}}, "malformed header"),
        ({"key": {"impl": "counter", "words": [[1, 2], [3, 4]]}}, "does not fit the actions"),
        ({"key": [1, 2]}, "malformed header"),
        ({"actions": []}, "malformed header"),
        ({"actions": ["int32", "int32"]}, "malformed header"),
        ({"actions": ["object"]}, "malformed header"),
        ({"actions": [3]}, "malformed header"),
        ({"actions": "x"}, "malformed header"),
        ({"actions": [{"a": "int32"}]}, r"action: got shape|action: got \['a'\]|action: got dict"),
        ({"length": 3}, "does not fit the actions"),
        ({"length": -1}, "does not fit the actions"),
        ({"length": "x"}, "malformed header"),
        ({"episode_return": "x"}, "malformed header"),
        ({"terminated": None}, "malformed header"),
        ({"replay_sha256": 5}, "does not fit the actions"),
        ({"actors": [["1", 0]]}, r"actors: recorded with \[\['1', 0\]\], got \[\['0', 0\]\]"),
        ({"action_spaces": None}, "action_spaces: recorded with None"),
    ],
)
def test_forged_headers_are_refused_in_words(path, changes, message):
    rewritten(path, **changes)
    with pytest.raises(FileError, match=f"one.episode: .*({message})"):
        load_episode(path, CARTPOLE)


def test_headers_are_vouched_for(path):
    rewritten(path, sign=False, length=3)
    with pytest.raises(FileError, match="sha256: does not fit the content; the file is damaged"):
        load_episode(path, CARTPOLE)


def test_missing_files_folders_and_pipes_are_file_errors(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, message in (("absent", "does not exist"), ("", "not a regular"), ("pipe", "not a r")):
        with pytest.raises(FileError, match=message):
            load_episode(tmp_path / name, CARTPOLE)
    with pytest.raises(FileError, match="there is no folder"):
        save_episode(tmp_path / "absent" / "a", played("cartpole"), CARTPOLE)


def test_sparse_terabytes_are_not_read(tmp_path):
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(FileError, match="MAX_EPISODE_BYTES allows 67108864"):
        load_episode(tmp_path / "huge", CARTPOLE)
    assert files.MAX_JSON_BYTES < episode_file.MAX_EPISODE_BYTES
