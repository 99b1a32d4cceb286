"""Any module of flax as a block."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from mazejax.errors import ConfigError
from mazejax.networks.blocks.base import Block
from mazejax.networks.blocks.checks import check_hashable, check_integers, one_for_each_key
from mazejax.networks.pure import call_pure
from mazejax.types import Array


class ModuleBlock(Block):
    """What a linen module makes of the inputs, which it gets as positional arguments.

        ModuleBlock("image", "features", MyConvolution(), in_ndims=(3,))
        ModuleBlock("x", "y", nnx.bridge.to_linen(nnx.Linear, 3, 4))

    The module sees one batch axis: all leading axes [...] become one of their product, 1 if
    there are none, and the outputs get them back. So it may be written for arrays of a fixed
    rank. It returns an array, a tuple of as many as `out_keys`, or a dict that holds them;
    all begin with the batch axis, and a sample must not depend on others of its batch.

    The parameters are under `module`. They alone are learned: what else the module holds, such
    as the statistics of a batch normalization, stays as it began, and a module that changes it
    or draws random numbers while it acts is refused. A module of nnx becomes one of linen by
    `flax.nnx.bridge.to_linen`, which takes the class and its arguments, as above; their
    arrays are made anew at every call, which costs nothing under `jit`.
    """

    module: nn.Module
    """Hashable, as all fields of its own must be: tuples and no lists."""
    in_ndims: tuple[int, ...] = dataclasses.field(default=(1,), kw_only=True)  # type: ignore[misc]
    """Last axes of each input that are its own and no batch; one number stands for all."""

    num_inputs = ()
    num_outputs = ()

    def validate(self) -> None:
        """Raise ConfigError for what is no linen module, and other than a number per input."""
        name = type(self).__name__
        if not isinstance(self.module, nn.Module):
            raise ConfigError(
                f"{name}.module: expected a linen module, got a {type(self.module).__name__}; for "
                f"one of nnx give flax.nnx.bridge.to_linen(Class, *arguments)"
            )
        # Flax copies blocks of bound modules, and no bound module is hashable.
        if self.module.scope is None:
            check_hashable(self, "module")
        check_integers(self, "in_ndims", least=0)
        if not isinstance(self.in_ndims, tuple) or len(self.in_ndims) not in (1, len(self.in_keys)):
            raise ConfigError(
                f"{name}.in_ndims: expected a tuple of 1 or {len(self.in_keys)}, a number for "
                f"each input, got {self.in_ndims!r}"
            )

    def forward(self, *inputs: Array) -> tuple[Array, ...]:
        """The module's outputs in the order of `out_keys`, with the leading axes restored."""
        ndims = self.in_ndims * len(inputs) if len(self.in_ndims) == 1 else self.in_ndims
        batch = self._batch(inputs, ndims)
        rows = math.prod(batch)
        flat = (x.reshape(rows, *x.shape[x.ndim - n :]) for x, n in zip(inputs, ndims, strict=True))
        outputs = self._in_order(call_pure(self.module, self.label, *flat))
        for key, y in zip(self.out_keys, outputs, strict=True):
            if y.shape[:1] != (rows,):
                raise ConfigError(
                    f"{self.label}: the module made {key!r} of shape {y.shape}, expected a first "
                    f"axis of {rows}, the batch"
                )
        return tuple(y.reshape(*batch, *y.shape[1:]) for y in outputs)

    @nn.nowrap
    def _batch(self, inputs: tuple[Array, ...], ndims: tuple[int, ...]) -> tuple[int, ...]:
        """The leading axes, which all inputs have alike."""
        batches = [x.shape[: x.ndim - n] for x, n in zip(inputs, ndims, strict=True)]
        for key, x, batch in zip(self.in_keys, inputs, batches, strict=True):
            if batch != batches[0]:
                raise ConfigError(
                    f"{self.label}: {key!r} has shape {x.shape} and so the batch axes {batch}, "
                    f"expected {batches[0]} as of {self.in_keys[0]!r}"
                )
        return batches[0]

    @nn.nowrap
    def _in_order(self, outputs: Any) -> tuple[Array, ...]:
        """What the module returned, one for each of `out_keys`."""
        if isinstance(outputs, Mapping):
            missing = [key for key in self.out_keys if key not in outputs]
            if missing:
                raise ConfigError(
                    f"{self.label}: the module returned no {', '.join(map(repr, missing))}; there "
                    f"are {', '.join(map(repr, outputs))}"
                )
            return tuple(outputs[key] for key in self.out_keys)
        return one_for_each_key(self, outputs, "module")
