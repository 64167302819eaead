"""`none` in eval mode: batch norms folded into the layer before them, or kept as gain and shift."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import normscope as ns

from .networks import ResNet, with_random_vectors

SHAPES = {1: (5, 3, 9), 2: (5, 3, 6, 6), 3: (5, 3, 4, 4, 4)}


def test_a_residual_network_is_folded_and_computes_the_same():
    model = with_random_vectors(ResNet()).eval()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    expected = model(x)
    conversion = ns.convert_norm(model, "none", example_inputs=x)
    torch.testing.assert_close(model(x), expected, rtol=1e-10, atol=1e-10)
    assert [row.note for row in conversion.rows] == [
        f"folded into {name}"
        for name in ("stem.0", "blocks.0.conv1", "blocks.0.conv2", "blocks.1.conv1", "blocks.1.conv2")
    ]
    assert not any("bn" in name or name.startswith("stem.1") for name in model.state_dict())
    conversion.revert()
    assert torch.equal(model(x), expected)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_every_convolution_is_folded(axes, transposed):
    kind = getattr(nn, f"Conv{'Transpose' if transposed else ''}{axes}d")
    model = nn.Sequential(kind(3, 6, 2, groups=3, bias=False), getattr(nn, f"BatchNorm{axes}d")(6))
    model = with_random_vectors(model).eval()
    x = torch.randn(SHAPES[axes], dtype=torch.float64)
    expected = model(x)
    conversion = ns.convert_norm(model, "none", example_inputs=x)
    torch.testing.assert_close(model(x), expected, rtol=1e-10, atol=1e-10)
    assert conversion.rows[0].note == "folded into 0"


def test_a_norm_that_follows_no_layer_keeps_what_it_does():
    model = with_random_vectors(nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 1))).eval()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    expected = model(x)
    for inputs in (x, None):
        conversion = ns.convert_norm(model, "none", example_inputs=inputs)
        torch.testing.assert_close(model(x), expected, rtol=1e-10, atol=1e-10)
        assert conversion.rows[0].note == "as a gain and shift of each channel"
        conversion.revert()


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        z = self.conv(x)
        return z + self.bn(z)


def test_a_layer_that_feeds_something_else_is_not_folded_into():
    model = with_random_vectors(Branching()).eval()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    expected = model(x)
    ns.convert_norm(model, "none", example_inputs=x)
    torch.testing.assert_close(model(x), expected, rtol=1e-10, atol=1e-10)


def test_in_train_mode_the_norm_goes_and_the_table_says_so():
    model = with_random_vectors(ResNet()).train()
    conversion = ns.convert_norm(model, "none", example_inputs=torch.randn(2, 3, 6, 6, dtype=torch.float64))
    assert conversion.rows[0].reset == ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
