"""VGG for small images: convolutions and max-pools, one linear layer behind them."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from normscope.models.building import ActivationFactory, make_activation, require_one_of, require_positive
from normscope.models.initialization import initialized_conv2d, initialized_linear
from normscope.models.protocol import NormalizerLike, require_normalizer

# Convolutions in each of the five groups: configurations A, B and D of the source.
_GROUPS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3)}
_WIDENING = (1, 2, 4, 8, 8)


class VGG(nn.Module):
    r"""Five groups of 3x3 convolutions, w, 2w, 4w, 8w and 8w channels wide, each followed by a 2x2 max-pool.

    .. math:: x \leftarrow \phi(N(W * x + b))

    for every convolution, with :math:`\phi` = ReLU; after the groups: average over the pixels that are left (one, of an
    image of 32), readout. A pool halves a side rounding up, so that smaller images pass too. `depth` is the source's
    name of the configuration: it counts three linear layers, of which images this small need one.

    Shape: (N, in_channels, H, W) in, (N, num_classes) out. Normalizer sites: one per convolution, ``depth - 3``.
    Parameters with 3 channels, 10 classes, width 64 and a gain and a shift per channel and site: 9,231,114 at depth 11,
    9,416,010 at 13, 14,728,266 at 16.
    Weights are drawn from U(-a, a), a^2 = 6 / (fan_in + fan_out), biases are zero. They depend on the generator alone,
    so two normalizers given equal generators start from the same network.
    Reference: Simonyan and Zisserman 2015, arXiv:1409.1556, table 1; Glorot and Bengio 2010, eq. 16; as used by
    Santurkar et al. 2018, arXiv:1805.11604, whose sizes are not known here.

    Args:
        in_channels: of the images.
        num_classes: outputs.
        depth: 11, 13 or 16.
        width: w, channels of the first group.
        normalizer: asked for every site and every affine layer, the readout included.
        generator: of the weights; the global random state is not used.
        activation_factory: (num_features, channel_dim) -> the module in place of each ReLU; ReLU if None.
        bias: whether the convolutions have one; the readout always has.

    Raises:
        ValueError: a size is not a positive integer, depth is none of those above; an input of another shape arrives.
        TypeError: `normalizer` is not one, or `activation_factory` makes no module.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        depth: int = 11,
        width: int = 64,
        normalizer: NormalizerLike,
        generator: torch.Generator,
        activation_factory: ActivationFactory | None = None,
        bias: bool = True,
    ) -> None:
        require_positive(in_channels=in_channels, num_classes=num_classes, depth=depth, width=width)
        require_one_of(_GROUPS, depth=depth)
        require_normalizer(normalizer)
        super().__init__()
        self.in_channels = in_channels
        widths = [[scale * width] * count for scale, count in zip(_WIDENING, _GROUPS[depth], strict=True)]
        firsts = [in_channels, *(group[-1] for group in widths)]
        self.groups = nn.ModuleList(
            nn.Sequential(
                *(
                    ConvBlock(
                        fan_in,
                        fan_out,
                        normalizer=normalizer,
                        generator=generator,
                        activation_factory=activation_factory,
                        bias=bias,
                    )
                    for fan_in, fan_out in itertools.pairwise([first, *group])
                )
            )
            for first, group in zip(firsts, widths, strict=False)
        )
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        readout = initialized_linear(widths[-1][-1], num_classes, init="xavier", bias=True, generator=generator)
        self.readout = normalizer.affine(readout)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"This VGG takes images of shape (N, {self.in_channels}, H, W), got {tuple(x.shape)}. "
                "Build it with the in_channels of your data, or use MLP for plain features."
            )
        for group in self.groups:
            x = self.pool(group(x))  # (N, 8w, H/32, W/32) after the last
        return self.readout(x.mean((2, 3)))  # type: ignore[no-any-return]


class ConvBlock(nn.Module):
    """Convolution, site, activation: (N, in, H, W) -> (N, out, H, W)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        normalizer: NormalizerLike,
        generator: torch.Generator,
        activation_factory: ActivationFactory | None,
        bias: bool,
    ) -> None:
        super().__init__()
        layer = initialized_conv2d(in_channels, out_channels, 3, init="xavier", bias=bias, generator=generator)
        self.conv = normalizer.affine(layer)
        self.norm = normalizer.site(out_channels, ndim=4)
        self.activation = make_activation(activation_factory, out_channels, channel_dim=1)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.activation(self.norm(self.conv(x)))
