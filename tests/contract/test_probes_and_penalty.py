"""A probe between a training forward and `ns.penalty` leaves the penalty of that forward alone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import normscope as ns
from normscope.probes import GradientCorrelation, GradientNorm, InformationPropagation, Probe, Subject


@pytest.mark.parametrize("probe", [InformationPropagation(), GradientNorm(), GradientCorrelation()])
def test_the_penalty_belongs_to_the_loops_own_forward(probe: Probe) -> None:
    model = nn.Sequential(nn.Linear(8, 8), ns.normalizer("regnorm").site(8, ndim=2), nn.ReLU(), nn.Linear(8, 4))
    x, y = torch.randn(16, 8, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 4
    model(x)
    expected = ns.penalty(model)
    model(x)

    probe(Subject(model, F.cross_entropy, (x + 1, y)), generator=torch.Generator().manual_seed(0))

    assert torch.equal(ns.penalty(model), expected)
