"""Fixtures and gates shared by every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(params=[1, 2, 3])
def seed(request: pytest.FixtureRequest) -> int:
    """For estimators: a claim holds for every one of these."""
    return int(request.param)


@pytest.fixture(autouse=True)
def _layers_start_alike() -> None:
    """Torch's own layers draw their first weights from the global state; without this a test would differ each run."""
    torch.manual_seed(0)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def torchvision_operators() -> Iterator[None]:
    """Let torchvision, and timm with it, import beside a CPU build of torch: they ask for two operators of its own."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    yield
    del library


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device; none here"))
