from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from curvature import zoo
from curvature.test_risk import risk_of
from normscope.curvature import memory
from normscope.curvature.memory import available_bytes, graph_bytes


def test_the_graph_of_a_gradient_grows_with_its_examples() -> None:
    model = zoo.randomized(nn.Sequential(nn.Linear(4, 100), nn.Tanh(), nn.Linear(100, 3)))
    few, many = (graph_bytes(risk_of(model, zoo.features(size))) for size in (10, 110))
    # By hand, an example in float64: its input, the activations, and what the loss keeps of 3 logits.
    by_hand = (4 + 100 + 3) * 8
    assert by_hand <= (many - few) / 100 <= by_hand + 100 * 8


def test_a_value_saved_twice_counts_once() -> None:
    class Squares(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = self.layer(x)
            return hidden * hidden * hidden.view(hidden.shape)

    model = zoo.randomized(Squares())
    few, many = (graph_bytes(risk_of(model, zoo.features(size))) for size in (10, 110))
    assert (many - few) / 100 <= (4 + 5 * 3) * 8 + 8


def test_some_memory_is_there() -> None:
    assert 1e7 < available_bytes(torch.device("cpu")) <= math.inf


@pytest.mark.parametrize(
    ("limit", "expected"), [("max", math.inf), ("1000", 600.0), ("100", 0.0), (None, math.inf), ("odd", math.inf)]
)
def test_a_limit_of_the_control_group_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str | None, expected: float
) -> None:
    if limit is not None:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text("400\n")
    monkeypatch.setattr(memory, "Path", lambda path: tmp_path)
    assert memory._group_bytes() == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("MemTotal: 9 kB\nMemAvailable:  3 kB\n", 3072.0), ("MemTotal: 9 kB\n", math.inf), (None, math.inf)],
)
def test_what_the_kernel_says_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, expected: float
) -> None:
    if text is not None:
        (tmp_path / "meminfo").write_text(text)
    monkeypatch.setattr(memory, "Path", lambda path: tmp_path / "meminfo")
    assert memory._kernel_bytes() == expected


@pytest.mark.gpu
def test_a_gpu_has_memory() -> None:
    assert 1e7 < available_bytes(torch.device("cuda", 0)) < 1e13
