"""Figure 3: accuracy, correlations and gradient norm through the first steps of training."""

from __future__ import annotations

from typing import Any

from normscope.study import Item
from normscope_papers.common.experiments import Stages, evaluated, measured, on_the_way, searched
from normscope_papers.is_batch_norm_unique import figures, notes
from normscope_papers.is_batch_norm_unique.experiments import NINE
from normscope_papers.is_batch_norm_unique.training import LAPTOP, PAPER, SMOKE, WideTraining


def early_training(*, noise: float, per_decade: int, **fields: Any) -> Stages:
    """Every normalizer at its best rate, measured at so many steps per factor of ten."""
    setting = WideTraining(**fields)
    at = on_the_way(setting.steps, per_decade=per_decade)

    return searched(
        setting.trainings(),
        lrs=setting.lrs,
        seeds=setting.seeds,
        measurements=(
            evaluated(*at, split="test"),
            evaluated(setting.steps),
            measured("information_propagation", *at, select="last", noise=noise),
            measured("gradient_correlation", *at, pairs="similar", by="network", noise=noise),
            measured("gradient_correlation", *at, pairs="independent", by="network"),
            measured("gradient_norm", *at),
        ),
    )


ITEMS = (
    Item(
        name="fig3",
        title="Early training: accuracy, correlation, gradient correlation and gradient norm",
        source="Figure 3",
        fields={
            "smoke": SMOKE | {"noise": 0.1, "per_decade": 1},
            "laptop": LAPTOP | {"norms": NINE, "noise": 0.1, "per_decade": 4},
            "paper": PAPER | {"norms": NINE, "noise": 0.1, "per_decade": 6},
        },
        study=early_training,
        figures=figures.early_training,
        notes=(
            notes.TRAINING,
            notes.PENALTY_WEIGHT,
            notes.CORRELATION.replace("a normalizer site", "the last normalizer site, before the last ReLU,"),
            notes.NOISE,
            notes.SIMILAR_GRADIENTS + " Here it is that of all affine parameters together.",
            "The text does not say what Figure 3(d) shows [G]: the gradient norm, at the first and the last site.",
            notes.LAPTOP_TRAINING + " 200 steps instead of 1,000, three rates instead of five.",
            notes.SMOKE,
        ),
    ),
)
