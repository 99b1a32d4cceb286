"""Tests of mazejax.files."""

import errno
import json
import os
import stat

import numpy as np
import pytest

from mazejax import files
from mazejax.errors import ConfigError, FileError


def test_what_is_written_is_read_back(tmp_path):
    files.write_bytes(tmp_path / "a", b"\x00\xff")
    files.write_text(tmp_path / "b", "größe\n")
    files.write_json(tmp_path / "c.json", {"x": [1, 2.5, None, True], "y": {"ä": ""}})
    files.write_npz(tmp_path / "d.npz", {"x": np.arange(3), "y.z": np.ones((2, 2), np.float32)})
    assert (tmp_path / "a").read_bytes() == b"\x00\xff"
    assert (tmp_path / "b").read_text("utf-8") == "größe\n"
    assert files.read_json(tmp_path / "c.json") == {"x": [1, 2.5, None, True], "y": {"ä": ""}}
    with np.load(tmp_path / "d.npz") as arrays:
        assert arrays["x"].tolist() == [0, 1, 2] and arrays["y.z"].dtype == np.float32
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "c.json", "d.npz"]


def test_a_failed_write_leaves_the_old_file_and_no_draft(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    files.write_json(path, {"old": 1})

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(FileError, match=r"config\.json: cannot write: the disk is full"):
                files.write_json(path, {"new": 2})
        assert files.read_json(path) == {"old": 1}
        assert os.listdir(tmp_path) == ["config.json"]


def test_a_file_is_invisible_until_it_is_whole_and_then_replaces_the_older(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"older")
    with files.atomic_file(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"older"
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["a.bin"]


def test_files_have_the_permissions_that_the_umask_gives(tmp_path):
    with files.atomic_file(tmp_path / "a.bin"):
        pass
    (tmp_path / "b.bin").touch()
    modes = [stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in ("a.bin", "b.bin")]
    assert modes[0] == modes[1]


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.EROFS, "read-only"),
        (errno.EACCES, "not permitted"),
        (errno.EDQUOT, "disk is full"),
        (errno.EFBIG, "disk is full"),
    ],
)
def test_errors_of_the_system_say_what_to_do(code, advice):
    error = files.as_file_error("/runs/a", "write", OSError(code, os.strerror(code)))
    assert str(error).startswith("/runs/a: cannot write: ") and advice in str(error)


def test_a_disk_that_is_full_is_recognised_in_the_words_of_a_library():
    error = ValueError("RESOURCE_EXHAUSTED: write\nfailed: No space left on device [x='y']")
    message = str(files.as_file_error("p", "save", error))
    assert "the disk is full" in message and "\n" not in message


def test_missing_parents_folders_and_files_in_the_way_are_file_errors(tmp_path):
    with pytest.raises(FileError, match="there is no folder"):
        files.write_text(tmp_path / "absent" / "x", "")
    with pytest.raises(FileError, match="is a folder"):
        files.write_text(tmp_path, "")
    files.write_text(tmp_path / "file", "")
    with pytest.raises(FileError, match="is in the way"):
        files.make_folder(tmp_path / "file")
    with pytest.raises(FileError, match="a part of the path is a file"):
        files.make_folder(tmp_path / "file" / "below")
    with pytest.raises(FileError, match="does not exist"):
        files.read_json(tmp_path / "absent")
    with pytest.raises(FileError, match="does not exist"):
        files.sha256_of(tmp_path / "absent")
    files.make_folder(tmp_path / "a" / "b")
    files.make_folder(tmp_path / "a" / "b")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"a": 1} x',
        b"\xff\xfe",
        b"[NaN]",
        b"[-Infinity]",
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
)
def test_damaged_json_is_a_file_error_naming_the_path(tmp_path, content):
    (tmp_path / "m.json").write_bytes(content)
    with pytest.raises(FileError, match=r"m\.json: is not valid JSON"):
        files.read_json(tmp_path / "m.json")


@pytest.mark.parametrize("depth", [33, 1000, 100_000])
def test_deep_json_is_refused_by_the_name_of_the_cap(tmp_path, depth):
    (tmp_path / "m.json").write_bytes(b"[" * depth + b"]" * depth)
    with pytest.raises(FileError, match="MAX_JSON_DEPTH=32"):
        files.read_json(tmp_path / "m.json")


def test_json_at_the_depth_cap_passes_both_ways(tmp_path):
    value = json.loads("[" * 32 + "]" * 32)
    files.write_json(tmp_path / "m.json", value)
    assert files.read_json(tmp_path / "m.json") == value
    with pytest.raises(ConfigError, match="MAX_JSON_DEPTH"):
        files.write_json(tmp_path / "m.json", [value])


def test_large_json_is_refused_before_it_is_read(tmp_path):
    with open(tmp_path / "m.json", "wb") as file:
        file.truncate(2**40)  # a sparse terabyte
    with pytest.raises(FileError, match="MAX_JSON_BYTES allows 16777216"):
        files.read_json(tmp_path / "m.json")


def test_pipes_and_folders_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(FileError, match="is not a regular file"):
            files.read_json(path)


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, object(), {"a": [float("inf")]}])
def test_values_that_json_cannot_hold_are_config_errors_and_write_nothing(tmp_path, value):
    with pytest.raises(ConfigError, match=r"x\.json: the value cannot be written as JSON"):
        files.write_json(tmp_path / "x.json", value)
    assert not os.listdir(tmp_path)


def test_sha256_is_that_of_the_standard(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files.sha256_of(tmp_path / "abc") == digest


@pytest.mark.parametrize("name", ["a", "CartPole-v1_ppo.2", "0", "x" * 80, "a..b"])
def test_safe_names_pass(name, tmp_path):
    assert files.safe_name(name) == name
    assert files.child(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "../a", "a\\b", "a b", "x" * 81, "ä", "a\n", "\0", 3]
)
def test_other_names_are_config_errors(name, tmp_path):
    with pytest.raises(ConfigError, match="a name may have 1 to 80"):
        files.child(tmp_path, name)


def test_a_link_is_not_taken_for_a_child(tmp_path):
    (tmp_path / "out").symlink_to("/")
    with pytest.raises(FileError, match="out: is a symbolic link"):
        files.child(tmp_path, "out")
