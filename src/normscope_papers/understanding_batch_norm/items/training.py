"""Figure 1 and batch norm at the last layer alone: what training comes to."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import msgspec

from normscope.study import Data, Experiment, Item, Measurement, Norm, Training
from normscope_papers.common.data_sets import CIFAR10, DIGITS
from normscope_papers.common.drawing import no_figures
from normscope_papers.common.experiments import Fields, Stages, evaluated, every, measured, searched, trained
from normscope_papers.understanding_batch_norm import notes, published, tables
from normscope_papers.understanding_batch_norm.experiments import (
    BLOCKS,
    at_least,
    he_sgd,
    patient,
    residual,
    spread,
    stepped,
)
from normscope_papers.understanding_batch_norm.figures.training import training as curves


def training_curves(
    *,
    lrs: tuple[float, ...],
    none_lrs: tuple[float, ...],
    none_steps: int,
    none_depth: int,
    none_cut: int,
    points: int,
    test_points: int,
    train_examples: int,
    **fields: Any,
) -> Stages:
    """Figure 1: accuracies against the share of training, at each rate; and the channel moments on the way.

    Without batch norm the rates above the lowest are of networks of depth `none_depth`, which train for at most
    `none_cut` steps, with the schedule of the whole training.
    """
    at_least(1, none_cut=none_cut)
    seeds = fields.pop("seeds")
    asked = partial(_on_the_way, points=points, test_points=test_points, train_examples=train_examples)
    found = every([_training(Norm("batchnorm"), **fields)], lrs=lrs, seeds=seeds, measurements=asked)
    fields["steps"] = none_steps
    lowest, higher = sorted(none_lrs)[:1], sorted(none_lrs)[1:]
    found += every([_training(Norm("none"), **fields)], lrs=lowest, seeds=seeds, measurements=asked)
    high = _training(Norm("none"), **{**fields, "depth": none_depth})
    if none_cut < none_steps:
        high, asked = _cut(high, none_cut), partial(_at_the_beginning)
    return (*found, *every([high], lrs=higher, seeds=seeds, measurements=asked)), None


def last_layer(*, lrs: tuple[float, ...], seeds: int, **fields: Any) -> Stages:
    """Batch norm everywhere, before the readout alone, and nowhere, each at the rate that validation chooses."""
    trainings = [
        _training(Norm("batchnorm"), condition="everywhere", **fields),
        _training(Norm("batchnorm"), condition="last layer", norm_at="last", **fields),
        _training(Norm("none"), condition="nowhere", **fields),
    ]
    end = fields["steps"]
    return searched(trainings, lrs=lrs, seeds=seeds, measurements=(evaluated(end), evaluated(end, split="test")))


def _on_the_way(training: Training, *, points: int, test_points: int, train_examples: int) -> tuple[Measurement, ...]:
    """Before training the test accuracy is that of a guess, and not measured."""
    at = spread(training.steps, points)
    return (
        evaluated(training.steps),
        evaluated(*spread(training.steps, test_points)[1:], split="test"),
        measured("training_accuracy", *at, examples=train_examples),
        measured("channel_moments", *at, modules=BLOCKS),
    )


def _at_the_beginning(_training: Training) -> tuple[Measurement, ...]:
    """Of a training that diverges in its first steps: nothing that takes longer than these."""
    return (measured("channel_moments", 0, 1, modules=BLOCKS),)


def _cut(training: Experiment, steps: int) -> Experiment:
    assert training.training is not None
    return msgspec.structs.replace(training, training=msgspec.structs.replace(training.training, steps=steps))


def _training(
    norm: Norm,
    *,
    data: str,
    max_train: int | None,
    max_eval: int | None,
    augment: Literal["none", "crop_flip"],
    depth: int,
    width: int,
    batch_size: int,
    steps: int,
    weight_decay: float,
    checkpoint_every: int | None,
    condition: str = "",
    norm_at: str = "all",
) -> Experiment:
    training = trained(
        norm,
        data=Data(name=data, max_train=max_train, max_eval=max_eval, augment=augment),
        model=residual(depth=depth, width=width),
        steps=steps,
        batch_size=batch_size,
        weight_decay=weight_decay,
        optimizer=he_sgd,
        schedule=stepped(steps),
        condition=condition,
        checkpoint_every=checkpoint_every,
    )
    where = {} if norm_at == "all" else {"norm_at": norm_at}
    model = msgspec.structs.replace(training.model, options={**training.model.options, **where})
    return patient(msgspec.structs.replace(training, model=model))


_EPOCH = 45_000 // 128
_SMOKE: dict[str, Any] = {
    "data": DIGITS,
    "max_train": 128,
    "max_eval": 32,
    "augment": "none",
    "depth": 8,
    "width": 4,
    "batch_size": 16,
    "steps": 4,
    "seeds": 1,
    "weight_decay": 1e-4,
    "checkpoint_every": None,
}
_PAPER: dict[str, Any] = _SMOKE | {
    "data": CIFAR10,
    "max_train": None,
    "max_eval": None,
    "augment": "crop_flip",
    "depth": 110,
    "width": 16,
    "batch_size": 128,
    "steps": 165 * _EPOCH,
    "seeds": 5,
    "checkpoint_every": 1000,
}
_LAPTOP = _PAPER | {"depth": 20, "seeds": 3, "checkpoint_every": None}
_RATES = {"lrs": (0.1, 0.003, 0.0001), "none_lrs": (0.1, 0.003, 0.0001)}
_CURVES: Fields = {
    "smoke": _SMOKE
    | _RATES
    | {"none_steps": 4, "none_depth": 8, "none_cut": 4, "points": 3, "test_points": 3, "train_examples": 32},
    "laptop": _LAPTOP
    | _RATES
    | {"steps": 260, "none_steps": 260, "none_depth": 110, "none_cut": 5}
    | {"points": 5, "test_points": 3, "train_examples": 1000},
    "paper": _PAPER
    | _RATES
    | {"none_steps": 2400 * _EPOCH, "none_depth": 110, "none_cut": 2400 * _EPOCH}
    | {"points": 51, "test_points": 51, "train_examples": 10_000},
}
_GRID = (0.1, 0.03, 0.003, 0.0001)
_LAST: Fields = {
    "smoke": _SMOKE | {"lrs": (0.1, 0.003)},
    "laptop": _LAPTOP | {"lrs": (0.1, 0.01), "steps": 180, "max_eval": 1000},
    "paper": _PAPER | {"lrs": _GRID},
}

ITEMS: tuple[Item, ...] = (
    Item(
        name="fig1",
        title="Accuracy against the share of training, with and without batch norm at several rates",
        source="Figure 1",
        fields=_CURVES,
        study=training_curves,
        figures=curves,
        tables=tables.training,
        published=published.FIGURE_1,
        notes=(
            notes.NETWORK,
            notes.HE,
            notes.EPOCH,
            notes.PATIENT,
            notes.NO_BIAS,
            "Training accuracy is that of the first training images, in eval mode and without augmentation; test "
            "accuracy is of all 10,000 images.",
            "The channel moments of every block are measured on the way: heat maps of means and of deviations, which "
            "are not in the paper.",
            notes.LAPTOP_TRAINING.format(depth=20, steps=260, images="all test images", seeds="three"),
            "Without batch norm the paper trains at 0.0001 for about 2,400 epochs [M]; at laptop scale for as many "
            "steps as with it. After 260 steps no network is near the end of its training: whether equal rates give "
            "equal accuracies (c01) is not judged there.",
            "laptop: without batch norm the rates above the lowest are of ResNet-110, the paper's own, since ResNet-20 "
            "bears them. They are expected to diverge at once and get 5 steps, of which nothing but the moments "
            "before and after the first is measured; one that has not diverged by then counts against the claim.",
            notes.SMOKE,
        ),
    ),
    Item(
        name="last-layer",
        title="Batch norm at the last layer alone",
        source="text",
        fields=_LAST,
        study=last_layer,
        figures=no_figures,
        tables=tables.last_layer,
        published=published.LAST_LAYER,
        notes=(
            "One site, before the readout [D]: the paper's words leave open whether it stands before or at the final "
            "layer.",
            "Each network trains from seed 0 at every rate of the grid, and at the rate that validation accuracy "
            "chooses again from every seed.",
            notes.NETWORK,
            notes.HE,
            notes.EPOCH,
            notes.PATIENT,
            notes.LAPTOP_TRAINING.format(
                depth=20, steps=180, images="1,000 test and 1,000 validation images", seeds="three"
            )
            + " Rates 0.1 and 0.01 instead of four.",
            notes.SMOKE,
        ),
    ),
)
