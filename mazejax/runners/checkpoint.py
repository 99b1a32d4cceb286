"""Checkpoints: any tree of arrays and keys on disk, whole or absent, back with the same bits.

A checkpoint is a folder `DIR/checkpoints/step_000000012345` with the arrays as orbax
stores them and `manifest.json`, which says what they are; it is built under another
name and renamed last. One safetensors file is the form for policies that travel.
"""

import contextlib
import fcntl
import operator
import os
import re
import secrets
import shutil
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mazejax import files
from mazejax.errors import ConfigError, FileError, MazejaxError
from mazejax.runners import arrays, manifests
from mazejax.runners.structure import Structure, describe
from mazejax.types import PyTree

_STEP = re.compile(r"step_(\d{12})")
_LEFTOVER = re.compile(r"(step_\d{12})\.(saving|replaced|removed)-[0-9a-f]{8}")


# --- saving -------------------------------------------------------------------------


def save(
    directory: str | os.PathLike,
    step: int,
    tree: PyTree,
    metadata: dict | None = None,
    keep: int | None = 3,
    protected: Collection[int] = (),
) -> Path:
    """Folder of the checkpoint, which outlives kill -9 from the moment this returns.

    Leaves are arrays of any dtype, typed keys or Python numbers. An older checkpoint of
    the same step is replaced. Afterwards only this step, the `keep` newest steps and the
    `protected` ones are left; `keep=None` removes none. `metadata` is a dict of what JSON
    can hold.
    """
    step = _step_number(step)
    if keep is not None and keep < 1:
        raise ConfigError(f"keep: got {keep}, expected at least 1, or None to keep all")
    final = _step_folder(directory, step)
    draft = _aside(final, "saving")
    try:
        manifest = manifests.new(describe(tree), metadata or {}, final, step)
        draft.mkdir(parents=True)
        with _held(draft):
            arrays.write(draft / "state", tree)
            manifests.write(draft, manifest)
            _publish(draft, final)
    except MazejaxError:
        raise
    except Exception as error:  # orbax raises errors of many families
        raise files.as_file_error(final, f"save step {step}", error) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    if keep is not None:
        complete = steps(directory)
        kept = {step, *complete[-keep:], *protected}
        _remove(directory, [old for old in complete if old not in kept])
    return final


def remove_after(directory: str | os.PathLike, step: int) -> None:
    """Remove all checkpoints after the step: the future that a resume from it abandons."""
    _remove(directory, [later for later in steps(directory) if later > step])


def sweep_leftovers(directory: str | os.PathLike) -> None:
    """Remove what killed saves have left; saves that are under way are left alone.

    A checkpoint that was being replaced when the process died gets its name back.
    """
    folder = _checkpoints(directory)
    if not folder.is_dir():
        return
    try:
        for entry in sorted(folder.iterdir()):
            match = _LEFTOVER.fullmatch(entry.name)
            if not match or entry.is_symlink() or _is_held(entry):
                continue
            if match[2] == "replaced" and not (folder / match[1]).exists():
                os.rename(entry, folder / match[1])
            else:
                shutil.rmtree(entry)
    except OSError as error:
        raise files.as_file_error(folder, "sweep leftovers", error) from error


# --- looking and restoring ----------------------------------------------------------


def steps(directory: str | os.PathLike) -> list[int]:
    """Steps of the complete checkpoints, ascending; a checkpoint is one that has a manifest."""
    folder = _checkpoints(directory)
    try:
        entries = list(folder.iterdir()) if folder.is_dir() else []
        found = [
            int(match[1])
            for entry in entries
            if (match := _STEP.fullmatch(entry.name))
            and not entry.is_symlink()
            and (entry / manifests.NAME).is_file()
        ]
    except OSError as error:
        raise files.as_file_error(folder, "list checkpoints", error) from error
    return sorted(found)


def latest(directory: str | os.PathLike) -> int | None:
    """Step of the newest complete checkpoint, None if there is none."""
    return max(steps(directory), default=None)


def read_manifest(directory: str | os.PathLike, step: int) -> dict[str, Any]:
    """Manifest of a checkpoint, verified against its own digest; `metadata` is one entry."""
    folder = _step_folder(directory, step)
    if not folder.is_dir():
        raise FileError(
            f"{folder}: no checkpoint of step {step}; complete steps here: {steps(directory)}"
        )
    return manifests.read(folder, step)


def restore(directory: str | os.PathLike, template: PyTree, step: int | None = None) -> PyTree:
    """The saved tree, in the template's structure, each leaf with the bits that were saved.

    The template has the right structure, shapes and dtypes, such as
    `jax.eval_shape(algo.init, key)`. Everything is compared with the manifest before any
    content is read. Without a step the newest checkpoint is restored. Leaves are strongly
    typed JAX arrays, or NumPy arrays and Python numbers where the template has such.
    """
    step = latest(directory) if step is None else _step_number(step)
    if step is None:
        raise FileError(f"{_checkpoints(directory)}: no complete checkpoint to restore; save one")
    manifest = read_manifest(directory, step)
    folder = _step_folder(directory, step)
    wanted = describe(template)
    manifests.verify_structure(manifest, wanted, folder / manifests.NAME)
    manifests.verify_files(manifest, folder)
    flat = arrays.read(folder / "state", wanted.leaves)
    return arrays.rebuild(wanted.leaves, flat, template)


# --- arrays that travel -------------------------------------------------------------


def save_arrays(path: str | os.PathLike, tree: PyTree, metadata: dict | None = None) -> None:
    """Write a tree of arrays as one safetensors file, whole or not at all.

    Names are the tree's paths joined by dots. The header carries a manifest with the
    metadata, and with a sha256 over itself and all bytes in the order of the names.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save

    structure = _dotted(tree)
    values = map(arrays.to_host, jax.tree.leaves(tree))
    named = {leaf.path: array for leaf, array in zip(structure.leaves, values, strict=True)}
    manifest = manifests.new(structure, metadata or {}, path)
    content = {name: array.tobytes() for name, array in named.items()}
    manifest["digest"] = manifests.digest(manifest, _in_order(content))
    try:
        data = save(named, {"mazejax": files.json_bytes(manifest, str(path)).decode()})
    except SafetensorError as error:
        raise ConfigError(f"{path}: {error}; convert that array first") from error
    files.write_bytes(path, data)


def load_arrays(path: str | os.PathLike, template: PyTree | None = None) -> tuple[PyTree, dict]:
    """(tree, metadata) of a file that `save_arrays` wrote; nothing in it is ever run.

    Without a template the tree is a flat dict of dotted name -> NumPy array; with one it
    has the template's structure, once names, shapes and dtypes have been compared.
    """
    content, manifest = _read_safetensors(path)
    manifests.check_digest(manifest, path, _in_order(content))
    wanted = None if template is None else _dotted(template)
    leaves = manifests.verify_structure(manifest, wanted, path).leaves
    try:
        flat = [
            np.frombuffer(content[leaf.path], jnp.dtype(leaf.dtype)).reshape(leaf.shape)
            for leaf in leaves
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise files.as_file_error(path, "read", error) from error
    if template is None:
        names = [leaf.path for leaf in leaves]
        return dict(zip(names, flat, strict=True)), manifest["metadata"]
    return arrays.rebuild(leaves, flat, template), manifest["metadata"]


def _dotted(tree: PyTree) -> Structure:
    """Leaves of a tree of arrays under dotted names, without its static part."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path in paths]
    leaves, counts = describe(tree).leaves, Counter(names)
    for name, leaf in zip(names, leaves, strict=True):
        if not name or counts[name] > 1 or leaf.key:
            raise ConfigError(
                f"leaf {leaf.path or '(root)'}: a file of arrays needs arrays of distinct dotted "
                f"names and no keys; got name {name!r}, rename or remove it"
            )
    named = zip(leaves, names, strict=True)
    return Structure(tuple(leaf._replace(path=name) for leaf, name in named), {})


def _in_order(content: dict[str, bytes]) -> bytes:
    return b"".join(content[name] for name in sorted(content))


def _read_safetensors(path: str | os.PathLike) -> tuple[dict[str, bytes], Any]:
    """(bytes of each array, manifest) of a file, neither of them verified."""
    from safetensors import SafetensorError, deserialize

    cap = "mazejax.runners.manifests.MAX_CHECKPOINT_BYTES"
    data = files.read_bytes(path, manifests.MAX_CHECKPOINT_BYTES, cap)
    try:
        content = {name: bytes(entry["data"]) for name, entry in deserialize(data)}
    except SafetensorError as error:
        raise files.as_file_error(path, "read", error) from error
    # The library checks the header but hands out only its tensors.
    header = files.parse_json(data[8 : 8 + int.from_bytes(data[:8], "little")], path)
    text = (header.get("__metadata__") or {}).get("mazejax")
    if text is None:
        raise FileError(f"{path}: has no manifest of mazejax; only files of save_arrays are read")
    return content, files.parse_json(text.encode(), path)


# --- folders ------------------------------------------------------------------------


def _checkpoints(directory: str | os.PathLike) -> Path:
    return files.child(directory, "checkpoints")


def _step_folder(directory: str | os.PathLike, step: int) -> Path:
    return files.child(_checkpoints(directory), f"step_{step:012d}")


def _step_number(step: int) -> int:
    try:
        step = operator.index(step)
    except TypeError as error:
        raise ConfigError(f"step: got {step!r}, expected an integer") from error
    if not 0 <= step < 10**12:
        raise ConfigError(f"step: got {step}, expected 0 to 10^12 - 1")
    return step


def _aside(folder: Path, kind: str) -> Path:
    """A name beside the folder's that no listing takes for a checkpoint."""
    return folder.with_name(f"{folder.name}.{kind}-{secrets.token_hex(4)}")


def _publish(draft: Path, final: Path) -> None:
    """Give the finished draft its name; an older folder of that name makes way and goes."""
    old = _aside(final, "replaced")
    if final.exists():
        os.rename(final, old)
    try:
        os.rename(draft, final)
    except BaseException:
        if old.exists() and not final.exists():
            os.rename(old, final)
        raise
    for folder in (final.parent, final.parent.parent):
        files.sync_folder(folder)
    shutil.rmtree(old, ignore_errors=True)


def _remove(directory: str | os.PathLike, unwanted: list[int]) -> None:
    for step in unwanted:
        folder = _step_folder(directory, step)
        try:
            # Renamed first: killed in the middle, it must not look like a checkpoint.
            os.rename(folder, condemned := _aside(folder, "removed"))
            shutil.rmtree(condemned)
        except OSError as error:
            raise files.as_file_error(folder, "remove the checkpoint", error) from error


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Lock the folder while its process lives: the system lets go when it is killed."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems have no such locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _is_held(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
