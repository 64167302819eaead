"""Figure 1 and batch norm at the last layer alone: what training comes to."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from normscope.study import Data, Experiment, Item, Measurement, Norm
from normscope_papers.common.data_sets import CIFAR10, DIGITS
from normscope_papers.common.drawing import no_figures
from normscope_papers.common.experiments import Fields, Stages, evaluated, every, measured, searched, trained
from normscope_papers.understanding_batch_norm import notes, published, tables
from normscope_papers.understanding_batch_norm.experiments import BLOCKS, he_sgd, patient, residual, spread, stepped
from normscope_papers.understanding_batch_norm.figures.training import training as curves


def training_curves(
    *,
    lrs: tuple[float, ...],
    none_lrs: tuple[float, ...],
    none_steps: int,
    points: int,
    train_examples: int,
    **fields: Any,
) -> Stages:
    """Figure 1: accuracies against the share of training, at each rate; and the channel moments on the way."""
    seeds = fields.pop("seeds")
    steps = {"batchnorm": fields.pop("steps"), "none": none_steps}
    found: list[Experiment] = []
    for norm, rates in ((Norm("batchnorm"), lrs), (Norm("none"), none_lrs)):
        training = _training(norm, steps=steps[norm.name], **fields)
        asked = _on_the_way(steps[norm.name], points, train_examples)
        found += every([training], lrs=rates, seeds=seeds, measurements=lambda _training, asked=asked: asked)  # type: ignore[misc]
    return tuple(found), None


def last_layer(*, lrs: tuple[float, ...], seeds: int, **fields: Any) -> Stages:
    """Batch norm everywhere, before the readout alone, and nowhere, each at the rate that validation chooses."""
    trainings = [
        _training(Norm("batchnorm"), condition="everywhere", **fields),
        _training(Norm("batchnorm"), condition="last layer", norm_at="last", **fields),
        _training(Norm("none"), condition="nowhere", **fields),
    ]
    end = fields["steps"]
    return searched(trainings, lrs=lrs, seeds=seeds, measurements=(evaluated(end), evaluated(end, split="test")))


def _on_the_way(steps: int, points: int, examples: int) -> tuple[Measurement, ...]:
    at = spread(steps, points)
    return (
        evaluated(*at),
        evaluated(*at, split="test"),
        measured("training_accuracy", *at, examples=examples),
        measured("channel_moments", *at, modules=BLOCKS),
    )


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
_LAPTOP = _PAPER | {"max_eval": 1000, "depth": 20, "steps": 450, "seeds": 3, "checkpoint_every": None}
_RATES = {"lrs": (0.1, 0.003, 0.0001), "none_lrs": (0.1, 0.003, 0.0001)}
_CURVES: Fields = {
    "smoke": _SMOKE | _RATES | {"none_steps": 4, "points": 3, "train_examples": 32},
    "laptop": _LAPTOP | _RATES | {"none_steps": 450, "points": 10, "train_examples": 1000},
    "paper": _PAPER | _RATES | {"none_steps": 2400 * _EPOCH, "points": 51, "train_examples": 10_000},
}
_GRID = (0.1, 0.03, 0.003, 0.0001)
_LAST: Fields = {
    "smoke": _SMOKE | {"lrs": (0.1, 0.003)},
    "laptop": _LAPTOP | {"lrs": _GRID, "steps": 400},
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
            notes.PATIENT,
            notes.NO_BIAS,
            "Training accuracy is that of the first training images, in eval mode and without augmentation.",
            "The channel moments of every block are measured on the way: a heat map each, which is not in the paper.",
            notes.LAPTOP_TRAINING.format(depth=20, steps=450, seeds="three"),
            "Without batch norm the paper trains at 0.0001 for about 2,400 epochs [M]; at laptop scale for as many "
            "steps as with it.",
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
            notes.PATIENT,
            notes.LAPTOP_TRAINING.format(depth=20, steps=400, seeds="three"),
            notes.SMOKE,
        ),
    ),
)
