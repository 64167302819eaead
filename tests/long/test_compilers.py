"""Every row under the real compiler backend, which generates code and takes its time."""

from __future__ import annotations

import pytest
import torch

import normscope as ns

pytestmark = pytest.mark.long


# Of batchrenorm's default schedule the first 5000 batches are batch norm, whatever the running statistics are.
ROWS = (*ns.normalizers(), ns.normalizer("batchrenorm", start=0, r_ramp=0, d_ramp=0, momentum=0.3))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_inductor_gives_equal_values_and_gradients(row, training):
    torch.compiler.reset()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 5, 6, 6, generator=generator, dtype=torch.float64).requires_grad_()
    eager = ns.nn.Penalised(row.site(5, dtype=torch.float64)).train(training)
    compiled = torch.compile(ns.nn.Penalised(row.site(5, dtype=torch.float64)).train(training), fullgraph=True)

    def values(module: torch.nn.Module) -> list[torch.Tensor]:
        y, r = module(x)
        return [y, r, *torch.autograd.grad(y.sin().sum() + r, x)]

    for got, want in zip(values(compiled), values(eager), strict=True):
        torch.testing.assert_close(got, want)
