from __future__ import annotations

import pytest
import torch
from torch import nn

from normscope.curvature import weight_decay


def test_its_gradient_is_what_sgd_adds_to_weights_and_not_to_biases_and_gains() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Conv1d(3, 2, 2))
    weight_decay(0.3)(model).backward()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.testing.assert_close(parameter.grad, 0.3 * parameter)
        else:
            assert parameter.grad is None


def test_a_model_without_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two axes, but the model has none"):
        weight_decay(0.3)(nn.LayerNorm(3))
