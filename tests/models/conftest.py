from __future__ import annotations

from collections.abc import Callable

import pytest
import torch


@pytest.fixture
def seeded() -> Callable[[int], torch.Generator]:
    return lambda seed: torch.Generator().manual_seed(seed)
