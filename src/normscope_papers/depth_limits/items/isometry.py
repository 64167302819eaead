"""Figure 1: the isometry gap of a linear network by depth, with theory; and what one normalization does."""

from __future__ import annotations

from typing import Any

from normscope.study import Item
from normscope_papers.common.data_sets import CIFAR10, DIGITS
from normscope_papers.common.experiments import Stages, measured
from normscope_papers.depth_limits import notes
from normscope_papers.depth_limits.experiments import UNIT, deep, untrained
from normscope_papers.depth_limits.figures import isometry as figures
from normscope_papers.depth_limits.published import isometry as published


def isometry(
    *, data: str, max_train: int | None, widths: tuple[int, ...], depth: int, share: float, seeds: int
) -> Stages:
    """A network of each width on an input near the identity, with as many samples as units."""
    steps = "1 2 -1"
    experiments = tuple(
        untrained(
            data=data,
            max_train=max_train,
            model=deep(depth, width),
            norm=UNIT,
            seeds=seeds,
            batch_size=width,
            measurements=(
                measured("isometry_gap", 0, side="input", near_identity=share, theory=True),
                measured("normalizer_jacobian", 0, layers=steps, near_identity=share),
                measured("aligned_isometry_gap", 0, layers=steps, near_identity=share),
            ),
            width=width,
        )
        for width in widths
    )
    return experiments, None


_PAPER: dict[str, Any] = {
    "data": CIFAR10,
    "max_train": 2000,
    "widths": (10, 50, 100),
    "depth": 100,
    "share": 0.005,
    "seeds": 10,
}

ITEMS = (
    Item(
        name="fig1",
        title="Isometry gap by depth of a linear network near isometry, untrained",
        source="Figure 1",
        fields={
            "smoke": _PAPER | {"data": DIGITS, "max_train": 256, "widths": (6, 12), "depth": 16, "seeds": 2},
            "laptop": _PAPER | {"seeds": 5},
            "paper": _PAPER,
        },
        study=isometry,
        figures=figures.gap,
        tables=figures.decay,
        published=published.FIG_1,
        notes=(
            "The input is (1 - f) I + f u v^T with f = 0.005 and u, v uniform on [0, 1], as many samples as units [C]; "
            "no data set enters but by its classes. The gap is that of what enters each normalization [C].",
            "Width 10 is not in the paper: there the constant of the paper's dashed line is no bound.",
            "Theory: theorem 1 with the constants of its proof; the rate 1 - 2/(d+2) of small gaps, the exact "
            "recursion over one layer, both derived from the paper's definitions [D]; corollary 4. The paper's own "
            "line has a constant C = 0.015 chosen by hand [C].",
            "Also measured, at the first, second and last normalization: the operator norm of its Jacobian (Lemma C.1) "
            "and the gap after one layer with W = U^T (Corollary A.3).",
            notes.LAPTOP,
            notes.SMOKE,
        ),
    ),
)
