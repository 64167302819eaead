"""Figures 5, E1 and E2: what gains that shrink with depth do to gradients of networks with activations."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from normscope.study import Experiment, Item
from normscope_papers.common.data_sets import CIFAR10, DIGITS
from normscope_papers.common.experiments import Scalar, Stages, measured
from normscope_papers.depth_limits import notes
from normscope_papers.depth_limits.experiments import BEGINNING, STANDARD, deep, untrained
from normscope_papers.depth_limits.figures import shaping as figures
from normscope_papers.depth_limits.items.gradients import ENDS, LAPTOP, PAPER, SMOKE, Untrained
from normscope_papers.depth_limits.published import shaping as published


def shaped(
    *, activations: tuple[str, ...], exponents: tuple[float, ...], without_gain: tuple[str, ...], **fields: Any
) -> Stages:
    """Figure 5: each activation with each exponent of the gain, and further ones with a gain of 1 alone."""
    pairs = [*itertools.product(activations, exponents), *((activation, 0.0) for activation in without_gain)]
    return _by_exponent(dict.fromkeys(pairs), ENDS, **fields)


def _by_exponent(pairs: Iterable[tuple[str, float]], layers: str, **fields: Any) -> Stages:
    """Gradients of these layers with each activation and exponent of the gain, at every depth."""
    setting = Untrained(**fields)
    gradient = measured("weight_gradient_norm", 0, layers=layers, theory=True)
    found: list[Experiment] = []
    for activation, exponent in pairs:
        options: dict[str, Scalar] = {"activation": activation, "gain_exponent": exponent, "bias": True}
        facts: dict[str, Any] = {"activation": activation, "exponent": exponent}
        found += setting.at_every_depth(STANDARD, gradient, options=options, **facts)
    return tuple(found), None


def constant_gains(
    *,
    data: str,
    max_train: int | None,
    width: int,
    depth: int,
    batch_size: int,
    activations: tuple[str, ...],
    gains: tuple[float, ...],
    at: tuple[int, ...],
    seeds: int,
) -> Stages:
    """Figure E1: the rate of explosion at a few layers of a network whose gain is the same in all of them."""
    rate = measured("explosion_rate", 0, layers=" ".join(map(str, at)), theory=True)
    experiments = tuple(
        untrained(
            data=data,
            max_train=max_train,
            model=deep(depth, width, activation=activation, gain=gain, bias=True),
            norm=STANDARD,
            seeds=seeds,
            batch_size=batch_size,
            measurements=(rate,),
            activation=activation,
            gain=gain,
        )
        for activation in activations
        for gain in gains
    )
    return experiments, None


def exponents(*, activations: tuple[str, ...], exponents: tuple[float, ...], **fields: Any) -> Stages:
    """Figure E2: the rate of explosion at the beginning, by the exponent of the gain; the growth over all layers."""
    return _by_exponent(itertools.product(activations, exponents), f"{BEGINNING} {ENDS}", **fields)


_GAINS = tuple(round(0.1 * tenth, 1) for tenth in range(1, 10))
_EXPONENTS = (*_GAINS, 1.0)
_E1: dict[str, Any] = {
    "data": CIFAR10,
    "max_train": 2000,
    "width": 100,
    "depth": 1000,
    "batch_size": 100,
    "activations": ("tanh", "sin"),
    "gains": _GAINS,
    "at": (100, 200, 400, 800),
    "seeds": 10,
}
_E1_SMOKE: dict[str, Any] = {
    "data": DIGITS,
    "max_train": 256,
    "width": 16,
    "depth": 24,
    "batch_size": 16,
    "gains": (0.3, 0.6, 0.9),
    "at": (12, 20),
    "seeds": 2,
}
_E2: dict[str, Any] = {
    "activations": ("tanh", "sin"),
    "exponents": _EXPONENTS,
    "depths": (100, 200, 500, 1000),
}
_FIG_5: dict[str, Any] = {
    "activations": ("identity", "tanh", "sin"),
    "exponents": (0.0, 0.4),
    "without_gain": ("relu",),
}
_MODULES = "BatchNorm1d with gain and shift, and biases, as in the authors' code [C]."

ITEMS = (
    Item(
        name="fig5",
        title="Gradients of deep networks with and without activation shaping",
        source="Figure 5",
        fields={"smoke": SMOKE | _FIG_5, "laptop": LAPTOP | _FIG_5, "paper": PAPER | _FIG_5},
        study=shaped,
        figures=figures.shaped,
        tables=figures.slopes_table,
        published=published.FIG_5,
        notes=(
            _MODULES,
            notes.SECOND,
            notes.ANCHORED,
            "ReLU is not in the figure: it stands here without gain for theory's rate, ½ log(π/(π-1)) [D].",
            notes.FLOAT64,
            notes.RUNS,
            notes.LAPTOP,
            notes.SMOKE,
        ),
    ),
    Item(
        name="e1",
        title="Rate of explosion against a constant gain",
        source="Figure E1",
        fields={"smoke": _E1 | _E1_SMOKE, "laptop": _E1 | {"seeds": 5}, "paper": _E1},
        study=constant_gains,
        figures=figures.constant_gains,
        tables=figures.power_law,
        published=published.FIG_E1,
        notes=(
            _MODULES,
            "The rate over ten layers is (log‖∇W_{l-10}‖ - log‖∇W_l‖)/10: equation 165 as printed has the opposite "
            "sign, and would make explosion negative; the figure's rates are positive [P].",
            "Dashed: ½ log χ(α) of infinite width [D], ∝ α⁴ at small gains. The paper fits c₁ α^c₂, not saying how.",
            notes.FLOAT64,
            notes.RUNS,
            notes.LAPTOP,
            notes.SMOKE,
        ),
    ),
    Item(
        name="e2",
        title="Rate of explosion against the exponent of a shrinking gain",
        source="Figure E2",
        fields={
            "smoke": SMOKE | _E2 | {"exponents": (0.1, 0.4, 1.0), "depths": (14, 18)},
            "laptop": LAPTOP | _E2,
            "paper": PAPER | _E2,
        },
        study=exponents,
        figures=figures.exponents,
        published=published.FIG_E2,
        notes=(
            _MODULES,
            "The paper's rate is at l = 10, over ten layers [P]. The first weight is not square, and norms of "
            "gradients go with the shape; so it is taken from the second weight to the twelfth [G].",
            "At large exponents that rate is mostly the batch's: images are far from orthogonal, and become so over "
            "tens of layers; of orthogonal ones theory has 0.0014 to 0.0025 at exponent 1 [D].",
            "Not in the paper: the growth of gradients from the last hidden layer to the second, whose bound for all "
            "depths theory puts at exponents above 1/4, as the rate goes with α⁴ [D]; the paper's fit puts it at 1/3.",
            notes.FLOAT64,
            notes.RUNS,
            notes.LAPTOP,
            notes.SMOKE,
        ),
    ),
)
