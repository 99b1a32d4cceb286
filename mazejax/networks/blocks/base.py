"""`Block`: a linen module from arrays by key to arrays by key.

What networks are composed of: an `InferenceBlock` joins blocks by the keys that they take
and give. A block says what it does to the last axes of its inputs; all axes before those
are batch, of any number.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import numpy as np

from mazejax.errors import ConfigError
from mazejax.types import Array

Keys = str | tuple[str, ...]
"""One key, or several in order."""


class Block(nn.Module):
    """Base of all blocks; a subclass defines `forward` on arrays.

        class ScaleBlock(Block):
            factor: float = 2.0

            def forward(self, x: Array) -> Array:
                return self.factor * x

        ScaleBlock("observation", "scaled")({"observation": x})["scaled"]

    `forward` takes one array for each of `in_keys` and returns one, or a tuple of as many
    as there are `out_keys`; decorated with `nn.compact` it makes layers where it uses them.
    All fields are hashable, for a network is part of what programs are cached by: lists
    given for tuples are turned into them.
    """

    in_keys: Keys
    """What it takes."""
    out_keys: Keys
    """Names of what it gives."""

    num_inputs: ClassVar[tuple[int, ...]] = (1,)
    """How many inputs it may have; empty for any number."""
    num_outputs: ClassVar[tuple[int, ...]] = (1,)
    """How many outputs it may have; empty for any number."""
    in_ndims: ClassVar[tuple[int, ...]] = ()
    """Last axes of each input that are its own and no batch; () for no least number."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # Flax would wrap it as a method of a bound module, which `tabulate` then has none of.
        if "validate" in cls.__dict__:
            cls.validate = nn.nowrap(cls.validate)  # type: ignore[method-assign]
        super().__init_subclass__(**kwargs)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            if field.name not in ("parent", "name"):
                object.__setattr__(self, field.name, _hashable(getattr(self, field.name)))
        for name, allowed in (("in_keys", self.num_inputs), ("out_keys", self.num_outputs)):
            self._set_keys(name, allowed)
        self.validate()
        super().__post_init__()

    def validate(self) -> None:
        """Raise ConfigError, naming the field, for fields that make no block."""

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Its outputs by key, of inputs that may hold more keys than it takes."""
        outputs = self.forward(*(self._input(inputs, i) for i in range(len(self.in_keys))))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return dict(zip(self.out_keys, outputs, strict=True))

    # Typed so that subclasses may name their inputs.
    def forward(self, *inputs: Any, **_: Any) -> Array | tuple[Array, ...]:
        """Outputs [..., *out] of inputs [..., *in], in the order of the keys."""
        raise NotImplementedError

    def _input(self, inputs: Mapping[str, Array], index: int) -> Array:
        key = self.in_keys[index]
        if key not in inputs:
            raise ConfigError(
                f"{self.label}: no input {key!r}; there are {', '.join(map(repr, inputs))}"
            )
        least = self.in_ndims[min(index, len(self.in_ndims) - 1)] if self.in_ndims else 0
        if inputs[key].ndim < least:
            raise ConfigError(
                f"{self.label}: {key!r} has shape {inputs[key].shape}, expected at least "
                f"{least} axes"
            )
        return inputs[key]

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"{type(self).__name__}({', '.join(self.in_keys)} -> {', '.join(self.out_keys)})"

    @nn.nowrap
    def _set_keys(self, field: str, allowed: tuple[int, ...]) -> None:
        keys = getattr(self, field)
        keys = (keys,) if isinstance(keys, str) else keys
        named = isinstance(keys, tuple) and all(isinstance(k, str) and k for k in keys)
        if not keys or not named:
            raise ConfigError(
                f"{type(self).__name__}.{field}: expected a key or several, got {keys!r}"
            )
        if allowed and len(keys) not in allowed:
            raise ConfigError(
                f"{type(self).__name__}.{field}: expected {' or '.join(map(str, allowed))}, "
                f"got {len(keys)}: {', '.join(keys)}"
            )
        if field == "out_keys" and len({*keys}) < len(keys):
            raise ConfigError(f"{type(self).__name__}.out_keys: {keys} names a key twice")
        object.__setattr__(self, field, keys)


def _hashable(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return tuple(map(_hashable, value))
    return value.item() if isinstance(value, (np.integer, np.floating, np.bool_)) else value
