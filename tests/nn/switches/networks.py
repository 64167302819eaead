"""Small networks with switches, made the way a study makes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from normscope.models import MLP, NormalizerLike
from normscope.nn import switches

FEATURES, CLASSES, DEPTH, WIDTH = 6, 4, 3, 8


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def switched_mlp(
    normalizer: NormalizerLike, chosen: Sequence[switches.Switch], *, seed: int = 0, depth: int = DEPTH
) -> tuple[nn.Module, switches.Switched]:
    """A float64 MLP whose one-axis parameters are not the trivial ones, and its switched normalizer."""
    generator = torch.Generator().manual_seed(seed)
    switched = switches.apply(normalizer, chosen, generator=generator)
    model = MLP(
        FEATURES,
        CLASSES,
        depth=depth,
        width=WIDTH,
        normalizer=switched,
        activation_factory=switched.activation_factory,
        generator=generator,
    )
    return switched.around(unlike(model.double()), CLASSES).double(), switched


def plain_mlp(normalizer: NormalizerLike, *, seed: int = 0, depth: int = DEPTH) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    return unlike(MLP(FEATURES, CLASSES, depth=depth, width=WIDTH, normalizer=normalizer, generator=generator).double())


def unlike(model: nn.Module) -> nn.Module:
    """The model with gains and shifts of its own at every site, the same for equal sites, thresholds left alone."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 and not name.endswith("threshold"):
                parameter.add_(0.3 * draw(len(parameter), seed=len(parameter)))
    return model


def marked(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(getattr(module, "normalizer_site", None), str)]


def gradients(model: nn.Module, x: Tensor, loss: Callable[[Tensor], Tensor]) -> list[Tensor]:
    parameters = list(model.parameters())
    return list(torch.autograd.grad(loss(model(x)), parameters, allow_unused=True, materialize_grads=True))
