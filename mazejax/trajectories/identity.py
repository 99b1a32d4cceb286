"""What an env is, as plain text: so that a file can name in what another env differs.

Its name, schedule, action spaces and every number and setting in it, by dotted path.
Functions and modules have no text that is the same in every process, so they are left out.
"""

import dataclasses
import hashlib
import importlib.metadata
import platform
from typing import Any

import jax
import numpy as np

from mazejax import random
from mazejax.envs.base import Env
from mazejax.spaces.base import Space

_LONGEST_TEXT = 60
_MOST_NUMBERS = 4


def describe(env: Env) -> dict[str, Any]:
    """What decides how actions play, as plain JSON: equal for equal envs."""
    return {
        "env": str(env),
        "actors": [list(actor) for actor in env.actors],
        "action_spaces": {key: repr(space) for key, space in env.action_spaces.items()},
        "random_version": random.VERSION,
        "numbers": _numbers(env, ""),
    }


def same_actions(recorded: dict[str, Any], env: Env) -> bool:
    """Whether the recorded env took actions of the same spaces in the same sub-steps."""
    here = describe(env)
    return all(recorded.get(name) == here[name] for name in ("actors", "action_spaces"))


def first_difference(recorded: dict[str, Any], env: Env) -> str | None:
    """Sentence naming the first thing in which the env differs from the recorded one, or None."""
    here = describe(env)
    for name in ("env", "actors", "action_spaces"):
        if recorded.get(name) != here[name]:
            return (
                f"{name}: recorded with {recorded.get(name)}, got {here[name]}; "
                f"load it with the env that played it"
            )
    if recorded.get("random_version") != random.VERSION:
        return (
            f"mazejax.random.VERSION: recorded with {recorded.get('random_version')}, got "
            f"{random.VERSION}; use the mazejax that wrote it ({recorded.get('written_by')})"
        )
    numbers = recorded.get("numbers")
    numbers = numbers if isinstance(numbers, dict) else {}
    for name in [*here["numbers"], *numbers]:
        was, now = (found.get(name, "nothing") for found in (numbers, here["numbers"]))
        if was != now:
            return f"{name}: recorded with {was}, got {now}; make the env with that number"
    return None


def written_by() -> dict[str, str]:
    """What decides the last bits of floats, besides the env."""
    try:
        version = importlib.metadata.version("mazejax")
    except importlib.metadata.PackageNotFoundError:  # a source tree that is not installed
        version = "unknown"
    device = f"{jax.devices()[0].device_kind} {platform.machine()}"
    return {"mazejax": version, "jaxlib": jax.lib.__version__, "device": device}


def bits_of(leaf: Any) -> np.ndarray:
    """The numbers of a leaf, of a typed key its words."""
    return np.asarray(jax.random.key_data(leaf) if random.is_key(leaf) else leaf)


def _numbers(value: Any, path: str) -> dict[str, str]:
    """Dotted path -> text of every number and setting."""
    parts = value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if not isinstance(parts, dict):
        text = _text(value)
        return {} if text is None else {path: text}
    found: dict[str, str] = {}
    for name, part in parts.items():
        found |= _numbers(part, f"{path}.{name}" if path else str(name))
    return found


def _text(value: Any) -> str | None:
    """A setting in a line; what is long by its sha256, what is no setting as None."""
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        array = bits_of(value)
        if array.size <= _MOST_NUMBERS:
            return f"{array.dtype} {array.tolist()}"
        digest = hashlib.sha256(array.tobytes()).hexdigest()
        return f"{array.dtype}{list(array.shape)} sha256 {digest}"
    plain = (bool, int, float, str, type(None), Space)
    if not all(isinstance(leaf, plain) for leaf in jax.tree.leaves(value)):
        return None
    text = repr(value)
    return text if len(text) <= _LONGEST_TEXT else hashlib.sha256(text.encode()).hexdigest()
