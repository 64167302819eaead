"""One generator per seed and purpose, so that comparisons are paired.

The initial weights, the order of the data and the noise of the probes depend on the trial's seed and on nothing else:
every normalizer and learning rate sees the same draws, and drawing more for one purpose never shifts another.
"""

from __future__ import annotations

import hashlib
from typing import Literal, TypeAlias

import torch

Purpose: TypeAlias = Literal["init", "data", "probe", "augment", "dropout"]


def derive(seed: int, purpose: Purpose, *index: int) -> int:
    """A 63-bit seed, from the SHA-256 of seed, purpose and index (such as the step a probe measures at)."""
    digest = hashlib.sha256(":".join(map(str, (seed, purpose, *index))).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, purpose: Purpose, *index: int) -> torch.Generator:
    """A CPU generator seeded by `derive`; on the CPU, so that every device sees the same draws."""
    return torch.Generator().manual_seed(derive(seed, purpose, *index))
