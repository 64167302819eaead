"""The problem of the deep linear network: to find a random linear map from what it does to random vectors."""

from __future__ import annotations

import hashlib

import torch

from normscope.data import Dataset, Split

LINEAR_MAP = "linear-map"
"""What a recipe calls it."""

_SIDE = 10
_TRAIN, _EVAL = 1000, 200


def linear_map(*, max_train: int | None, max_eval: int | None) -> Dataset:
    r"""Vectors :math:`x \sim N(0, I_{10})` with :math:`y = A x`, the entries of A standard Gaussian; always the same.

    1,000 for training, 200 each for validation and test. A network with N outputs is trained on them by its squared
    distance from y (`building.data_loss`).

    Source: Santurkar et al., "How does batch normalization help optimization?", arXiv:1805.11604, appendix A.2.
    """
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(_SIDE, _SIDE, generator=generator)
    splits = []
    for size, limit in ((_TRAIN, max_train), (_EVAL, max_eval), (_EVAL, max_eval)):
        vectors = torch.randn(size, _SIDE, generator=generator)[:limit]
        splits.append(Split(vectors, vectors @ matrix.T))
    digest = hashlib.sha256(matrix.numpy().tobytes())
    for split in splits:
        digest.update(split.inputs.numpy().tobytes())
    return Dataset(
        name=LINEAR_MAP,
        train=splits[0],
        validation=splits[1],
        test=splits[2],
        num_classes=_SIDE,
        classes=tuple(map(str, range(_SIDE))),
        sha256=digest.hexdigest(),
        note="drawn anew by a fixed generator",
        task="regression",
    )
