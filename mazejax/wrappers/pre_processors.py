"""Pre-processors: pure functions of one observation that know the space of what they make.

A pre-processor decides the space, so all of its fields are constants of the program. The
space of one's own follows from `process` alone, with bounds where it is `monotone`.
"""

import functools
import math
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from mazejax.base import Pytree, static
from mazejax.errors import ConfigError
from mazejax.spaces.base import Space
from mazejax.spaces.simple import Box, Discrete, MultiBinary, MultiDiscrete
from mazejax.types import Array

# ITU-R BT.601, as in Pillow.
_RGB_WEIGHTS = (0.299, 0.587, 0.114)


class PreProcessor(Pytree):
    """Makes one observation of another; a subclass defines `process`.

        class Scaled(PreProcessor):
            monotone = True
            divisor: float = 255.0

            def process(self, x):
                return x.astype(jnp.float32) / self.divisor

    It is used by name after `mazejax.wrappers.preprocessing.pre_processors.register`.
    """

    monotone: ClassVar[bool] = False
    """Whether larger numbers never make smaller ones, or never larger ones: then bounds of the
    observation become bounds of what is made, which else has none."""

    def process(self, x: Array) -> Array:
        """What is made of an observation [*shape]."""
        raise NotImplementedError

    def space(self, space: Space) -> Space:
        """Space of what is made of observations of a space."""
        return _derived_space(self, space)

    def fitted(self, space: Space) -> Self:
        """This pre-processor for observations of a space; ConfigError if it is for others."""
        return self


class Flatten(PreProcessor):
    """The last `num_flatten_dims` axes as one."""

    monotone: ClassVar[bool] = True

    num_flatten_dims: int = static()

    def process(self, x: Array) -> Array:
        """[..., size]."""
        kept = x.shape[: x.ndim - self.num_flatten_dims]
        return x.reshape(*kept, math.prod(x.shape[len(kept) :]))

    def fitted(self, space: Space) -> Self:
        """ConfigError unless the observation has so many axes."""
        if not 1 <= self.num_flatten_dims <= len(space.shape):
            raise ConfigError(
                f"num_flatten_dims: got {self.num_flatten_dims}, expected 1 to "
                f"{len(space.shape)} for the shape {space.shape}"
            )
        return self


class Transpose(PreProcessor):
    """The axes in another order: axis i is the observation's `axes[i]`."""

    monotone: ClassVar[bool] = True

    axes: tuple[int, ...] = static()

    def process(self, x: Array) -> Array:
        """[axes[0], axes[1], ...] of the observation's axes."""
        return x.transpose(self.axes)

    def fitted(self, space: Space) -> Self:
        """ConfigError unless every axis of the observation is named once."""
        num = len(space.shape)
        if sorted(axis % num if -num <= axis < num else num for axis in self.axes) != [*range(num)]:
            raise ConfigError(
                f"axes: got {self.axes}, expected each axis of the shape {space.shape} once, "
                f"such as {tuple(reversed(range(num)))}"
            )
        return self


class Unsqueeze(PreProcessor):
    """A new axis of size 1, which is axis `dim` of what comes out."""

    monotone: ClassVar[bool] = True

    dim: int = static()

    def process(self, x: Array) -> Array:
        """[..., 1, ...]."""
        return jnp.expand_dims(x, self.dim)

    def fitted(self, space: Space) -> Self:
        """ConfigError unless the result can have such an axis."""
        num = len(space.shape) + 1
        if not -num <= self.dim < num:
            raise ConfigError(f"dim: got {self.dim}, expected {-num} to {num - 1}")
        return self


class OneHot(PreProcessor):
    """One-hot vectors of whole numbers, [*shape, num_classes] float32.

    A category is counted from the first of its space, a number from 0, or from the lowest
    bound if that is negative.
    """

    num_classes: int | None = static(default=None)
    """Length of the vectors; None takes it from the space."""
    first: int = static(default=0)
    """What the first entry stands for; taken from the space with `num_classes`."""

    def process(self, x: Array) -> Array:
        """[*shape, num_classes]."""
        return jax.nn.one_hot(x.astype(jnp.int32) - self.first, self.num_classes or 0)

    def space(self, space: Space) -> Space:
        """From 0 to 1."""
        return Box(0.0, 1.0, (*space.shape, self.fitted(space).num_classes or 0))

    def fitted(self, space: Space) -> Self:
        """With the classes of the space; ConfigError if they are not whole numbers with bounds."""
        if self.num_classes is not None:
            return self
        box = as_box(space)
        if box.dtype.kind == "f":
            raise ConfigError(
                f"num_classes: an observation of {box.dtype} has no classes; expected whole numbers"
            )
        low, high = int(box.low.min()), int(box.high.max())
        first = low if isinstance(space, (Discrete, MultiDiscrete)) else min(low, 0)
        if high - first >= 2**20:
            raise ConfigError(
                f"num_classes: {box} has {high - first + 1} of them, too many for vectors; say "
                f"how many there are"
            )
        return self.replace(num_classes=high - first + 1, first=first)


class ResizeImage(PreProcessor):
    """An image of another size, bilinear and smoothed where it shrinks; of the same dtype."""

    target_size: tuple[int, int] = static()
    """Height and width."""
    transpose: bool = static(default=False)
    """Whether channels come first, [C, H, W], and not last, [H, W, C]; without them [H, W]."""

    def process(self, x: Array) -> Array:
        """[height, width, C], or [C, height, width] if `transpose`."""
        pixels = x.astype(jnp.float32)
        resized = jax.image.resize(pixels, self._shape(x.shape), "bilinear")
        return _like(jnp.clip(resized, pixels.min(), pixels.max()), x)

    def space(self, space: Space) -> Space:
        """Within the lowest and the highest number that a pixel may have."""
        low, high = as_box(space).low.min(), as_box(space).high.max()
        return Box(low, high, self._shape(space.shape), space.dtype)

    def fitted(self, space: Space) -> Self:
        """ConfigError for a size below 1, and for what is no image."""
        sizes = self.target_size
        if len(sizes) != 2 or any(not isinstance(size, int) or size < 1 for size in sizes):
            raise ConfigError(f"target_size: expected height and width, got {sizes}")
        if len(space.shape) not in (2, 3):
            raise ConfigError(
                f"target_size: an observation of shape {space.shape} is no image, expected two "
                f"axes, and one of channels"
            )
        return self

    def _shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if self.transpose:
            return (*shape[:-2], *self.target_size)
        return (*self.target_size, *shape[2:])


class RGBToGray(PreProcessor):
    """Brightness of a colored image, without the axis of its colors; of the same dtype."""

    rgb_dim: int = static(default=-1)
    """Axis of red, green and blue."""

    def process(self, x: Array) -> Array:
        """0.299 red + 0.587 green + 0.114 blue."""
        colors = x.astype(jnp.float32)
        parts = [jax.lax.index_in_dim(colors, i, self.rgb_dim, keepdims=False) for i in range(3)]
        gray = sum(weight * part for weight, part in zip(_RGB_WEIGHTS, parts, strict=True))
        # The weights do not add up to 1 in float32.
        return _like(jnp.clip(gray, colors.min(self.rgb_dim), colors.max(self.rgb_dim)), x)

    def space(self, space: Space) -> Space:
        """Within the lowest and the highest number that a color may have."""
        box = as_box(space)
        low, high = box.low.min(self.rgb_dim), box.high.max(self.rgb_dim)
        return Box(low, high, low.shape, space.dtype)

    def fitted(self, space: Space) -> Self:
        """ConfigError unless there are three colors."""
        num = len(space.shape)
        if not -num <= self.rgb_dim < num or space.shape[self.rgb_dim] != 3:
            raise ConfigError(
                f"rgb_dim: got {self.rgb_dim} for the shape {space.shape}, expected an axis of "
                f"three colors"
            )
        return self


def as_box(space: Any) -> Box:
    """The numbers of a space that is no dict, within their bounds."""
    if isinstance(space, Discrete):
        return Box(space.start, space.start + space.n - 1, (), space.dtype)
    if isinstance(space, MultiDiscrete):
        return Box(space.start, space.start + space.nvec - 1, space.shape, space.dtype)
    if isinstance(space, MultiBinary):
        return Box(0, 1, space.shape, space.dtype)
    if isinstance(space, Box):
        return space
    raise ConfigError(f"observation: a {type(space).__name__} is no array; pre-process its parts")


@functools.lru_cache(maxsize=256)
def _derived_space(pre_processor: PreProcessor, space: Space) -> Box:
    box = as_box(space)
    dtype = jax.dtypes.canonicalize_dtype(box.dtype)
    made = jax.eval_shape(pre_processor.process, jax.ShapeDtypeStruct(box.shape, dtype))
    low, high = _limits(made.dtype)
    if not pre_processor.monotone:
        return Box(low, high, made.shape, made.dtype)
    # Also while a program is traced: bounds are numbers.
    with jax.ensure_compile_time_eval():
        bounds = (jnp.asarray(np.asarray(bound, dtype)) for bound in (box.low, box.high))
        ends = [np.asarray(pre_processor.process(bound)) for bound in bounds]
    lowest, highest = np.minimum(*ends), np.maximum(*ends)
    # Of infinite bounds a product with 0 is no number.
    unknown = lowest != lowest
    return Box(
        np.where(unknown, low, lowest), np.where(unknown, high, highest), made.shape, made.dtype
    )


def _limits(dtype: Any) -> tuple[Any, Any]:
    if dtype.kind == "f":
        return -np.inf, np.inf
    if dtype.kind == "b":
        return False, True
    return np.iinfo(dtype).min, np.iinfo(dtype).max


def _like(pixels: Array, x: Array) -> Array:
    """The pixels in the dtype of the image, rounded if that has whole numbers."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        pixels = jnp.round(pixels)
    return pixels.astype(x.dtype)
