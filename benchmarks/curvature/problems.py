"""The networks of the benchmark: two large ones that are timed, small ones whose Hessian is known exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import normscope as ns

Batch = tuple[Tensor, Tensor]
Build = Callable[[torch.Generator], nn.Module]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A network on a batch, cross-entropy, train mode.

    Args:
        name: in cells and tables.
        title: in the page.
        build: the network, its weights drawn from the generator.
        data: "images" (3x32x32), "digits" (64 features) or "digit_images" (1x8x8).
        examples: in the batch.
        steps: of SGD on that batch before anything is measured.
        twin: the same function of the same parameters from elementary operations, where torch's own double backward
            is not to be trusted; None elsewhere.
    """

    name: str
    title: str
    build: Build
    data: str
    examples: int
    steps: int
    twin: Build | None = None


def mlp(*widths: int, norm: Callable[[int], nn.Module] = nn.Identity, act: type[nn.Module] = nn.Tanh) -> Build:
    def build(generator: torch.Generator) -> nn.Module:
        layers: list[nn.Module] = []
        for fan_in, width in zip((64, *widths), widths, strict=False):
            layers += [nn.Linear(fan_in, width), norm(width), act()]
        return drawn(nn.Sequential(*layers, nn.Linear(widths[-1], 10)), generator)

    return build


def convnet(norm: Callable[[int], nn.Module] = nn.Identity, act: type[nn.Module] = nn.Tanh) -> Build:
    def build(generator: torch.Generator) -> nn.Module:
        layers = [
            nn.Conv2d(1, 4, 3, padding=1),
            norm(4),
            act(),
            nn.Conv2d(4, 8, 3, stride=2, padding=1),
            norm(8),
            act(),
        ]
        return drawn(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)), generator)

    return build


def drawn(model: nn.Module, generator: torch.Generator) -> nn.Module:
    """Weights N(0, 1 / fan_in), gains and shifts near their defaults, so that no derivative vanishes by symmetry."""
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
            else:
                parameter.add_(0.1 * noise)
    return model


def row(name: str) -> Build:
    def build(generator: torch.Generator) -> nn.Module:
        normalizer = ns.normalizer(name)
        return ns.models.MLP(64, 10, depth=2, width=10, normalizer=normalizer, generator=generator, activation=F.tanh)

    return build


def weight_normed(generator: torch.Generator) -> nn.Module:
    model = convnet()(generator)
    for index in (0, 3):
        torch.nn.utils.parametrizations.weight_norm(model.get_submodule(str(index)))
    return model


class WeightNormTwin(nn.Module):
    """`weight_normed` with g v / ||v|| written out; parameters in the same order and shapes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.values = nn.ParameterList(nn.Parameter(p.detach().clone()) for p in model.parameters())

    def forward(self, x: Tensor) -> Tensor:
        b0, g0, v0, b3, g3, v3, weight, bias = self.values
        for b, g, v, stride in ((b0, g0, v0, 1), (b3, g3, v3, 2)):
            w = g * v / v.square().sum((1, 2, 3), keepdim=True).sqrt()
            x = F.conv2d(x, w, b, stride=stride, padding=1).tanh()
        return F.linear(x.mean((2, 3)), weight, bias)


def wrn(generator: torch.Generator) -> nn.Module:
    normalizer = ns.as_normalizer(nn.BatchNorm2d)
    return ns.models.WideResNet(
        3, 10, depth=26, widen_factor=1, skips=False, normalizer=normalizer, generator=generator
    )


def deep_mlp(generator: torch.Generator) -> nn.Module:
    return ns.models.MLP(64, 10, depth=8, width=256, normalizer=ns.normalizer("none"), generator=generator)


def batch_only(kind: Callable[..., nn.Module]) -> Callable[[int], nn.Module]:
    return lambda c: kind(c, track_running_stats=False)


def small(name: str, title: str, build: Build, data: str, twin: Build | None = None) -> Problem:
    return Problem(name=name, title=title, build=build, data=data, examples=64, steps=30, twin=twin)


LARGE = (
    Problem(
        name="wrn128",
        title="WRN-26-1 without skips, nn.BatchNorm2d in train mode, 128 images",
        build=wrn,
        data="images",
        examples=128,
        steps=0,
    ),
    Problem(
        name="wrn",
        title="WRN-26-1 without skips, nn.BatchNorm2d in train mode, 512 images",
        build=wrn,
        data="images",
        examples=512,
        steps=0,
    ),
    Problem(name="mlp", title="MLP 8x256, ReLU, 512 digits", build=deep_mlp, data="digits", examples=512, steps=0),
)
SMALL = (
    small("plain", "MLP, ReLU, no normalizer", mlp(8, 8, act=nn.ReLU), "digits"),
    small("silu", "convnet, nn.SiLU", convnet(act=nn.SiLU), "digit_images"),
    small("batchnorm1d", "MLP, nn.BatchNorm1d", mlp(10, norm=nn.BatchNorm1d), "digits"),
    small(
        "batchnorm1d_batch",
        "MLP, nn.BatchNorm1d without running statistics",
        mlp(10, norm=batch_only(nn.BatchNorm1d)),
        "digits",
    ),
    small("batchnorm2d", "convnet, nn.BatchNorm2d", convnet(nn.BatchNorm2d), "digit_images"),
    small(
        "batchnorm2d_batch",
        "convnet, nn.BatchNorm2d without running statistics",
        convnet(batch_only(nn.BatchNorm2d)),
        "digit_images",
    ),
    small("layernorm", "MLP, nn.LayerNorm", mlp(10, norm=nn.LayerNorm), "digits"),
    small("groupnorm", "convnet, nn.GroupNorm", convnet(lambda c: nn.GroupNorm(2, c)), "digit_images"),
    small("prelayernorm", "MLP, normscope's prelayernorm row", row("prelayernorm"), "digits"),
    small(
        "weight_norm",
        "convnet, torch's weight_norm parametrization",
        weight_normed,
        "digit_images",
        twin=lambda generator: WeightNormTwin(weight_normed(generator)),
    ),
)
# Trained far enough that the spectrum has its outliers: error against products is shown on this one.
OUTLIERS = Problem(
    name="outliers",
    title="MLP 64-32-32-10, tanh, 400 steps of SGD on 512 digits",
    build=mlp(32, 32),
    data="digits",
    examples=512,
    steps=400,
)
PROBLEMS = {problem.name: problem for problem in (*LARGE, *SMALL, OUTLIERS)}


def load(problem: Problem, folder: Path, dtype: torch.dtype) -> tuple[nn.Module, Batch]:
    """Model in train mode and batch, as `benchmarks.curvature.prepare` left them in the folder: equal for all tools."""
    model = problem.build(torch.Generator().manual_seed(0))
    with np.load(folder / f"{problem.name}.npz") as stored:
        state = {name[6:]: torch.from_numpy(stored[name]) for name in stored.files if name.startswith("state.")}
        inputs, targets = torch.from_numpy(stored["inputs"]), torch.from_numpy(stored["targets"])
    model.load_state_dict(state)
    return model.to(dtype).train(), (inputs.to(dtype), targets)
