"""RegNorm's penalty: through training (App.11), and minimized alone (section 3.2)."""

from __future__ import annotations

from typing import Any

import msgspec

from normscope.study import Data, Item, Measurement, Norm, Optimizer, Schedule, Training
from normscope_papers.common.data_sets import DIGITS, MNIST
from normscope_papers.common.experiments import (
    Stages,
    evaluated,
    every,
    measured,
    named,
    network,
    on_the_way,
    searched,
    trained,
    untrained,
)
from normscope_papers.is_batch_norm_unique import figures, notes
from normscope_papers.is_batch_norm_unique.items.initialization import gradient_norm, signal
from normscope_papers.is_batch_norm_unique.training import LAPTOP, PAPER, SMOKE, WideTraining


def through_training(*, per_decade: int, **fields: Any) -> Stages:
    """App.11: R of every site as training goes on, of rows that minimize it and of rows that do not."""
    setting = WideTraining(**fields)
    return searched(
        setting.trainings(),
        lrs=setting.lrs,
        seeds=setting.seeds,
        measurements=(
            measured("penalty", *on_the_way(setting.steps, per_decade=per_decade)),
            evaluated(setting.steps),
            evaluated(setting.steps, split="test"),
        ),
    )


def minimized(
    *,
    data: str,
    max_train: int | None,
    minimizing: Norm,
    beside: tuple[Norm, ...],
    depth: int,
    width: int,
    batch_size: int,
    batches: int,
    noise: float,
    steps: int,
    lrs: tuple[float, ...],
    seeds: int,
) -> Stages:
    """Section 3.2: minimize the penalty alone, and propagate two similar batches before and after.

    Each rate is a condition of its own: none is chosen by what it does to accuracy.
    """
    asked = Data(name=data, max_train=max_train, max_eval=1000)
    model = network("mlp", depth=depth, width=width)
    before = (signal(batches, noise, theory=True), gradient_norm(batches, theory=True))
    others = untrained(data=asked, model=model, norms=beside, seeds=seeds, batch_size=batch_size, measurements=before)

    def at_both_ends(training: Training) -> tuple[Measurement, ...]:
        ends = (0, training.steps)
        plain = (msgspec.structs.replace(m, at=ends, options={**m.options, "theory": False}) for m in before)
        penalty = measured("penalty", *on_the_way(training.steps, per_decade=3))
        return (*plain, penalty, evaluated(training.steps))

    template = trained(
        minimizing,
        data=asked,
        model=model,
        steps=steps,
        batch_size=batch_size,
        optimizer=_adam,
        schedule=Schedule(name="cosine", options={"total": steps}),
    )
    assert template.training is not None
    alone = msgspec.structs.replace(template.training, objective="penalty")
    found = list(others)
    for lr in lrs:
        at_rate = msgspec.structs.replace(template, training=alone, condition=f"lr={lr:g}")
        found += every([at_rate], lrs=(lr,), seeds=seeds, measurements=at_both_ends)
    return tuple(found), None


def _adam(lr: float, *, weight_decay: float) -> Optimizer:  # noqa: ARG001  (as every optimizer here is asked for)
    return Optimizer(name="adam", lr=lr)


_PENALIZED = named("regnorm", "preregnorm")
_BESIDE = named("batchnorm", "bmlv", "layernorm", "prelayernorm")
_ALONE: dict[str, Any] = {
    "data": MNIST,
    "max_train": 20_000,
    "minimizing": Norm("regnorm"),
    "beside": named("layernorm", "bmlv"),
    "depth": 24,
    "width": 256,
    "batch_size": 128,
    "batches": 4,
    "noise": 0.1,
    "steps": 1000,
    "lrs": (1e-4, 3e-4, 1e-3, 3e-3),
    "seeds": 3,
}
ITEMS = (
    Item(
        name="app11",
        title="RegNorm's penalty through training",
        source="Figure App.11",
        fields={
            "smoke": SMOKE | {"norms": named("regnorm", "layernorm"), "per_decade": 1},
            "laptop": LAPTOP | {"norms": (*_PENALIZED, *_BESIDE), "lrs": (0.03,), "per_decade": 4},
            "paper": PAPER | {"norms": (*_PENALIZED, *_BESIDE), "per_decade": 6},
        },
        study=through_training,
        figures=figures.penalty,
        notes=(
            "Equation 3 is lost: R is reconstructed as the mean over neurons of the squared batch mean, after "
            "normalization and before gain and shift (form A), which is 1 minus the mean batch variance where every "
            "example has unit root mean square. Other forms: norms=regnorm:penalty=B (C, D).",
            "Even where the mean of all data is 0, R of N examples is 1/N on average: the floor in the figure.",
            "R is measured of the other rows too, which do not minimize it.",
            notes.TRAINING,
            notes.PENALTY_WEIGHT,
            notes.LAPTOP_TRAINING + " 200 steps instead of 1,000.",
            notes.ONE_RATE,
            notes.SMOKE,
        ),
    ),
    Item(
        name="propagation",
        title="Minimizing RegNorm's penalty alone turns Layer Norm's propagation into BMLV's",
        source="section 3.2",
        fields={
            "smoke": _ALONE
            | {"data": DIGITS, "max_train": 256, "depth": 6, "width": 32, "batch_size": 16, "batches": 2}
            | {"steps": 5, "lrs": (3e-4, 1e-3), "seeds": 1},
            "laptop": _ALONE,
            "paper": _ALONE | {"max_train": None, "depth": 50, "width": 1000, "steps": 4000, "seeds": 5},
        },
        study=minimized,
        figures=figures.minimized,
        notes=(
            "The paper asserts this in one sentence and shows no figure; the check is reconstructed on a dense "
            "network: 24 layers of 256 units, batches of 128, Adam with cosine decay, for the sum of R alone.",
            "The rate is not in the paper either [G]: four are tried, each as a condition of its own. The claim that "
            "was written down first is judged at 3e-4, another one at the rate that leaves the smallest R.",
            notes.CORRELATION,
            notes.NOISE,
            notes.HE,
            "With a rate that is too large R falls too, but the weights move far and the curve stays high.",
            "laptop: the sizes at which the reconstruction was checked. paper: those of Figure 1 [G].",
            notes.SMOKE,
        ),
    ),
)
