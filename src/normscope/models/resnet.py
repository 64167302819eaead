"""ResNet v1 with bottleneck blocks, for ImageNet and for smaller images."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from normscope.models.building import (
    ActivationFactory,
    conv2d,
    linear,
    make_activation,
    require_one_of,
    require_positive,
)
from normscope.models.protocol import NormalizerLike, require_normalizer

Stem: TypeAlias = Literal["imagenet", "small"]

_EXPANSION = 4
_BLOCKS = {26: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


@dataclass(frozen=True)
class _Stem:
    kernel_size: int
    stride: int
    pool: bool


_STEMS = {"imagenet": _Stem(7, 2, pool=True), "small": _Stem(3, 1, pool=False)}


class ResNet(nn.Module):
    r"""A stem and four groups of bottleneck blocks, `width` times 4, 8, 16 and 32 channels wide, at strides 1, 2, 2, 2.

    A block computes :math:`\phi(f(x) + s(x))` with :math:`f(x) = N_3(W_3 * \phi(N_2(W_2 * \phi(N_1(W_1 * x)))))`,
    :math:`\phi` = ReLU, kernels 1x1, 3x3 and 1x1, the stride on the 3x3; the shortcut s is the identity, or a
    normalized 1x1 convolution :math:`N_s(W_s * x)` where channels or stride change. After the groups: average over all
    pixels (any image size works), readout. The stem is a convolution, normalized, ReLU: 7x7 with stride 2 and then a
    3x3 max-pool with stride 2 ("imagenet"), or 3x3 alone ("small", for images of about 32 pixels).

    Shape: (N, in_channels, H, W) in, (N, num_classes) out. Normalizer sites: ``depth + 3``, of them one in the stem
    and four on shortcuts; within a block the shortcut's runs last. Parameters with 3 channels, 1000 classes, width 64
    and a gain and a shift per channel and site: 25,557,032 at depth 50, 44,549,160 at 101, 60,192,808 at 152.

    With `zero_init_last` the gain of N_3 starts at 0, so that every block starts as :math:`\phi(s(x))`; the gradient of
    all else in the branch is then 0 in the very first step, and probes read zeros at these sites before it. A row that
    has no gain (none, weightnorm, bnl2, unless made with ``affine=True``) starts with the whole branch: unnormalized,
    the second moment then about doubles with each block. The paper does not say what its "None" is; one that keeps
    gain and shift, ``normscope.normalizer("none", affine=True)``, is the likely reading, because it trains.

    Convolutions are drawn from N(0, 2 / fan_in), the readout from N(0, 1 / fan_in), biases are zero. The weights
    depend on the generator alone, so two normalizers given equal generators start from the same network.
    Reference: He et al. 2016, arXiv:1512.03385, with the stride on the 3x3 and zero gains of Goyal et al. 2017,
    arXiv:1706.02677; as in Rao and Sohl-Dickstein 2020, arXiv:2010.10687, table 3. Depth 26, two blocks in every
    group, is this project's, for small machines.

    Args:
        in_channels: of the images.
        num_classes: outputs.
        depth: 26, 50, 101 or 152.
        width: channels of the stem and of the first group's 3x3 convolutions.
        stem: "imagenet" or "small".
        normalizer: asked for every site and every affine layer, shortcuts and readout included.
        generator: of the weights; the global random state is not used.
        activation_factory: (num_features, channel_dim) -> the module in place of each ReLU; ReLU if None.
        zero_init_last: whether the last gain of every block starts at 0.
        bias: whether the convolutions have one; the readout always has.

    Raises:
        ValueError: a size is not a positive integer, depth or stem is none of those above; an input of another shape
            arrives.
        TypeError: `normalizer` is not one, or `activation_factory` makes no module.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        depth: int = 50,
        width: int = 64,
        stem: Stem = "imagenet",
        normalizer: NormalizerLike,
        generator: torch.Generator,
        activation_factory: ActivationFactory | None = None,
        zero_init_last: bool = True,
        bias: bool = False,
    ) -> None:
        require_positive(in_channels=in_channels, num_classes=num_classes, depth=depth, width=width)
        require_one_of(_BLOCKS, depth=depth)
        require_one_of(_STEMS, stem=stem)
        require_normalizer(normalizer)
        super().__init__()
        self.in_channels = in_channels
        first = _STEMS[stem]
        self.stem = normalizer.affine(
            conv2d(in_channels, width, first.kernel_size, stride=first.stride, bias=bias, generator=generator)
        )
        self.norm = normalizer.site(width, ndim=4)
        self.activation = make_activation(activation_factory, width, channel_dim=1)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1) if first.pool else nn.Identity()
        self.blocks = nn.ModuleList(
            Bottleneck(
                fan_in,
                inner,
                stride=stride,
                normalizer=normalizer,
                generator=generator,
                activation_factory=activation_factory,
                zero_init_last=zero_init_last,
                bias=bias,
            )
            for fan_in, inner, stride in _plan(_BLOCKS[depth], width)
        )
        channels = 8 * width * _EXPANSION
        self.readout = normalizer.affine(linear(channels, num_classes, gain="linear", bias=True, generator=generator))

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"This ResNet takes images of shape (N, {self.in_channels}, H, W), got {tuple(x.shape)}. "
                "Build it with the in_channels of your data, or use MLP for plain features."
            )
        x = self.pool(self.activation(self.norm(self.stem(x))))  # (N, width, H/4, W/4), or H, W of the small stem
        for block in self.blocks:
            x = block(x)  # (N, 32 width, H/32, W/32) after the last
        return self.readout(x.mean((2, 3)))  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """One block of `ResNet`: (N, in, H, W) -> (N, 4 width, H/stride, W/stride)."""

    def __init__(
        self,
        in_channels: int,
        width: int,
        *,
        stride: int,
        normalizer: NormalizerLike,
        generator: torch.Generator,
        activation_factory: ActivationFactory | None,
        zero_init_last: bool,
        bias: bool,
    ) -> None:
        super().__init__()
        channels = _EXPANSION * width

        def conv(fan_in: int, fan_out: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
            layer = conv2d(fan_in, fan_out, kernel_size, stride=stride, bias=bias, generator=generator)
            return normalizer.affine(layer)

        self.conv1 = conv(in_channels, width, 1)
        self.norm1 = normalizer.site(width, ndim=4)
        self.activation1 = make_activation(activation_factory, width, channel_dim=1)
        self.conv2 = conv(width, width, 3, stride)
        self.norm2 = normalizer.site(width, ndim=4)
        self.activation2 = make_activation(activation_factory, width, channel_dim=1)
        self.conv3 = conv(width, channels, 1)
        self.norm3 = normalizer.site(channels, ndim=4)
        if zero_init_last:
            _zero_gain(self.norm3)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != channels or stride != 1:
            self.shortcut = nn.Sequential(conv(in_channels, channels, 1, stride), normalizer.site(channels, ndim=4))
        self.activation3 = make_activation(activation_factory, channels, channel_dim=1)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        branch = self.activation1(self.norm1(self.conv1(x)))
        branch = self.activation2(self.norm2(self.conv2(branch)))
        branch = self.norm3(self.conv3(branch))
        return self.activation3(branch + self.shortcut(x))


def _zero_gain(site: nn.Module) -> None:
    gain = getattr(site, "weight", None)
    if isinstance(gain, nn.Parameter):
        nn.init.zeros_(gain)


def _plan(blocks: tuple[int, ...], width: int) -> list[tuple[int, int, int]]:
    """(in_channels, width, stride) of every block, in order."""
    widths = [width * 2**group for group, count in enumerate(blocks) for _ in range(count)]
    firsts = set(itertools.accumulate(blocks[:-1]))  # where groups 2, 3 and 4 begin
    fan_ins = [width, *(_EXPANSION * inner for inner in widths[:-1])]
    return [
        (fan_in, inner, 2 if i in firsts else 1) for i, (fan_in, inner) in enumerate(zip(fan_ins, widths, strict=True))
    ]
