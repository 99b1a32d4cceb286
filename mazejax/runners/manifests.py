"""The manifest of a checkpoint: what its folder holds, and whether that is still so.

It is written last, it carries sizes and sha256 of every file and a digest of itself,
and it is compared with a template before any array is read. Folders, their names and
the arrays are left to `checkpoint`.
"""

import functools
import hashlib
import importlib.metadata
import json
import os
import warnings
from pathlib import Path
from typing import Any

from mazejax import files, random
from mazejax.errors import FileError
from mazejax.runners.structure import Leaf, Structure, first_difference

NAME = "manifest.json"

SCHEMA = 1
"""Of manifest and folder; raised when older versions could no longer read new ones."""

MAX_LEAVES = 100_000
"""Most leaves of a tree."""

MAX_ARRAY_BYTES = 2 * 2**30
"""Largest single array."""

MAX_CHECKPOINT_BYTES = 8 * 2**30
"""Largest sum of all arrays, and of all files of a checkpoint."""


def new(
    structure: Structure, metadata: dict, path: str | os.PathLike, step: int | None = None
) -> dict[str, Any]:
    """Manifest of a tree that is within the caps, still without files and digest."""
    _check_caps(structure, path)
    manifest = {
        "schema": SCHEMA,
        "step": step,
        "versions": versions(),
        "random": {
            "implementations": sorted({leaf.key for leaf in structure.leaves if leaf.key}),
            "version": random.VERSION,
        },
        "leaves": [leaf._asdict() for leaf in structure.leaves],
        "statics": structure.statics,
        "fingerprint": structure.fingerprint,
        "metadata": metadata,
    }
    # Through JSON before it is hashed, so that tuples and number keys hash as they are read.
    return json.loads(files.json_bytes(manifest, f"{path}: manifest"))


def write(folder: Path, manifest: dict[str, Any]) -> None:
    """Bring the folder's files to the disk and write the manifest that vouches for them."""
    found = _files_below(folder)
    manifest = {**manifest, "files": {name: _sync(path) for name, path in found.items()}}
    for root, _, _ in os.walk(folder):
        files.sync_folder(root)
    data = files.json_bytes({**manifest, "digest": digest(manifest)}, str(folder / NAME))
    if len(data) > files.MAX_JSON_BYTES:
        raise FileError(
            f"{folder / NAME}: has {len(data)} bytes, mazejax.files.MAX_JSON_BYTES allows "
            f"{files.MAX_JSON_BYTES}; shorten the metadata or raise the cap"
        )
    files.write_bytes(folder / NAME, data)


def read(folder: Path, step: int) -> dict[str, Any]:
    """The folder's manifest, if it is one of this schema, whole and of this step."""
    path = files.child(folder, NAME)
    manifest = files.read_json(path)
    check_digest(manifest, path)
    if manifest.get("step") != step:
        raise FileError(
            f"{path}: step: got {manifest.get('step')}, wanted {step}; was the folder renamed?"
        )
    return manifest


def verify_structure(
    manifest: dict[str, Any], wanted: Structure | None, path: str | os.PathLike
) -> Structure:
    """The saved structure; a FileError names the first thing in which it differs from `wanted`.

    Another jaxlib is only a warning. None wants nothing in particular.
    """
    try:
        leaves = [{**entry, "shape": tuple(entry["shape"])} for entry in manifest["leaves"]]
        saved = Structure(tuple(Leaf(**entry) for entry in leaves), dict(manifest["statics"]))
        bits, saved_by = manifest["random"]["version"], dict(manifest["versions"])
        _check_caps(saved, path)
        difference = first_difference(saved, wanted or saved)
        fits = manifest["fingerprint"] == saved.fingerprint and "metadata" in manifest
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(f"{path}: malformed manifest ({error!r}); restore another one") from error
    if difference:
        raise FileError(f"{path}: {difference}; build the template as the saved run did")
    if not fits:
        raise FileError(f"{path}: fingerprint: does not fit the static fields beside it")
    if random.DEFAULT_IMPL in {leaf.key for leaf in saved.leaves} and bits != random.VERSION:
        raise FileError(
            f"{path}: random.version: got bits of version {bits}, wanted {random.VERSION}; "
            f"use the mazejax that saved it ({saved_by.get('mazejax')})"
        )
    here = versions()["jaxlib"]
    if saved_by.get("jaxlib") != here:
        warnings.warn(
            f"{path}: saved with jaxlib {saved_by.get('jaxlib')}, this is {here}: the numbers "
            f"restored are exact, those computed from them may differ in the last bits",
            stacklevel=3,
        )
    return saved


def verify_files(manifest: dict[str, Any], folder: Path) -> None:
    """Raise a FileError unless the folder holds exactly the files that the manifest lists."""
    listed, found = manifest.get("files"), _files_below(folder)
    found.pop(NAME, None)
    if not isinstance(listed, dict):
        raise FileError(f"{folder / NAME}: files: got {type(listed).__name__}, wanted an object")
    if listed.keys() != found.keys():
        odd = sorted(listed.keys() ^ found.keys())[:3]
        raise FileError(
            f"{folder}: files {odd} are missing or do not belong here; restore another step"
        )
    for name, path in found.items():
        got = {"size": path.stat().st_size, "sha256": files.sha256_of(path)}
        if got != listed[name]:
            raise FileError(
                f"{path}: got {got}, wanted {listed[name]}; the file is damaged, "
                f"restore another step"
            )


def check_digest(manifest: Any, where: str | os.PathLike, content: bytes = b"") -> None:
    """Raise a FileError unless this is a whole manifest of this schema, vouching for content."""
    if not isinstance(manifest, dict):
        raise FileError(f"{where}: got a JSON {type(manifest).__name__}, wanted a manifest object")
    if manifest.get("schema") != SCHEMA:
        raise FileError(
            f"{where}: schema: got {manifest.get('schema')!r}, this version reads {SCHEMA}; "
            f"use the mazejax that saved it ({manifest.get('versions')})"
        )
    body = {name: value for name, value in manifest.items() if name != "digest"}
    if manifest.get("digest") != digest(body, content):
        raise FileError(f"{where}: digest: does not fit the content; the file is damaged")


def digest(manifest: dict[str, Any], content: bytes = b"") -> str:
    """sha256 of a manifest without its digest, whatever its order, followed by content."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode() + content).hexdigest()


@functools.cache
def versions() -> dict[str, str]:
    """Installed version of each package that decides the bits."""
    found = {}
    for package in ("mazejax", "jax", "jaxlib", "numpy"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # a source tree that is not installed
            found[package] = "unknown"
    return found


def _check_caps(structure: Structure, path: str | os.PathLike) -> None:
    if len(structure.leaves) > MAX_LEAVES:
        raise FileError(
            f"{path}: tree of {len(structure.leaves)} leaves, mazejax.runners.manifests.MAX_LEAVES "
            f"allows {MAX_LEAVES}; raise it if that is meant"
        )
    for leaf in structure.leaves:
        if leaf.nbytes > MAX_ARRAY_BYTES:
            raise FileError(
                f"{path}: leaf {leaf.path} has {leaf.nbytes} bytes, "
                f"mazejax.runners.manifests.MAX_ARRAY_BYTES allows {MAX_ARRAY_BYTES}; "
                f"raise it if that is meant"
            )
    if (total := sum(leaf.nbytes for leaf in structure.leaves)) > MAX_CHECKPOINT_BYTES:
        raise FileError(_too_large(path, total))


def _files_below(folder: Path) -> dict[str, Path]:
    """Relative name -> path of every regular file; links and devices are FileErrors."""
    found: dict[str, Path] = {}
    pending = [folder]
    try:
        while pending:
            for entry in sorted(pending.pop().iterdir()):
                if entry.is_symlink() or not (entry.is_dir() or entry.is_file()):
                    raise FileError(f"{entry}: is a link or a device; no checkpoint holds such")
                if entry.is_dir():
                    pending.append(entry)
                else:
                    found[entry.relative_to(folder).as_posix()] = entry
        total = sum(path.stat().st_size for path in found.values())
    except OSError as error:
        raise files.as_file_error(folder, "read", error) from error
    if total > MAX_CHECKPOINT_BYTES:
        raise FileError(_too_large(folder, total))
    return found


def _sync(path: Path) -> dict[str, Any]:
    """Size and sha256 of a file whose bytes are on the disk when this returns."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        return {
            "size": os.fstat(file.fileno()).st_size,
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
        }


def _too_large(path: str | os.PathLike, total: int) -> str:
    return (
        f"{path}: {total} bytes, mazejax.runners.manifests.MAX_CHECKPOINT_BYTES allows "
        f"{MAX_CHECKPOINT_BYTES}; raise it if that is meant"
    )
