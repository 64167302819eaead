"""ResNet for small images with basic blocks, with its normalizer everywhere, only before the readout, or nowhere."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normscope.models.building import ActivationFactory, make_activation, require_one_of, require_positive
from normscope.models.initialization import INITIALIZERS, Init, initialized_conv2d, initialized_linear
from normscope.models.protocol import Layer, NormalizerLike, Order, require_normalizer

NormAt: TypeAlias = Literal["all", "last", "none"]
Shortcut: TypeAlias = Literal["projection", "padding"]


class CifarResNet(nn.Module):
    r"""A stem and three stages of post-activation basic blocks, w, 2w and 4w channels wide, at strides 1, 2 and 2.

    A block computes :math:`\phi(f(x) + s(x))` with :math:`f(x) = N_2(W_2 * \phi(N_1(W_1 * x)))`, :math:`\phi` = ReLU,
    kernels 3x3. The shortcut s is the identity; where channels or stride change it is a normalized 1x1 convolution
    :math:`N_s(W_s * x)` ("projection"), or every second pixel of x with zeros for the new channels ("padding"). The
    stem is a 3x3 convolution, normalized, ReLU; after the stages: average over all pixels (any image size works),
    readout. Counting affine layers along the branches the stem is layer 1, block i = 0, 1, ... (``blocks.i``) is
    layers 2i + 2 and 2i + 3, and the readout is layer `depth`.

    With ``norm_at="last"`` there is one site, of (N, 4w) values, between the average and the readout; with "none" there
    is none. The sites that are left out are `nn.Identity`, and the affine layers before them are not shown to the
    normalizer.

    Shape: (N, in_channels, H, W) in, (N, num_classes) out. Normalizer sites: ``depth + 1`` with projections,
    ``depth - 1`` with padding. Parameters with 3 channels, 10 classes, width 16 and a gain and a shift per channel and
    site: 272,474 at depth 20 and 1,730,714 at 110 with projections; 269,722 and 1,727,962 with padding.

    All weights are drawn by `init`, the readout's too; biases are zero. The weights depend on the generator alone, so
    two normalizers given equal generators start from the same network. Without normalization "he" multiplies the second
    moment by about 2.2 with every block, "xavier" by about 1.3.
    Reference: He et al. 2016, arXiv:1512.03385, section 4.2; as reconstructed from the figures of Bjorck et al. 2018,
    "Understanding batch normalization", arXiv:1806.02375.

    Args:
        in_channels: of the images.
        num_classes: outputs.
        depth: 6n + 2, with n blocks in each stage.
        norm_at: "all" sites, the "last" alone, or "none".
        shortcut: "projection" or "padding".
        init: a name in `normscope.models.INITIALIZERS`.
        normalizer: asked for every site that is there, and for the affine layers that go with them: all of them, the
            readout alone, or none.
        generator: of the weights; the global random state is not used.
        width: w, channels of the stem and of the first stage.
        activation_factory: (num_features, channel_dim) -> the module in place of each ReLU; ReLU if None.
        bias: whether the convolutions have one; the readout always has.

    Raises:
        ValueError: a size is not a positive integer, depth is not 6n + 2, a choice is none of those above; an input of
            another shape arrives.
        TypeError: `normalizer` is not one, or `activation_factory` makes no module.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        depth: int = 110,
        norm_at: NormAt = "all",
        shortcut: Shortcut = "projection",
        init: Init = "xavier",
        normalizer: NormalizerLike,
        generator: torch.Generator,
        width: int = 16,
        activation_factory: ActivationFactory | None = None,
        bias: bool = False,
    ) -> None:
        require_positive(in_channels=in_channels, num_classes=num_classes, depth=depth, width=width)
        require_one_of(get_args(NormAt), norm_at=norm_at)
        require_one_of(get_args(Shortcut), shortcut=shortcut)
        require_one_of(INITIALIZERS, init=init)
        plan = _plan(_blocks_per_stage(depth), width)
        require_normalizer(normalizer)
        super().__init__()
        self.in_channels = in_channels
        inside = normalizer if norm_at == "all" else _LeftOut()
        outside = _LeftOut() if norm_at == "none" else normalizer
        made: dict[str, Any] = {"init": init, "normalizer": inside, "generator": generator, "bias": bias}
        self.stem = _conv(in_channels, width, 3, **made)
        self.norm = inside.site(width, ndim=4)
        self.activation = make_activation(activation_factory, width, channel_dim=1)
        self.blocks = nn.ModuleList(
            BasicBlock(fan_in, fan_out, stride=stride, shortcut=shortcut, activation_factory=activation_factory, **made)
            for fan_in, fan_out, stride in plan
        )
        channels = 4 * width
        self.last_norm = outside.site(channels, ndim=2) if norm_at == "last" else nn.Identity()
        self.readout = outside.affine(
            initialized_linear(channels, num_classes, init=init, bias=True, generator=generator)
        )

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"This CifarResNet takes images of shape (N, {self.in_channels}, H, W), got {tuple(x.shape)}. "
                "Build it with the in_channels of your data, or use MLP for plain features."
            )
        x = self.activation(self.norm(self.stem(x)))  # (N, w, H, W)
        for block in self.blocks:
            x = block(x)  # (N, 4w, H/4, W/4) after the last
        return self.readout(self.last_norm(x.mean((2, 3))))  # type: ignore[no-any-return]


class BasicBlock(nn.Module):
    """One block of `CifarResNet`: (N, in, H, W) -> (N, out, H/stride, W/stride)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int,
        shortcut: Shortcut,
        init: Init,
        normalizer: NormalizerLike,
        generator: torch.Generator,
        activation_factory: ActivationFactory | None,
        bias: bool,
    ) -> None:
        super().__init__()
        made: dict[str, Any] = {"init": init, "normalizer": normalizer, "generator": generator, "bias": bias}
        self.conv1 = _conv(in_channels, out_channels, 3, stride, **made)
        self.norm1 = normalizer.site(out_channels, ndim=4)
        self.activation1 = make_activation(activation_factory, out_channels, channel_dim=1)
        self.conv2 = _conv(out_channels, out_channels, 3, **made)
        self.norm2 = normalizer.site(out_channels, ndim=4)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels or stride != 1:
            if shortcut == "padding":
                self.shortcut = Padding(out_channels - in_channels, stride)
            else:
                projection = _conv(in_channels, out_channels, 1, stride, **made)
                self.shortcut = nn.Sequential(projection, normalizer.site(out_channels, ndim=4))
        self.activation2 = make_activation(activation_factory, out_channels, channel_dim=1)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        branch = self.activation1(self.norm1(self.conv1(x)))
        branch = self.norm2(self.conv2(branch))
        return self.activation2(branch + self.shortcut(x))


class Padding(nn.Module):
    """Every `stride`-th pixel, and channels of zeros behind the others: (N, C, H, W) -> (N, C + new, H', W')."""

    def __init__(self, new_channels: int, stride: int) -> None:
        super().__init__()
        self.new_channels = new_channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))


@dataclass(frozen=True)
class _LeftOut:
    """Stands where no normalizer does: its sites are no sites, and it asks nothing of the affine layers."""

    name: str = "none"
    couples_batch: bool = False

    def site(
        self,
        num_features: int,  # noqa: ARG002
        ndim: int = 4,  # noqa: ARG002
        *,
        channel_dim: int | None = None,  # noqa: ARG002
        order: Order = "affine_norm",  # noqa: ARG002
    ) -> nn.Module:
        return nn.Identity()

    def affine(self, layer: Layer, *, order: Order = "affine_norm") -> Layer:  # noqa: ARG002
        return layer


def _conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    *,
    init: Init,
    normalizer: NormalizerLike,
    generator: torch.Generator,
    bias: bool,
) -> nn.Conv2d:
    layer = initialized_conv2d(
        in_channels, out_channels, kernel_size, stride=stride, init=init, bias=bias, generator=generator
    )
    return normalizer.affine(layer)


def _blocks_per_stage(depth: int) -> int:
    blocks, rest = divmod(depth - 2, 6)
    if blocks < 1 or rest:
        below = max(8, depth - rest)
        raise ValueError(
            f"depth must be 6n + 2 with n blocks per stage, n at least 1, got {depth}. Try {below} or {below + 6}."
        )
    return blocks


def _plan(blocks_per_stage: int, width: int) -> list[tuple[int, int, int]]:
    """(in_channels, out_channels, stride) of every block, in order."""
    widths = [width * scale for scale in (1, 2, 4) for _ in range(blocks_per_stage)]
    strides = [2 if i in (blocks_per_stage, 2 * blocks_per_stage) else 1 for i in range(len(widths))]
    return [(*pair, stride) for pair, stride in zip(itertools.pairwise([width, *widths]), strides, strict=True)]
