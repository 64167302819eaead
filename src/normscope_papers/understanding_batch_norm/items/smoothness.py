"""The measurements of Santurkar et al.: the landscape along the gradient, and internal covariate shift."""

from __future__ import annotations

from typing import Any

import msgspec

from normscope.study import Data, Experiment, Item, Measurement, Model, Norm, Switch
from normscope_papers.common.data_sets import CIFAR10, DIGITS
from normscope_papers.common.experiments import Stages, evaluated, every, measured, network, switch, trained
from normscope_papers.understanding_batch_norm import notes, published
from normscope_papers.understanding_batch_norm.experiments import (
    DEEP_LINEAR,
    NOISY,
    PAIR,
    VGG,
    along_gradient,
    at_least,
    plain_sgd,
)
from normscope_papers.understanding_batch_norm.figures import smoothness as figures

_MAP = Data(name="linear-map")


def smoothness(
    *,
    norms: tuple[Norm, ...],
    points: int,
    seeds: int,
    linear_depth: int,
    linear_steps: int,
    linear_every: int,
    linear_lr: float,
    **fields: Any,
) -> Stages:
    """Loss, gradient and effective smoothness along the gradient, of a VGG and of the deep linear network."""
    lr, every_steps = fields.pop("lr"), fields.pop("every")
    vgg = [_vgg(norm, condition=VGG, **fields) for norm in norms]
    grid = along_gradient("loss_along_gradient", low=lr / 2, high=4 * lr, points=points)
    found = _watched(vgg, lr, seeds, fields["steps"], every_steps, grid, measured("backward_identity"))
    linear = [_deep_linear(norm, depth=linear_depth, steps=linear_steps) for norm in norms]
    grid = along_gradient("loss_along_gradient", low=linear_lr / 100, high=30 * linear_lr, points=points)
    return (*found, *_watched(linear, linear_lr, seeds, linear_steps, linear_every, grid)), None


def covariate_shift(
    *,
    norms: tuple[Norm, ...],
    points: int,
    seeds: int,
    linear_depth: int,
    linear_steps: int,
    linear_every: int,
    linear_lr: float,
    **fields: Any,
) -> Stages:
    """Change of gradients by the layers below, with and without norms, and with noise behind batch norm.

    And of the deep linear network, with and without batch norm.
    """
    lr, every_steps = fields.pop("lr"), fields.pop("every")
    noisy = _vgg(Norm("batchnorm"), condition=NOISY, switches=(switch("noisy_batch_norm"),), **fields)
    variants = [*(_vgg(norm, **fields) for norm in norms), noisy]
    grid = along_gradient("loss_along_gradient", low=lr / 2, high=4 * lr, points=points)
    found = _watched(variants, lr, seeds, fields["steps"], every_steps, grid, measured("covariate_shift", lr=lr))
    linear = [_deep_linear(norm, depth=linear_depth, steps=linear_steps) for norm in PAIR]
    shift = measured("covariate_shift", lr=linear_lr)
    return (*found, *_watched(linear, linear_lr, seeds, linear_steps, linear_every, shift)), None


def _watched(
    trainings: list[Experiment], lr: float, seeds: int, steps: int, every_steps: int, *asked: Measurement
) -> tuple[Experiment, ...]:
    """Each training from every seed with these measurements every so many steps, and evaluated on the way."""
    at_least(1, every=every_steps)
    at = tuple(range(0, steps, every_steps))
    found: list[Experiment] = []
    for training in trainings:
        own = tuple(
            msgspec.structs.replace(one, at=at)
            for one in asked
            if one.probe != "backward_identity" or training.norm.name == "batchnorm"
        )
        classes = training.data != _MAP
        ends = (evaluated(*at, steps), *([evaluated(*at, steps, split="test")] if classes else []))
        found += every([training], lrs=(lr,), seeds=seeds, measurements=lambda _t, m=(*ends, *own): m)  # type: ignore[misc]
    return tuple(found)


def _vgg(
    norm: Norm,
    *,
    data: str,
    max_train: int | None,
    max_eval: int | None,
    depth: int,
    width: int,
    batch_size: int,
    steps: int,
    checkpoint_every: int | None,
    condition: str = "",
    switches: tuple[Switch, ...] = (),
) -> Experiment:
    return trained(
        norm,
        data=Data(name=data, max_train=max_train, max_eval=max_eval),
        model=network("vgg", depth=depth, width=width),
        steps=steps,
        batch_size=batch_size,
        optimizer=plain_sgd,
        condition=condition,
        switches=switches,
        checkpoint_every=checkpoint_every,
    )


def _deep_linear(norm: Norm, *, depth: int, steps: int) -> Experiment:
    """All 1,000 examples in every batch."""
    return trained(
        norm,
        data=_MAP,
        model=Model(family="deep_linear", options={"depth": depth, "width": 10}),
        steps=steps,
        batch_size=1000,
        optimizer=plain_sgd,
        condition=DEEP_LINEAR,
    )


_LP = (Norm("lpnorm", {"p": 1}), Norm("lpnorm", {"p": 2}), Norm("lpnorm", {"p": "inf"}))
_SMOKE: dict[str, Any] = {
    "data": DIGITS,
    "max_train": 128,
    "max_eval": 32,
    "norms": PAIR,
    "depth": 11,
    "width": 2,
    "batch_size": 16,
    "steps": 2,
    "every": 1,
    "points": 3,
    "lr": 0.1,
    "seeds": 1,
    "checkpoint_every": None,
}
_PAPER: dict[str, Any] = _SMOKE | {
    "data": CIFAR10,
    "max_train": None,
    "max_eval": None,
    "width": 64,
    "batch_size": 128,
    "steps": 15_000,
    "every": 50,
    "points": 8,
    "seeds": 3,
    "checkpoint_every": 1000,
}
_LAPTOP = _PAPER | {"max_eval": 1000, "width": 16, "steps": 400, "every": 40, "checkpoint_every": None}
_LINEAR = {"linear_depth": 25, "linear_steps": 10_000, "linear_every": 200, "linear_lr": 1e-3}
_VARIANTS = {"norms": (*PAIR, *_LP)}
_SMOKE_LINEAR = _LINEAR | {"linear_depth": 3, "linear_steps": 2, "linear_every": 1}
_SHORT_LAPTOP = {"steps": 300, "every": 60, "points": 5, "linear_steps": 2000, "linear_every": 100}

ITEMS: tuple[Item, ...] = (
    Item(
        name="smoothness",
        title="Loss, gradient and effective smoothness along the gradient through training",
        source="Santurkar et al., Figures 4 and 9",
        fields={
            "smoke": _SMOKE | _SMOKE_LINEAR,
            "laptop": _LAPTOP | _LINEAR,
            "paper": _PAPER | _LINEAR,
        },
        study=smoothness,
        figures=figures.smoothness,
        published=published.SMOOTHNESS,
        notes=(
            notes.SANTURKAR,
            notes.VGG,
            "Step sizes are half to four times the rate for the VGG and a hundredth to thirty times for the deep "
            "linear network [P]; eight of them, evenly by logarithm [D].",
            "Effective smoothness is measured by step size too: its maximum over the grid saturates at the inverse of "
            "the smallest step [D].",
            notes.DEEP_LINEAR,
            "At every batch norm site of the VGG Theorem 4.1 is checked, as printed and as its derivation gives it "
            "[D]. Theorem 4.2, a bound on the curvature along the gradient by a site's input, is not measured: it "
            "takes second derivatives by activations, which no measurement here has.",
            "laptop: VGG of a quarter of the width (16), 400 steps instead of 15,000, measured at every 40th, 1,000 "
            "test images; the deep linear network at its own size.",
            notes.SMOKE,
        ),
    ),
    Item(
        name="covariate-shift",
        title="Internal covariate shift, noisy batch norm and other norms",
        source="Santurkar et al., Figures 1 to 3, appendix",
        fields={
            "smoke": _SMOKE | _SMOKE_LINEAR | {"norms": (*PAIR, _LP[0])},
            "laptop": _LAPTOP | _LINEAR | _VARIANTS | _SHORT_LAPTOP,
            "paper": _PAPER | _LINEAR | _VARIANTS,
        },
        study=covariate_shift,
        figures=figures.covariate_shift,
        published=published.COVARIATE_SHIFT,
        notes=(
            notes.SANTURKAR,
            notes.VGG,
            "A layer's shift is between its gradient and the gradient after all layers below have taken their step, at "
            "the rate of the training [P]; the paper draws some layers, here their mean and every layer are drawn.",
            notes.DEEP_LINEAR,
            "Noisy batch norm adds noise with a mean and a deviation of their own to every unit, drawn anew at each "
            "step and site [P].",
            "laptop: VGG of a quarter of the width, 300 steps instead of 15,000, measured at every 60th, five step "
            "sizes, 1,000 test images; the deep linear network at its own size, 2,000 steps instead of 10,000, "
            "measured at every 100th.",
            notes.SMOKE,
        ),
    ),
)
