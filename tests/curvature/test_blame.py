from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from curvature import zoo
from curvature.test_layers import Activation, Once, StraightThrough
from curvature.test_risk import risk_of
from normscope.curvature.blame import culprit
from normscope.curvature.machinery import GGN, HESSIAN, MACHINERIES, Kind

EVERY = list(MACHINERIES.values())


@pytest.mark.parametrize("kind", [HESSIAN, GGN], ids=lambda kind: kind.name)
def test_the_layer_is_named_and_the_right_ones_before_it_are_not(kind: Kind) -> None:
    model = nn.Sequential(zoo.mlp(nn.BatchNorm1d), nn.SiLU(), Activation(StraightThrough), nn.Linear(3, 3)).double()
    assert culprit(kind, risk_of(model), EVERY) == "the layer 2 (Activation)"


def test_of_nested_layers_the_innermost_is_named() -> None:
    block = nn.Sequential(nn.Linear(4, 4), Activation(Once))
    model = nn.Sequential(nn.Sequential(block, nn.Tanh()), nn.Linear(4, 3)).double()
    assert culprit(HESSIAN, risk_of(model), EVERY) == "the layer 0.0.1 (Activation)"


def test_a_model_whose_layers_are_all_right_is_named_itself() -> None:
    class Outside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = zoo.mlp(nn.LayerNorm)

        def forward(self, x: Tensor) -> Tensor:
            return StraightThrough.apply(self.layer(x))

    assert culprit(HESSIAN, risk_of(Outside().double()), EVERY) == "the model outside its layers, or its loss,"


def test_layers_without_anything_to_differentiate_are_passed_over() -> None:
    class Positions(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.arange(x.shape[1])

    model = nn.Sequential(Positions(), nn.Embedding(3, 4), Activation(Once), nn.Linear(4, 3)).double()
    batch = torch.zeros(3, 3, dtype=torch.long), torch.tensor([0, 1, 2])
    assert culprit(HESSIAN, risk_of(model, batch), EVERY) == "the layer 2 (Activation)"


def test_only_the_machineries_at_hand_count() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Activation(Once), nn.Linear(4, 3)).double()
    # Forward mode needs a rule that this layer does not have; reverse mode has a wrong one.
    for name in MACHINERIES:
        assert culprit(HESSIAN, risk_of(model), [MACHINERIES[name]]) == "the layer 1 (Activation)"
    assert "outside" in culprit(HESSIAN, risk_of(zoo.mlp(nn.LayerNorm).double()), EVERY)


def test_no_hook_is_left() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Activation(Once), nn.Linear(4, 3)).double()
    culprit(HESSIAN, risk_of(model), EVERY)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
