"""`ConcatModelBuilder`: a graph of blocks from an observation space alone.

Each observation passes the block of its modality, the results are put side by side, and
hidden layers make of them the key "latent". Policies and critics grow from there.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Self

from flax.core import FrozenDict

from mazejax.base import Pytree, static
from mazejax.errors import ConfigError, did_you_mean
from mazejax.networks import observations
from mazejax.networks.blocks.base import Block
from mazejax.networks.blocks.shape import ConcatenationBlock, FlattenBlock
from mazejax.networks.inference import InferenceBlock, Shape
from mazejax.networks.settings import Settings, make_block, resolved
from mazejax.spaces.base import Space
from mazejax.spaces.masks import mask_names

LATENT = "latent"
"""The key that a built graph ends in."""

HIDDEN = "hidden"
"""The key before a memory, where there is one."""

_SMALLEST_IMAGE = 4
"""Pixels a side that two poolings leave something of."""

_NDIMS_OF_IMAGE = (3,)
"""Axes that blocks of images [H, W, C] take."""

_JOINED = "joined"

_KEYS = (LATENT, HIDDEN, _JOINED)
"""Keys that are those of no observation."""

_BLOCKS = ("join", "hidden", "policy", "value")
"""Names of blocks that are not those of observations."""

_MODALITIES = (_FEATURE, _IMAGE) = ("feature", "image")
"""Modalities of observations that are mapped to none."""

_NONE = "none"
"""A modality that is left out, a block that is not there."""

_HIDDEN: Settings = {"block": "DenseBlock", "hidden": (64, 64)}

_SMALLEST_FOR_STRIDES = 44
"""Pixels a side that the three strided convolutions need; smaller images go to VGG's."""


class ConcatModelBuilder(Pytree):
    """Which blocks observations pass, by modality.

        ConcatModelBuilder(
            modalities={"image": {"block": "VGGConvolutionDenseBlock", "hidden": [64]}},
            observation_modalities={"camera": "image", "speed": "feature"},
        )

    Without a word about them, observations [H, W, C] of at least 4 pixels a side are of the
    modality "image" and all others of "feature", masks of actions are left out, images pass
    convolutions and features go on as they are. What is not yet a vector is flattened before
    it is joined. Settings without a block are those of the default but for what they name;
    the block "none" stands for nothing at all.

    What is mapped to "image" may be [H, W] too, which is one channel, and have axes in front,
    such as frames [S, H, W, C], that pass the convolutions one by one.
    """

    compile_time: ClassVar[bool] = True

    modalities: dict[str, Any] = static(default=FrozenDict())
    """By modality the settings of its block, `{"block": NAME, field: value}`."""
    observation_modalities: dict[str, str] = static(default=FrozenDict())
    """By observation its modality; "none" leaves it out."""
    hidden: dict[str, Any] = static(default=FrozenDict())
    """Settings of the block on all that is joined; two dense layers of 64 without."""

    def __post_init__(self) -> None:
        for name in ("modalities", "observation_modalities", "hidden"):
            if isinstance(getattr(self, name), Mapping):
                object.__setattr__(self, name, resolved(getattr(self, name), name))
        super().__post_init__()

    def validate(self) -> None:
        """Raise ConfigError for settings that make no block."""
        for name in ("modalities", "observation_modalities", "hidden"):
            if not isinstance(getattr(self, name), Mapping):
                raise ConfigError(f"{name}: expected keys and values, got {getattr(self, name)!r}")
        for modality, settings in self.modalities.items():
            if not isinstance(settings, Mapping):
                raise ConfigError(
                    f"modalities.{modality}: expected settings such as "
                    f"{{'block': 'DenseBlock'}}, got {settings!r}"
                )
            if settings.get("block", _NONE) != _NONE:
                make_block(settings, "in", "out", f"modalities.{modality}")
        if self._hidden:
            make_block(self._hidden, "in", "out", "hidden")
        for name, modality in self.observation_modalities.items():
            known = (*self.modalities, *_MODALITIES, _NONE)
            if modality not in known:
                raise ConfigError(
                    f"observation_modalities.{name}: unknown {modality!r}; "
                    f"{did_you_mean(str(modality), known)}"
                )
        used = (*_MODALITIES, *self.observation_modalities.values())
        for modality in self.modalities:
            if modality not in used:
                raise ConfigError(
                    f"modalities.{modality}: map an observation to it by observation_modalities; "
                    f"{did_you_mean(modality, used)}"
                )

    def without(self, keys: Sequence[str]) -> Self:
        """The builder without modalities of these observations and of all under them."""
        left = {
            name: modality
            for name, modality in self.observation_modalities.items()
            if name.split("/")[0] not in keys
        }
        used = (*_MODALITIES, *left.values())
        settings = {name: own for name, own in self.modalities.items() if name in used}
        return self.replace(observation_modalities=left, modalities=settings)

    def build(self, observation_space: Space, action_space: Space) -> InferenceBlock:
        """The graph from the observations to "latent".

        Raises ConfigError for an observation that the space has not, and for none at all.
        """
        shapes = observations.input_shapes(observation_space, action_space)
        masks = mask_names(action_space)
        for name in _KEYS:
            if name in shapes:
                raise ConfigError(
                    f"observation {name!r}: a block gives this key already; rename the observation"
                )
        for name in self.observation_modalities:
            if name not in shapes:
                raise ConfigError(
                    f"observation_modalities.{name}: no such observation; "
                    f"{did_you_mean(name, shapes)}"
                )
        graph, parts = _Graph(shapes), []
        for key, shape in sorted(shapes.items()):
            default = _NONE if key in masks else _modality(shape.shape)
            modality = self.observation_modalities.get(key, default)
            if modality != _NONE:
                parts.append(self._pass(graph, key, modality))
        if not parts:
            raise ConfigError("observation_modalities: leave no observation; map one at least")
        blocks, last = graph.blocks, parts[0]
        if len(parts) > 1:
            last = _JOINED if self._hidden else LATENT
            blocks["join"] = ConcatenationBlock(tuple(parts), last)
        if self._hidden:
            blocks["hidden"] = make_block(self._hidden, last, LATENT, "hidden")
        elif len(parts) == 1:
            blocks["join"] = ConcatenationBlock(last, LATENT)
        return InferenceBlock(tuple(sorted(shapes)), LATENT, blocks)

    @property
    def _hidden(self) -> Settings:
        return _settings(self.hidden, _HIDDEN)

    def _pass(self, graph: "_Graph", key: str, modality: str) -> str:
        """Add the blocks that an observation passes; the key of the vector that it becomes."""
        name = unused(block_name(key), (*graph.blocks, *_BLOCKS))
        given, where = f"{key}_{modality}", f"modalities.{modality}"
        shape = graph.shapes[key].shape
        if settings := self._settings_of(key, modality, shape):
            takes = make_block(settings, key, given, where).in_ndims
            if modality == _IMAGE and len(shape) == 2 and takes == _NDIMS_OF_IMAGE:
                # None of the last axes as one: an axis of size 1.
                key = graph.add(f"{name}_channel", key, f"{key}_channel", _flatten(0), where)
            key = graph.add(name, key, given, settings, where)
        if (ndim := graph.shapes[key].ndim) == 1:
            return key
        return graph.add(f"{name}_flat", key, f"{key}_flat", _flatten(ndim), where)

    def _settings_of(self, key: str, modality: str, shape: tuple[int, ...]) -> Settings:
        """Of the block that an observation passes; nothing for none."""
        given = self.modalities.get(modality, {})
        if modality == _IMAGE and "block" not in given and len(shape) < 2:
            raise ConfigError(
                f"observation_modalities.{key}: an image has axes [H, W, C] or [H, W], got shape "
                f"{shape}; map it to 'feature', or give modalities.image another block"
            )
        return _settings(given, _default(modality, shape))


def block_name(key: str) -> str:
    """The key as a block may be called."""
    return key.replace("/", "_").replace(".", "_")


def unused(name: str, taken: Collection[str]) -> str:
    """The name, with as many underscores behind it as make it none of those taken."""
    while name in taken:
        name += "_"
    return name


# --- inside -------------------------------------------------------------------------------


class _Graph:
    """Blocks by name as they are added, and the shapes of the keys that there are by then."""

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        self.blocks: dict[str, Block] = {}
        self.shapes = dict(shapes)

    def add(self, name: str, key: str, given: str, settings: Settings, where: str) -> str:
        """Add a block; the key that it gives. Both are called as told unless others are."""
        name = unused(name, (*self.blocks, *_BLOCKS))
        given = unused(given, (*self.shapes, *_KEYS))
        block = make_block(settings, key, given, where)
        try:
            self.shapes |= InferenceBlock(key, given, {name: block}).shapes(self.shapes)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
        self.blocks[name] = block
        return given


def _flatten(ndim: int) -> Settings:
    return {"block": FlattenBlock.__name__, "num_flatten_dims": ndim}


def _modality(shape: tuple[int, ...]) -> str:
    is_image = len(shape) == 3 and min(shape[:2]) >= _SMALLEST_IMAGE
    return _IMAGE if is_image else _FEATURE


def _settings(given: Settings, default: Settings) -> Settings:
    """The settings of a block; nothing for none."""
    if "block" not in given:
        return {**default, **given}
    return {} if given["block"] == _NONE else given


def _default(modality: str, shape: tuple[int, ...]) -> Settings:
    """Settings of a modality that has none: convolutions that fit the size of an image."""
    if modality != _IMAGE:
        return {}
    sizes = shape[-3:-1] if len(shape) > 2 else shape
    if min(sizes) >= _SMALLEST_FOR_STRIDES:
        return {"block": "StridedConvolutionDenseBlock"}
    return {"block": "VGGConvolutionDenseBlock", "conv_hidden": (16, 32), "hidden": (128,)}
