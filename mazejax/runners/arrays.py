"""The numbers of a tree in an orbax folder, and back into the form that they had.

Orbax keeps no static field, casts dtypes in silence, refuses empty arrays and cannot
restore keys of a registered type; so it is given a flat list of plain NumPy arrays, and
asked what it holds before it reads. Whether they fit a template is `structure`'s matter.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mazejax import files
from mazejax.errors import ConfigError, FileError
from mazejax.runners.structure import Leaf, is_key, key_impl
from mazejax.types import PyTree


def write(path: Path, tree: PyTree) -> None:
    """Store the leaves in a new folder; raises whatever orbax raises."""
    import orbax.checkpoint as ocp

    flat = {_name(i): to_host(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}
    # Of an empty array the manifest's shape is all there is.
    full = {name: array for name, array in flat.items() if array.size}
    if full:
        ocp.PyTreeCheckpointer().save(path.absolute(), full)


def read(path: Path, leaves: tuple[Leaf, ...]) -> list[np.ndarray]:
    """Arrays of the leaves in order; a FileError if the folder holds others or is damaged."""
    wanted = {_name(i): leaf for i, leaf in enumerate(leaves) if leaf.nbytes}
    try:
        stored = _read_folder(path, wanted) if wanted else {}
    except Exception as error:  # damage surfaces in orbax as errors of many families
        raise files.as_file_error(path, "restore", error) from error
    empty = {
        _name(i): np.zeros(leaf.shape, jnp.dtype(leaf.dtype))
        for i, leaf in enumerate(leaves)
        if not leaf.nbytes
    }
    flat = {**stored, **empty}
    return [flat[_name(i)] for i in range(len(leaves))]


def to_host(leaf: Any) -> np.ndarray:
    """The leaf as a plain array in the machine's byte order; of keys the raw words."""
    if is_key(leaf):
        leaf = jax.random.key_data(leaf)
    if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
        raise ConfigError(
            f"a leaf of shape {leaf.shape} is spread over several processes; "
            f"gather it first (jax.experimental.multihost_utils.process_allgather)"
        )
    array = np.asarray(leaf)
    native = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    return native.reshape(array.shape)  # since ascontiguousarray gives scalars an axis


def rebuild(leaves: tuple[Leaf, ...], flat: list[np.ndarray], template: PyTree) -> PyTree:
    """The template's tree with these numbers: keys wrapped, weak types gone, 64 bits kept.

    A leaf is a NumPy array or a Python number where the template's is one, else a JAX
    array, spread over devices as the template's is.
    """
    likes, structure = jax.tree.flatten(template)
    return structure.unflatten(map(_rebuild_leaf, leaves, flat, likes))


def _rebuild_leaf(leaf: Leaf, array: np.ndarray, like: Any) -> Any:
    if isinstance(like, np.ndarray):
        return array.copy()
    if isinstance(like, np.generic):
        return array[()]
    if isinstance(like, bool | int | float | complex):
        return array.item()
    if leaf.key is not None:
        value = jax.random.wrap_key_data(jnp.array(array), impl=key_impl(like)[0])
    elif jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        raise FileError(
            f"leaf {leaf.path}: got {leaf.dtype}, which needs 64-bit types; "
            f"set jax_enable_x64 or put a NumPy array into the template"
        )
    else:
        value = jnp.array(array)
    sharding = getattr(like, "sharding", None)
    # Not onto one device: device_put commits an array, for which jit would compile anew.
    spread = sharding is not None and len(sharding.device_set) > 1
    return jax.device_put(value, sharding) if spread else value


def _read_folder(path: Path, wanted: dict[str, Leaf]) -> dict[str, np.ndarray]:
    import orbax.checkpoint as ocp

    reader = ocp.PyTreeCheckpointer()
    declared = reader.metadata(path.absolute()).item_metadata.tree
    found = {name: (tuple(entry.shape), entry.dtype) for name, entry in declared.items()}
    if found != {name: (leaf.shape, jnp.dtype(leaf.dtype)) for name, leaf in wanted.items()}:
        raise ValueError("the arrays in it are not those of the manifest")
    return {name: np.asarray(array) for name, array in reader.restore(path.absolute()).items()}


def _name(index: int) -> str:
    # Not the path: orbax makes folders of its slashes.
    return f"leaf_{index:06d}"
