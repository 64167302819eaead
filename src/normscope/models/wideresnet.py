"""WideResNet for small images, with and without its skip connections."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from normscope.models.building import (
    ActivationFactory,
    conv3x3,
    linear,
    make_activation,
    require_positive,
    require_probability,
)
from normscope.models.protocol import NormalizerLike, require_normalizer

_STEM_CHANNELS = 16


class WideResNet(nn.Module):
    r"""Three groups of pre-activation blocks, 16k, 32k and 64k channels wide, at strides 1, 2 and 2.

    A block computes :math:`f(x) + s(x)` with
    :math:`f(x) = W_2 * \phi(N_2(W_1 * \phi(N_1(x))))`, :math:`\phi` = ReLU, every convolution 3x3; the shortcut s is
    the identity, or a 3x3 convolution where channels or stride change. Without skips a block is f alone. The stem is
    a 3x3 convolution; after the groups: normalize, ReLU, average over all pixels (any image size works), readout.

    Shape: (N, in_channels, H, W) in, (N, num_classes) out. Normalizer sites: two per block and the last, ``depth - 1``
    in all. Parameters at depth 26, k = 2, 3 channels and 10 classes, with a gain and a shift per channel and site:
    1,555,658 with skips, 1,458,666 without.
    Convolutions are drawn from N(0, 2 / fan_in), the readout from N(0, 1 / fan_in), biases are zero. The weights
    depend on the generator alone, so two normalizers given equal generators start from the same network.
    Reference: Zagoruyko and Komodakis 2016, arXiv:1605.07146; as used by Rao and Sohl-Dickstein 2020,
    arXiv:2010.10687, figures 2 to 6.

    Args:
        in_channels: of the images.
        num_classes: outputs.
        depth: 6n + 2, with n blocks in each group.
        widen_factor: k above.
        skips: False removes the shortcuts, as in the paper's analyses.
        normalizer: asked for every site and every affine layer, shortcuts and readout included.
        generator: of the weights; the global random state is not used.
        dropout: probability before the second convolution of each block.
        activation_factory: (num_features, channel_dim) -> the module in place of each ReLU; ReLU if None.
        bias: whether the convolutions have one; the readout always has.

    Raises:
        ValueError: a size is not a positive integer, depth is not 6n + 2, dropout is outside [0, 1); an input of
            another shape arrives.
        TypeError: `normalizer` is not one, or `activation_factory` makes no module.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        depth: int = 26,
        widen_factor: int = 2,
        skips: bool = True,
        normalizer: NormalizerLike,
        generator: torch.Generator,
        dropout: float = 0.0,
        activation_factory: ActivationFactory | None = None,
        bias: bool = True,
    ) -> None:
        require_positive(in_channels=in_channels, num_classes=num_classes, widen_factor=widen_factor)
        blocks_per_group = _blocks_per_group(depth)
        require_probability(dropout=dropout)
        require_normalizer(normalizer)
        super().__init__()
        self.in_channels = in_channels
        self.stem = normalizer.affine(conv3x3(in_channels, _STEM_CHANNELS, stride=1, bias=bias, generator=generator))
        self.blocks = nn.ModuleList(
            Block(
                fan_in,
                fan_out,
                stride=stride,
                skip=skips,
                normalizer=normalizer,
                generator=generator,
                dropout=dropout,
                activation_factory=activation_factory,
                bias=bias,
            )
            for fan_in, fan_out, stride in _plan(blocks_per_group, widen_factor)
        )
        channels = 4 * _STEM_CHANNELS * widen_factor
        self.norm = normalizer.site(channels, ndim=4)
        self.activation = make_activation(activation_factory, channels, channel_dim=1)
        self.readout = normalizer.affine(linear(channels, num_classes, gain="linear", bias=True, generator=generator))

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"This WideResNet takes images of shape (N, {self.in_channels}, H, W), got {tuple(x.shape)}. "
                "Build it with the in_channels of your data, or use MLP for plain features."
            )
        x = self.stem(x)  # (N, 16, H, W)
        for block in self.blocks:
            x = block(x)  # (N, 64k, H/4, W/4) after the last
        x = self.activation(self.norm(x)).mean((2, 3))  # (N, 64k)
        return self.readout(x)  # type: ignore[no-any-return]


class Block(nn.Module):
    """One pre-activation block of `WideResNet`: (N, in, H, W) -> (N, out, H/stride, W/stride)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int,
        skip: bool,
        normalizer: NormalizerLike,
        generator: torch.Generator,
        dropout: float,
        activation_factory: ActivationFactory | None,
        bias: bool,
    ) -> None:
        super().__init__()

        def conv(fan_in: int, stride: int) -> nn.Conv2d:
            return normalizer.affine(conv3x3(fan_in, out_channels, stride=stride, bias=bias, generator=generator))

        self.norm1 = normalizer.site(in_channels, ndim=4)
        self.activation1 = make_activation(activation_factory, in_channels, channel_dim=1)
        self.conv1 = conv(in_channels, stride)
        self.norm2 = normalizer.site(out_channels, ndim=4)
        self.activation2 = make_activation(activation_factory, out_channels, channel_dim=1)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = conv(out_channels, 1)
        self.shortcut: nn.Module | None = None
        if skip:
            same_shape = in_channels == out_channels and stride == 1
            self.shortcut = nn.Identity() if same_shape else conv(in_channels, stride)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        branch = self.conv1(self.activation1(self.norm1(x)))
        branch = self.conv2(self.dropout(self.activation2(self.norm2(branch))))
        return branch if self.shortcut is None else branch + self.shortcut(x)  # type: ignore[no-any-return]


def _blocks_per_group(depth: int) -> int:
    require_positive(depth=depth)
    blocks, rest = divmod(depth - 2, 6)
    if blocks < 1 or rest:
        below = max(8, depth - rest)
        raise ValueError(
            f"depth must be 6n + 2 with n blocks per group, n at least 1, got {depth}. Try {below} or {below + 6}."
        )
    return blocks


def _plan(blocks_per_group: int, widen_factor: int) -> list[tuple[int, int, int]]:
    """(in_channels, out_channels, stride) of every block, in order."""
    widths = [_STEM_CHANNELS * widen_factor * scale for scale in (1, 2, 4) for _ in range(blocks_per_group)]
    strides = [2 if i in (blocks_per_group, 2 * blocks_per_group) else 1 for i in range(len(widths))]
    return [
        (*channels, stride)
        for channels, stride in zip(itertools.pairwise([_STEM_CHANNELS, *widths]), strides, strict=True)
    ]
