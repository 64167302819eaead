"""Santurkar et al.: noisy batch norm, internal covariate shift and the l_p norms."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from normscope.study import Claim, Effect
from normscope_papers.common.rows import effect, log, pick, wide
from normscope_papers.understanding_batch_norm.claims.smoothness import (
    HALF_A_DECADE,
    PAIR,
    POINTS,
    accuracies,
    medians,
)
from normscope_papers.understanding_batch_norm.experiments import DEEP_LINEAR, NOISY

if TYPE_CHECKING:
    import pandas as pd

SHIFT = "covariate-shift"
NORMS = {"lpnorm:p=1": "l1", "lpnorm:p=2": "l2", "lpnorm:p=inf": "linf"}

_ALL = (*PAIR, *NORMS)


def noisy(frame: pd.DataFrame, *, beside: str) -> Effect:
    """Noisy batch norm's accuracy minus another's."""
    ours = accuracies(frame, SHIFT, NOISY, _ALL)["batchnorm"]
    theirs = accuracies(frame, SHIFT, "", _ALL)[beside]
    return effect(f"final test accuracy: noisy batchnorm - {beside}", ours - theirs, unit=POINTS)


def shift(frame: pd.DataFrame, name: str, condition: str) -> pd.DataFrame:
    """Internal covariate shift, mean over the layers above the first and through training: seeds x normalizers."""
    rows = pick(frame, item=SHIFT, probe="covariate_shift", name=name, condition=condition)
    rows = rows[rows["depth"] > 1]
    return wide(rows, _ALL)


def shift_distance(frame: pd.DataFrame, *, condition: str) -> Effect:
    """Distance of gradients with batch norm beside that without, in decades."""
    table = shift(frame, "distance", condition)
    what = f"log10 of ‖G - G'‖, mean over layers and training, {_NETWORKS[condition]}: batchnorm - none"
    return effect(what, log(table["batchnorm"] / table["none"], base=10))


def shift_cosine(frame: pd.DataFrame, *, condition: str) -> Effect:
    """Cosine of gradients with batch norm minus that without."""
    table = shift(frame, "cosine", condition)
    what = f"cos(G, G'), mean over layers and training, {_NETWORKS[condition]}: batchnorm - none"
    return effect(what, table["batchnorm"] - table["none"])


def smooth_norm(frame: pd.DataFrame, *, norm: str) -> Effect:
    """The largest distance of gradients over the step sizes without a norm beside that with it, in decades."""
    rows = pick(frame, item=SHIFT, probe="loss_along_gradient", name="gradient_distance", condition="")
    table = medians(rows.groupby(["seed", "normalizer", "step"])["value"].max(), (norm, "none"))
    what = f"log10 of the largest distance of the gradient over step sizes, median through training: none - {norm}"
    return effect(what, log(table["none"] / table[norm], base=10))


def as_accurate(frame: pd.DataFrame, *, norm: str) -> Effect:
    """A norm's accuracy minus batch norm's."""
    table = accuracies(frame, SHIFT, "", _ALL)
    return effect(f"final test accuracy: {norm} - batchnorm", table[norm] - table["batchnorm"], unit=POINTS)


_NETWORKS = {"": "VGG", DEEP_LINEAR: "deep linear network"}

CLAIMS = (
    Claim(
        name="s06-noisy-none",
        statement="Noisy batch norm, whose distributions shift at every step, trains far better than no batch norm.",
        source="Santurkar et al., Figure 2",
        items=(SHIFT,),
        effect=partial(noisy, beside="none"),
        holds="above",
        threshold=2.0,  # points: beyond the sampling error of 1,000 test images
    ),
    Claim(
        name="s06-noisy-batchnorm",
        statement="Noisy batch norm trains about as well as batch norm.",
        source="Santurkar et al., Figure 2",
        items=(SHIFT,),
        effect=partial(noisy, beside="batchnorm"),
        holds="above",
        threshold=-5.0,  # points: "about", beside the differences in how far trainings get
    ),
    *(
        claim
        for condition, name in (("", "vgg"), (DEEP_LINEAR, DEEP_LINEAR))
        for claim in (
            Claim(
                name=f"s07-distance-{name}",
                statement="Batch norm does not reduce internal covariate shift: gradients change as much by the layers "
                f"below ({_NETWORKS[condition]}).",
                source="Santurkar et al., Figure 3",
                items=(SHIFT,),
                effect=partial(shift_distance, condition=condition),
                holds="above",
                threshold=-0.1,  # "not reduced": to no less than four fifths
                remark="The distance goes with the size of the gradient; the cosine does not, and is judged beside it.",
            ),
            Claim(
                name=f"s07-cosine-{name}",
                statement="Batch norm does not reduce internal covariate shift: gradients turn as far by the layers "
                f"below ({_NETWORKS[condition]}).",
                source="Santurkar et al., Figure 3",
                items=(SHIFT,),
                effect=partial(shift_cosine, condition=condition),
                holds="below",
                threshold=0.1,  # a tenth of a cosine is what can be seen
            ),
        )
    ),
    *(
        claim
        for norm, name in NORMS.items()
        for claim in (
            Claim(
                name=f"s08-{name}-smooth",
                statement=f"Dividing by the {name} norm instead makes gradients predictive as well.",
                source="Santurkar et al., text and appendix",
                items=(SHIFT,),
                effect=partial(smooth_norm, norm=norm),
                holds="above",
                threshold=HALF_A_DECADE,
            ),
            Claim(
                name=f"s08-{name}-accuracy",
                statement=f"Dividing by the {name} norm instead trains about as well as batch norm.",
                source="Santurkar et al., text and appendix",
                items=(SHIFT,),
                effect=partial(as_accurate, norm=norm),
                holds="above",
                threshold=-5.0,  # points, as for noisy batch norm
            ),
        )
    ),
)
