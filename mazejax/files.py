"""Files that are whole or absent, and names and JSON from strangers read with care.

Writes go to a temporary sibling, reach the disk and are renamed; reads refuse what is
too large, too deep or damaged, and every failure is a FileError that names the path and
what to do. Standard library and NumPy only, so that environment workers may use it.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mazejax.errors import ConfigError, FileError

MAX_JSON_BYTES = 16 * 2**20
"""Largest JSON text that is written or read."""

MAX_JSON_DEPTH = 32
"""Deepest nesting of lists and objects in it."""

_SAFE_NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,80}")

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ADVICE = {
    errno.EACCES: "not permitted; choose a folder that you may use",
    errno.EPERM: "not permitted; choose a folder that you may use",
    errno.EROFS: "the file system is read-only; choose another run directory",
    errno.ENOENT: "it or its parent folder does not exist; create the folder or mend the path",
    errno.ENOTDIR: "a part of the path is a file and not a folder; mend the path",
    errno.EEXIST: "a file of that name is in the way; remove it or choose another name",
    errno.EISDIR: "it is a folder and not a file; mend the path",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
} | dict.fromkeys(_DISK_FULL, "the disk is full; free some space or choose another run directory")


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Binary file that takes its name, in place of an older one, when the block ends well.

    Until then it is a hidden sibling, which is removed if the block raises: a reader
    never sees a part. What the system refuses is a FileError.
    """
    path = Path(path)
    if not os.path.isdir(path.parent):  # and not Path.is_dir, which raises for long names
        raise FileError(f"{path}: there is no folder {path.parent}; create it first")
    if os.path.isdir(path):
        raise FileError(f"{path}: is a folder, expected the name of a file; add one to it")
    # Not tempfile: its files are readable by their owner alone, whatever the umask says.
    draft = path.with_name(f".{path.name[:80]}.{secrets.token_hex(4)}.tmp")
    try:
        with open(draft, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
        sync_folder(path.parent)
    except OSError as error:
        raise as_file_error(path, "write", error) from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Replace the file by these bytes, or leave it as it was."""
    with atomic_file(path) as file:
        file.write(data)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Replace the file by this text in UTF-8, or leave it as it was."""
    write_bytes(path, text.encode())


def write_json(path: str | os.PathLike, obj: Any) -> None:
    """Replace the file by the value as indented JSON, or leave it as it was."""
    write_bytes(path, json_bytes(obj, str(path), indent=2) + b"\n")


def write_npz(path: str | os.PathLike, arrays: dict[str, np.ndarray]) -> None:
    """Replace the file by these named arrays, or leave it as it was; no objects, no pickle."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_bytes(path, buffer.getvalue())


def make_folder(path: str | os.PathLike) -> None:
    """Create the folder and its parents where they are missing."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise as_file_error(path, "create the folder", error) from error


def read_bytes(path: str | os.PathLike, max_bytes: int, cap: str) -> bytes:
    """Content of a regular file of at most `max_bytes`; `cap` is the name of that limit."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise FileError(f"{path}: is not a regular file; mend the path")
        if status.st_size > max_bytes:
            raise FileError(
                f"{path}: has {status.st_size} bytes, {cap} allows {max_bytes}; "
                f"raise {cap} if you trust the file"
            )
        return Path(path).read_bytes()
    except OSError as error:
        raise as_file_error(path, "read", error) from error


def read_json(path: str | os.PathLike, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Value of a JSON file; damage, size and depth beyond the caps are FileErrors."""
    return parse_json(read_bytes(path, max_bytes, "mazejax.files.MAX_JSON_BYTES"), path)


def json_bytes(obj: Any, where: str, indent: int | None = None) -> bytes:
    """The value as strict JSON that `parse_json` will accept again; else a ConfigError."""
    try:
        text = json.dumps(obj, allow_nan=False, indent=indent)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{where}: the value cannot be written as JSON ({error}); "
            f"use finite numbers, strings, lists and dicts of these"
        ) from error
    if _depth(obj) > MAX_JSON_DEPTH:
        raise ConfigError(
            f"{where}: the value is nested deeper than MAX_JSON_DEPTH={MAX_JSON_DEPTH}; flatten it"
        )
    return text.encode()


def parse_json(data: bytes, where: str | os.PathLike) -> Any:
    """Value of strict JSON text in UTF-8; `where` names its origin in the FileError."""
    try:
        value = json.loads(data.decode(), parse_constant=_refuse_constant)
    except RecursionError:
        value = None
        depth = MAX_JSON_DEPTH + 1
    except ValueError as error:  # of JSON, of UTF-8 and of numbers with too many digits
        raise FileError(f"{where}: is not valid JSON ({error}); restore the file") from error
    else:
        depth = _depth(value)
    if depth > MAX_JSON_DEPTH:
        raise FileError(
            f"{where}: JSON nested deeper than MAX_JSON_DEPTH={MAX_JSON_DEPTH}; restore the file"
        )
    return value


def sha256_of(path: str | os.PathLike) -> str:
    """Hexadecimal sha256 of the file's content."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise as_file_error(path, "read", error) from error


def safe_name(id: str) -> str:
    """The id itself if it may be a file name: 1 to 80 of A-Z a-z 0-9 . _ -, no leading dot."""
    if not (isinstance(id, str) and _SAFE_NAME.fullmatch(id)):
        raise ConfigError(
            f"name {str(id)[:100]!r}: a name may have 1 to 80 of the characters A-Z a-z 0-9 . _ - "
            f"and no leading dot; rename it"
        )
    return id


def child(folder: str | os.PathLike, name: str) -> Path:
    """Path of a safely named entry of the folder, which must not be a link out of it."""
    path = Path(folder) / safe_name(name)
    if path.is_symlink():
        raise FileError(f"{path}: is a symbolic link, which is not followed here; remove it")
    return path


def sync_folder(folder: str | os.PathLike) -> None:
    """Bring the folder's entries to the disk, so that a rename outlives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def as_file_error(path: str | os.PathLike, action: str, error: Exception) -> FileError:
    """FileError of one line for a failed action: the path, what happened and what to do."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in _ADVICE:
        return FileError(f"{path}: cannot {action}: {_ADVICE[error.errno]} ({error.strerror})")
    # Libraries below hand on the text of the operating system without its number.
    if any(os.strerror(code).lower() in text.lower() for code in _DISK_FULL):
        return FileError(f"{path}: cannot {action}: {_ADVICE[errno.ENOSPC]}")
    return FileError(f"{path}: cannot {action}: {type(error).__name__}: {text[:300]}")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _depth(value: Any) -> int:
    """Levels of lists and dicts around the innermost value; stops counting above the cap."""
    depth, level = 0, [value]
    while depth <= MAX_JSON_DEPTH:
        level = [node for node in level if isinstance(node, (dict, list, tuple))]
        if not level:
            break
        depth += 1
        level = [
            entry for node in level for entry in (node.values() if isinstance(node, dict) else node)
        ]
    return depth
