"""Blocks that are others one after the other: what images and tables usually go through."""

import flax.linen as nn

from mazejax.networks.blocks.base import Block
from mazejax.networks.blocks.checks import (
    check_activation,
    check_choice,
    check_initializer,
    check_integers,
    check_widths,
    set_in_ndims,
)
from mazejax.networks.blocks.convolution import (
    NORMALIZATIONS,
    PerLayer,
    StridedConvolutionBlock,
    VGGConvolutionBlock,
    convolution_layers,
)
from mazejax.networks.blocks.dense import DenseBlock
from mazejax.networks.blocks.pooling import GlobalAveragePoolingBlock
from mazejax.networks.blocks.shape import FlattenBlock
from mazejax.types import Array


class FlattenDenseBlock(Block):
    """A `FlattenBlock`, then a `DenseBlock`: [..., D1, ..., Dn] to [..., hidden[-1]]."""

    num_flatten_dims: int = FlattenBlock.num_flatten_dims
    """How many of the last axes become one."""
    hidden: tuple[int, ...] = DenseBlock.hidden
    """Widths of the dense layers; empty for none."""
    activation: str = DenseBlock.activation
    """As of `DenseBlock`."""
    kernel_init: str = DenseBlock.kernel_init
    """As of `DenseBlock`."""

    def validate(self) -> None:
        """Raise ConfigError for widths that are not positive and unknown choices."""
        check_integers(self, "num_flatten_dims", least=0)
        check_widths(self, "hidden")
        check_activation(self)
        check_initializer(self)
        set_in_ndims(self, self.num_flatten_dims)

    @nn.compact
    def forward(self, x: Array) -> Array:
        """[..., hidden[-1]]."""
        return _flat_dense(self, x, self.num_flatten_dims)


class VGGConvolutionDenseBlock(Block):
    """A `VGGConvolutionBlock`, flattened, then dense: [..., H, W, C] to [..., hidden[-1]]."""

    conv_hidden: tuple[int, ...] = VGGConvolutionBlock.hidden
    """Channels of each pair of convolutions."""
    hidden: tuple[int, ...] = (256,)
    """Widths of the dense layers; empty for none."""
    activation: str = VGGConvolutionBlock.activation
    """Of all layers; as of `DenseBlock`."""
    normalization: str = VGGConvolutionBlock.normalization
    """Of the convolutions; as of `VGGConvolutionBlock`."""
    kernel_init: str = VGGConvolutionBlock.kernel_init
    """As of `DenseBlock`."""

    in_ndims = (3,)

    def validate(self) -> None:
        """Raise ConfigError for widths that are not positive and unknown choices."""
        check_widths(self, "conv_hidden", "hidden")
        check_activation(self)
        check_choice(self, "normalization", NORMALIZATIONS)
        check_initializer(self)

    @nn.compact
    def forward(self, x: Array) -> Array:
        """[..., hidden[-1]]."""
        return _flat_dense(self, _vgg(self, x, self.conv_hidden), 3)


class VGGConvolutionGAPBlock(Block):
    """A `VGGConvolutionBlock`, then the mean over pixels: [..., H, W, C] to [..., hidden[-1]]."""

    hidden: tuple[int, ...] = VGGConvolutionBlock.hidden
    """Channels of each pair of convolutions."""
    activation: str = VGGConvolutionBlock.activation
    """As of `DenseBlock`."""
    normalization: str = VGGConvolutionBlock.normalization
    """As of `VGGConvolutionBlock`."""
    kernel_init: str = VGGConvolutionBlock.kernel_init
    """As of `DenseBlock`."""

    in_ndims = (3,)

    def validate(self) -> None:
        """Raise ConfigError for channels that are not positive and unknown choices."""
        check_widths(self, "hidden")
        check_activation(self)
        check_choice(self, "normalization", NORMALIZATIONS)
        check_initializer(self)

    @nn.compact
    def forward(self, x: Array) -> Array:
        """[..., hidden[-1]]."""
        x = _vgg(self, x, self.hidden)
        return GlobalAveragePoolingBlock(self.in_keys, self.out_keys, name="pooling").forward(x)


class StridedConvolutionDenseBlock(Block):
    """A `StridedConvolutionBlock`, flattened, then dense: [..., *sizes, C] to [..., hidden[-1]]."""

    conv_hidden: tuple[int, ...] = StridedConvolutionBlock.hidden
    """Channels of the convolutions."""
    kernel_sizes: PerLayer = StridedConvolutionBlock.kernel_sizes
    """As of `StridedConvolutionBlock`, and so are the next four."""
    strides: PerLayer = StridedConvolutionBlock.strides
    """Of the kernels."""
    dilations: PerLayer = StridedConvolutionBlock.dilations
    """Of the kernels."""
    padding: str | PerLayer = StridedConvolutionBlock.padding
    """Of the images."""
    dimension: int = StridedConvolutionBlock.dimension
    """Axes of an image without its channels."""
    hidden: tuple[int, ...] = VGGConvolutionDenseBlock.hidden
    """Widths of the dense layers; empty for none."""
    activation: str = StridedConvolutionBlock.activation
    """Of all layers; as of `DenseBlock`."""
    kernel_init: str = StridedConvolutionBlock.kernel_init
    """As of `DenseBlock`."""

    def validate(self) -> None:
        """Raise ConfigError for layers that do not fit together and unknown choices."""
        convolution_layers(self, "conv_hidden")
        check_widths(self, "hidden")
        check_activation(self)
        check_initializer(self)
        set_in_ndims(self, self.dimension + 1)

    @nn.compact
    def forward(self, x: Array) -> Array:
        """[..., hidden[-1]]."""
        convolution = StridedConvolutionBlock(
            self.in_keys,
            self.out_keys,
            self.conv_hidden,
            self.kernel_sizes,
            self.strides,
            self.dilations,
            self.padding,
            self.dimension,
            self.activation,
            self.kernel_init,
            name="convolution",
        )
        return _flat_dense(self, convolution.forward(x), self.dimension + 1)


def _vgg(
    block: VGGConvolutionDenseBlock | VGGConvolutionGAPBlock, x: Array, hidden: tuple
) -> Array:
    return VGGConvolutionBlock(
        block.in_keys,
        block.out_keys,
        hidden,
        block.activation,
        block.normalization,
        block.kernel_init,
        name="convolution",
    ).forward(x)


def _flat_dense(
    block: FlattenDenseBlock | VGGConvolutionDenseBlock | StridedConvolutionDenseBlock,
    x: Array,
    num_flatten_dims: int,
) -> Array:
    """The last axes as one, through the dense layers of the block."""
    keys = block.in_keys, block.out_keys
    x = FlattenBlock(*keys, num_flatten_dims, name="flatten").forward(x)
    dense = DenseBlock(*keys, block.hidden, block.activation, block.kernel_init, name="dense")
    return dense.forward(x)
