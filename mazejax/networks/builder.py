"""`ConcatModelBuilder`: a graph of blocks from an observation space alone.

Each observation passes the block of its modality, the results are put side by side, and
hidden layers make of them the key "latent". Policies and critics grow from there.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from flax.core import FrozenDict

from mazejax.base import Pytree, static
from mazejax.errors import ConfigError, did_you_mean
from mazejax.networks import observations
from mazejax.networks.blocks.base import Block
from mazejax.networks.blocks.shape import ConcatenationBlock, FlattenBlock
from mazejax.networks.inference import InferenceBlock
from mazejax.networks.settings import Settings, make_block, resolved
from mazejax.spaces.base import Space
from mazejax.spaces.masks import mask_names

LATENT = "latent"
"""The key that a built graph ends in."""

_SMALLEST_IMAGE = 4
"""Pixels a side that two poolings leave something of."""

HIDDEN = "hidden"
"""The key before a memory, where there is one."""

_BLOCKS = ("join", "hidden", "policy", "value")
"""Names of blocks that are not those of observations."""

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
            known = (*self.modalities, "feature", "image", _NONE)
            if modality not in known:
                raise ConfigError(
                    f"observation_modalities.{name}: unknown {modality!r}; "
                    f"{did_you_mean(str(modality), known)}"
                )

    def build(self, observation_space: Space, action_space: Space) -> InferenceBlock:
        """The graph from the observations to "latent".

        Raises ConfigError for an observation that the space has not, and for none at all.
        """
        shapes = observations.input_shapes(observation_space, action_space)
        masks = mask_names(action_space)
        for name in (LATENT, HIDDEN, "joined"):
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
        blocks: dict[str, Block] = {}
        parts: list[str] = []
        for key, shape in sorted(shapes.items()):
            default = _NONE if key in masks else _modality(shape.shape)
            modality = self.observation_modalities.get(key, default)
            if modality != _NONE:
                parts.append(self._pass(blocks, key, modality, shape))
        if not parts:
            raise ConfigError("observation_modalities: leave no observation; map one at least")
        last = parts[0]
        if len(parts) > 1:
            last = "joined" if self._hidden else LATENT
            blocks["join"] = ConcatenationBlock(tuple(parts), last)
        if self._hidden:
            blocks["hidden"] = make_block(self._hidden, last, LATENT, "hidden")
        elif len(parts) == 1:
            blocks["join"] = ConcatenationBlock(last, LATENT)
        return InferenceBlock(tuple(sorted(shapes)), LATENT, blocks)

    @property
    def _hidden(self) -> Settings:
        return _settings(self.hidden, _HIDDEN)

    def _pass(self, blocks: dict[str, Block], key: str, modality: str, shape: Any) -> str:
        """Add the blocks that an observation passes; the key of the vector that it becomes."""
        name = key.replace("/", "_").replace(".", "_")
        while name in (*blocks, *_BLOCKS):
            name += "_"
        settings = _settings(self.modalities.get(modality, {}), _default(modality, shape.shape))
        if settings:
            given = f"{key}_{modality}"
            where = f"modalities.{modality}"
            blocks[name] = make_block(settings, key, given, where)
            try:
                shape = InferenceBlock(key, given, {name: blocks[name]}).shapes({key: shape})[given]
            except ConfigError as error:
                raise ConfigError(f"{where}: {error}") from None
            key = given
        if len(shape.shape) == 1:
            return key
        blocks[f"{name}_flat"] = FlattenBlock(key, f"{key}_flat", len(shape.shape))
        return f"{key}_flat"


def _modality(shape: tuple[int, ...]) -> str:
    return "image" if len(shape) == 3 and min(shape[:2]) >= _SMALLEST_IMAGE else "feature"


def _settings(given: Settings, default: Settings) -> Settings:
    """The settings of a block; nothing for none."""
    if "block" not in given:
        return {**default, **given}
    return {} if given["block"] == _NONE else given


def _default(modality: str, shape: tuple[int, ...]) -> Settings:
    """Settings of a modality that has none: convolutions that fit the size of an image."""
    if modality != "image" or len(shape) != 3:
        return {}
    if min(shape[:2]) >= _SMALLEST_FOR_STRIDES:
        return {"block": "StridedConvolutionDenseBlock"}
    return {"block": "VGGConvolutionDenseBlock", "conv_hidden": (16, 32), "hidden": (128,)}
