"""A step of the library's training loop beside the same model in a bare loop."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import normscope as ns
from benchmarks.timing import Ratio, compare
from normscope.train import Objective, fit, sgd

Batch = tuple[Tensor, Tensor]


def models() -> Iterator[tuple[str, Callable[[], nn.Module], Batch]]:
    generator = torch.Generator().manual_seed(0)
    row = ns.normalizer("batchnorm")
    images = torch.randn(64, 1, 8, 8, generator=generator)
    targets = torch.randint(0, 10, (64,), generator=generator)

    def wrn() -> nn.Module:
        return ns.models.WideResNet(
            1, 10, depth=14, widen_factor=1, skips=False, normalizer=row, generator=torch.Generator().manual_seed(0)
        )

    def mlp() -> nn.Module:
        return ns.models.MLP(64, 10, depth=8, width=64, normalizer=row, generator=torch.Generator().manual_seed(0))

    yield "WRN-14-1 without skips, 64x1x8x8", wrn, (images, targets)
    yield "MLP 8x64, batch 64", mlp, (images, targets)


def library_steps(model: nn.Module, batch: Batch, steps: int) -> Callable[[], object]:
    optimizer = sgd(model, lr=1e-3)

    def objective(batch: Batch) -> Objective:
        loss = F.cross_entropy(model(batch[0]), batch[1])
        return Objective(total=loss, loss=loss, parts={})

    return lambda: list(itertools.islice(fit(objective, itertools.repeat(batch), optimizer), steps))


def bare_steps(model: nn.Module, batch: Batch, steps: int) -> Callable[[], object]:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, nesterov=True)

    def run() -> list[float]:
        losses = []
        for _ in range(steps):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    return run


def run(*, pairs: int) -> Iterator[tuple[str, Ratio]]:
    for name, build, batch in models():
        steps = 10
        yield name, compare(library_steps(build(), batch, steps), bare_steps(build(), batch, steps), pairs=pairs)
