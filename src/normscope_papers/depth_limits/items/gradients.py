"""Figures 2, 3, G5 and G6: gradients of untrained networks against their depth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from normscope.study import Experiment, Item, Measurement, Norm
from normscope_papers.common.data_sets import CIFAR10, DIGITS
from normscope_papers.common.experiments import Scalar, Stages, measured
from normscope_papers.depth_limits import notes
from normscope_papers.depth_limits.experiments import DEPTHS, ROOT, STANDARD, UNIT, deep, untrained
from normscope_papers.depth_limits.figures import gradients as figures
from normscope_papers.depth_limits.published import gradients as published

ENDS = "2 -2"
"""The second weight and the last hidden one."""


@dataclass(frozen=True, kw_only=True)
class Untrained:
    """The fields that items on gradients at initialization share."""

    data: str
    max_train: int | None
    width: int
    depths: tuple[int, ...]
    batch_size: int
    seeds: int

    def at_every_depth(
        self,
        norm: Norm,
        *measurements: Measurement,
        options: dict[str, Scalar] | None = None,
        batch_size: int | None = None,
        **facts: Any,
    ) -> Iterable[Experiment]:
        """Networks of each depth, ascending."""
        for depth in sorted(self.depths):
            yield untrained(
                data=self.data,
                max_train=self.max_train,
                model=deep(depth, self.width, **(options or {})),
                norm=norm,
                seeds=self.seeds,
                batch_size=batch_size or self.batch_size,
                measurements=measurements,
                **facts,
                layers=depth,
            )


def degenerate(*, repeated: int, **fields: Any) -> Stages:
    """Figure 2: a batch of full rank, and one with repeated samples; their ranks, with the shallowest network."""
    setting = Untrained(**fields)
    found: list[Experiment] = []
    for copies in (0, repeated):
        gradient = measured("weight_gradient_norm", 0, layers=ENDS, repeated=copies, theory=True)
        shallowest, *others = setting.at_every_depth(ROOT, gradient, repeated=copies)
        found += [_with(shallowest, measured("batch_rank", 0, repeated=copies)), *others]
    return tuple(found), None


def weights(*, weights: tuple[str, ...], **fields: Any) -> Stages:
    """Figure 3: orthogonal and Gaussian weights; the deepest network's gradients in two parts, at a few layers."""
    setting = Untrained(**fields)
    gradient = measured("weight_gradient_norm", 0, layers=ENDS, theory=True)
    places = (max(2, round(share * max(setting.depths))) for share in (0, 0.25, 0.5, 0.75, 1))
    split = measured("gradient_symmetry", 0, layers=" ".join(map(str, places)))
    found: list[Experiment] = []
    for kind in weights:
        *others, deepest = setting.at_every_depth(ROOT, gradient, options={"weights": kind}, weights=kind)
        found += [*others, _with(deepest, split)]
    return tuple(found), None


def _with(experiment: Experiment, measurement: Measurement) -> Experiment:
    """The same with a further measurement."""
    return msgspec.structs.replace(experiment, measurements=(*experiment.measurements, measurement))


def standard_modules(*, activations: tuple[str, ...], norms: tuple[Norm, ...], **fields: Any) -> Stages:
    """Figure G5: no gain; gradients, and the isometry gap of the last layer with and without its null direction."""
    setting = Untrained(**fields)
    measurements = (
        measured("weight_gradient_norm", 0, layers=ENDS, theory=True),
        measured("isometry_gap", 0, layers="-1"),
        measured("isometry_gap", 0, layers="-1", centered=False),
    )
    found: list[Experiment] = []
    for norm in norms:
        for activation in activations:
            options: dict[str, Scalar] = {"activation": activation}
            found += setting.at_every_depth(norm, *measurements, options=options, activation=activation)
    return tuple(found), None


def centering(*, norms: tuple[Norm, ...], **fields: Any) -> Stages:
    """Figure G6: the gradient by the first weight, with and without subtraction of the mean."""
    setting = Untrained(**fields)
    gradient = measured("weight_gradient_norm", 0, layers="1")
    found: list[Experiment] = []
    for norm in norms:
        found += setting.at_every_depth(norm, gradient)
    return tuple(found), None


PAPER: dict[str, Any] = {
    "data": CIFAR10,
    "max_train": 2000,
    "width": 100,
    "depths": DEPTHS,
    "batch_size": 100,
    "seeds": 10,
}
LAPTOP = PAPER | {"seeds": 5}
SMOKE = PAPER | {"data": DIGITS, "max_train": 256, "width": 16, "depths": (4, 12), "batch_size": 16, "seeds": 2}


def _scales(**fields: Any) -> dict[Any, dict[str, Any]]:
    return {"smoke": SMOKE | fields, "laptop": LAPTOP | fields, "paper": PAPER | fields}


_SHARED = (notes.FLOAT64, notes.RUNS, notes.LAPTOP, notes.SMOKE)

ITEMS = (
    Item(
        name="fig2",
        title="Gradients of deep linear networks on batches of full rank and with repeated samples",
        source="Figure 2",
        fields={
            "smoke": SMOKE | {"repeated": 8},
            "laptop": LAPTOP | {"repeated": 90},
            "paper": PAPER | {"repeated": 90},
        },
        study=degenerate,
        figures=figures.degenerate,
        tables=figures.slopes_table,
        published=published.FIG_2,
        notes=(
            "The paper does not say how many samples are repeated; appendix G speaks of a batch of 10 for the "
            "degenerate one [P], which is read as 10 different samples among 100, 90 of them copies [G]. Theory has 54 "
            "nats over a thousand layers for them, and the figure's 30 for a batch of rank 16 [D]. repeated=N sets "
            "another number, and the item repeated measures several.",
            notes.SECOND,
            notes.ROOT,
            notes.RANK,
            *_SHARED,
        ),
    ),
    Item(
        name="fig3",
        title="Gradients of deep linear networks with orthogonal and with Gaussian weights",
        source="Figure 3",
        fields=_scales(weights=("orthogonal", "xavier")),
        study=weights,
        figures=figures.weights,
        tables=figures.slopes_table,
        published=published.FIG_3,
        notes=(
            notes.SECOND,
            notes.ROOT,
            notes.ANCHORED,
            "Not in the paper: at the greatest depth the gradient times W^T is split into its symmetric and "
            "antisymmetric parts, which explain why orthogonal weights keep gradients [D].",
            *_SHARED,
        ),
    ),
    Item(
        name="g5",
        title="Gradients and the last layer's isometry gap without activation shaping",
        source="Figure G5",
        fields=_scales(activations=("identity", "tanh", "sin"), norms=(ROOT, STANDARD)),
        study=standard_modules,
        figures=figures.standard_modules,
        published=published.FIG_G5,
        notes=(
            "The caption says 'standard modules' [P], yet a standard batch normalization subtracts the mean, after "
            "which as many samples as units cannot be isometric: the gap is infinite [D]. The curve that is plotted "
            "belongs to the operator without subtraction, as in the authors' notebook [C]. Both are measured; of the "
            "standard one the gap also without the null direction.",
            notes.SECOND,
            notes.ANCHORED,
            *_SHARED,
        ),
    ),
    Item(
        name="g6",
        title="Gradients of deep linear networks with and without subtraction of the mean",
        source="Figure G6",
        fields=_scales(norms=(STANDARD, ROOT, UNIT)),
        study=centering,
        figures=figures.centering,
        published=published.FIG_G6,
        notes=(
            "The gradient is that by the first weight, which is not square [C].",
            "The authors' curve without subtraction also lacks the factor √n [C]: bnl2. With the factor alone, "
            "bnl2:moment=rms, the subtraction is all that differs from batchnorm.",
            *_SHARED,
        ),
    ),
)
