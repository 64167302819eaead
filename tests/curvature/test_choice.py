from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from curvature import zoo
from curvature.test_layers import Activation, Cube, Surrogate
from curvature.test_risk import risk_of
from normscope.curvature import HessianOperator
from normscope.curvature.choice import Exactness, seconds_of
from normscope.curvature.machinery import GGN, HESSIAN, MACHINERIES
from normscope.curvature.parameters import Layout
from normscope.curvature.risk import Risk
from normscope.subject import Subject

EVERY = list(MACHINERIES.values())


def test_the_first_right_machinery_is_taken_and_the_reason_against_others_kept() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Activation(Cube), nn.Linear(4, 3)).double()
    exact = Exactness(HESSIAN, risk_of(model), EVERY)
    assert exact.first().name == "retained"
    assert exact.refused.keys() == {"linearized"}
    assert "jvp" in exact.refused["linearized"]


def test_a_machinery_that_keeps_nothing_is_tried_where_its_sibling_is_refused() -> None:
    model = zoo.CASES["checkpointed"].build().double()
    exact = Exactness(HESSIAN, risk_of(model), EVERY)
    assert exact.check(MACHINERIES["retained"]) is None
    assert exact.check(MACHINERIES["double_backward"]).passed


def test_machineries_of_one_way_share_a_check_that_passed() -> None:
    exact = Exactness(HESSIAN, risk_of(zoo.mlp().double()), EVERY)
    assert exact.check(MACHINERIES["retained"]) is exact.check(MACHINERIES["double_backward"])
    assert exact.check(MACHINERIES["retained"]) is not exact.check(MACHINERIES["linearized"])


def test_a_wrong_machinery_is_refused_with_its_error() -> None:
    model = zoo.randomized(nn.Sequential(nn.Linear(4, 4), Activation(Surrogate), nn.Linear(4, 3)))
    exact = Exactness(GGN, risk_of(model), EVERY)
    assert exact.check(MACHINERIES["retained"]) is None
    assert "misses finite differences by" in exact.refused["retained"]
    with pytest.raises(
        ValueError, match=r"ggn are exact or refused, and the layer 1 \(Activation\).*Replace the layer"
    ):
        exact.first()


def test_a_model_is_checked_on_a_few_examples_in_float64() -> None:
    operator = HessianOperator(zoo.mlp(nn.BatchNorm1d), F.cross_entropy, (torch.randn(50, 4), torch.arange(50) % 3))
    assert operator.report.check.examples == 8
    assert operator.report.check.finite_difference < 1e-5


def test_a_model_that_takes_only_its_whole_batch_is_checked_on_it() -> None:
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = zoo.mlp()

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.view(20, 4))

    operator = HessianOperator(Whole().double(), F.cross_entropy, zoo.features(20))
    assert operator.report.check.examples == 20


def test_memory_is_estimated_for_an_example_in_the_products_dtype() -> None:
    model = zoo.mlp(nn.LayerNorm)
    subject = Subject(model, F.cross_entropy, zoo.features(40))
    narrow, wide = (
        Exactness(HESSIAN, Risk.of(subject, Layout.of(model, None), mode="train", dtype=dtype), EVERY).graph_bytes
        for dtype in (torch.float32, torch.float64)
    )
    assert narrow == pytest.approx(wide / 2)
    assert 4 * 8 < wide < 2000


def test_a_product_is_timed() -> None:
    risk = risk_of(zoo.mlp().double())
    assert 0 < seconds_of(lambda v: list(v), risk) < 1
