"""Rows whose backward pass is a surrogate: second-order operators refuse them, or get the derivative of the forward."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import normscope as ns
from normscope.curvature import GGNOperator, HessianOperator

from . import zoo

SURROGATES = [row for row in ns.normalizers() if getattr(row, "surrogate_backward", False)]


@pytest.mark.parametrize("operator", [HessianOperator, GGNOperator])
@pytest.mark.parametrize("row", SURROGATES, ids=lambda row: row.name)
def test_a_surrogate_is_refused_in_train_mode_with_its_sites_and_the_remedy(row: Any, operator: Any) -> None:
    model = zoo.row_mlp(row).double()
    names = rf"norms\.0 \({row.name}\), norms\.1 \({row.name}\)"
    with pytest.raises(ValueError, match=f"backward pass of {names} .* derivative='true', or use mode='eval'"):
        operator(model, F.cross_entropy, zoo.features())
    assert operator(model, F.cross_entropy, zoo.features(), mode="eval").report.mode == "eval"
    true = zoo.row_mlp(ns.normalizer(row.name, derivative="true")).double()
    assert operator(true, F.cross_entropy, zoo.features()).report.mode == "train"


def test_any_module_may_declare_a_surrogate() -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    model.surrogate_backward = True  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"the model itself \(Sequential\)"):
        HessianOperator(model, F.cross_entropy, (torch.randn(2, 4), torch.tensor([0, 1])))
