from __future__ import annotations

import pytest
import torch
from torch import nn

from curvature import zoo
from curvature.oracles import Function, assert_close_to
from curvature.test_risk import risk_of
from normscope.curvature.machinery import GGN, HESSIAN, MACHINERIES, Kind, Machinery
from normscope.curvature.parameters import Layout


@pytest.mark.parametrize("machinery", MACHINERIES.values(), ids=lambda machinery: machinery.name)
@pytest.mark.parametrize("kind", [HESSIAN, GGN], ids=lambda kind: kind.name)
def test_a_prepared_product_is_the_matrix_times_the_vector(
    kind: Kind, machinery: Machinery, generator: torch.Generator
) -> None:
    model = zoo.randomized(zoo.mlp(nn.BatchNorm1d, nn.Mish()))
    risk = risk_of(model)
    function = Function(model, nn.functional.cross_entropy, zoo.features())
    matrix = function.ggn() if kind is GGN else function.hessian_by_autograd()
    v = torch.randn(len(matrix), generator=generator, dtype=torch.float64)

    product = machinery.prepare(kind, risk)(risk.layout.split(v))

    assert_close_to(Layout.flatten(product), matrix @ v, tolerance=1e-11)
    assert not any(part.requires_grad for part in product)


@pytest.mark.parametrize("machinery", MACHINERIES.values(), ids=lambda machinery: machinery.name)
def test_what_is_held_between_products_is_not_computed_again(machinery: Machinery) -> None:
    class Counted(nn.Module):
        calls = 0

        def __init__(self) -> None:
            super().__init__()
            self.layer = zoo.mlp()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            Counted.calls += 1
            return self.layer(x)

    risk = risk_of(Counted().double())
    product = machinery.prepare(HESSIAN, risk)
    Counted.calls = 0
    product(risk.values)
    product(risk.values)
    assert Counted.calls == (0 if machinery.held else 2)


def test_rows_are_named_by_themselves_and_each_way_has_one_that_holds_nothing() -> None:
    assert all(row.name == name for name, row in MACHINERIES.items())
    for way in ("tangent", "reverse"):
        assert [row.held > 0 for row in MACHINERIES.values() if row.way == way] == [True, False]


def test_a_kept_graph_refuses_checkpointed_parts() -> None:
    risk = risk_of(zoo.CASES["checkpointed"].build().double())
    with pytest.raises(RuntimeError, match="checkpointed parts run again in every backward pass"):
        MACHINERIES["retained"].prepare(HESSIAN, risk)
