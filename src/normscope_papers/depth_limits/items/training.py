"""Figures 4, 6, F1, F2 and G1 to G4: deep networks in training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from normscope.study import Data, Experiment, Item, Measurement, Optimizer, Training
from normscope_papers.common.data_sets import CIFAR10, CIFAR100, DIGITS, FASHION, MNIST
from normscope_papers.common.experiments import Scalar, Stages, evaluated, identifier, measured
from normscope_papers.depth_limits import notes
from normscope_papers.depth_limits.experiments import STANDARD, deep, spelled
from normscope_papers.depth_limits.figures import training as figures
from normscope_papers.depth_limits.published import training as published

_EPOCHS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The fields of an item that trains; the command line may set each of them.

    Attributes:
        exponent: of the gain, where the activation is not the identity.
        per_epoch: steps of an epoch; it follows from max_train and batch_size, which no recipe counts.
        checkpoint_every: steps between checkpoints, from which an interrupted training goes on.
    """

    data: str
    max_train: int | None
    max_eval: int | None
    activations: tuple[str, ...]
    exponent: float
    depths: tuple[int, ...]
    width: int
    batch_size: int
    per_epoch: int
    epochs: int
    lr: float
    seeds: int
    checkpoint_every: int | None

    @property
    def last(self) -> int:
        """The number of steps."""
        return self.epochs * self.per_epoch

    @property
    def at(self) -> tuple[int, ...]:
        """The steps after so many epochs, the last among them."""
        return tuple(sorted({*(epoch * self.per_epoch for epoch in _EPOCHS if epoch < self.epochs), self.last}))

    def trainings(self, *measurements: Measurement) -> Iterable[Experiment]:
        """Every activation at every depth from every seed."""
        for activation in self.activations:
            for depth in self.depths:
                yield from (self._training(activation, depth, seed, measurements) for seed in range(self.seeds))

    def _training(self, activation: str, depth: int, seed: int, measurements: tuple[Measurement, ...]) -> Experiment:
        options: dict[str, Scalar] = {"activation": activation, "bias": True}
        condition = spelled(activation=activation, layers=depth)
        return Experiment(
            id=identifier(condition, STANDARD.label, f"seed{seed}"),
            data=Data(name=self.data, max_train=self.max_train, max_eval=self.max_eval),
            model=deep(depth, self.width, **options, gain_exponent=0.0 if activation == "identity" else self.exponent),
            norm=STANDARD,
            seed=seed,
            condition=condition,
            training=Training(
                steps=self.last,
                batch_size=self.batch_size,
                optimizer=Optimizer(lr=self.lr, options={"momentum": 0.0}),
                checkpoint_every=self.checkpoint_every,
            ),
            batch_size=self.batch_size,
            measurements=measurements,
        )


def curves(**fields: Any) -> Stages:
    """Figure 4: train accuracy by epoch."""
    setting = Trained(**fields)
    return tuple(setting.trainings(measured("batch_accuracy", *setting.at, split="train"))), None


def generalization(*, short_depths: tuple[int, ...], short_epochs: int, **fields: Any) -> Stages:
    """Figures G1 to G4: train and test accuracy by epoch; identity networks of further depths for a few epochs."""
    setting = Trained(**fields)
    found = [*setting.trainings(*_accuracies(setting))]
    if short_depths:
        short = replace(setting, activations=("identity",), depths=short_depths, epochs=short_epochs)
        found += short.trainings(*_accuracies(short))
    return tuple(found), None


def _accuracies(setting: Trained) -> tuple[Measurement, ...]:
    """Under batch statistics, and of the test images under running statistics too, as an evaluation has them."""
    train, test = (measured("batch_accuracy", *setting.at, split=split) for split in ("train", "test"))
    return train, test, evaluated(*setting.at, split="test")


def weights(**fields: Any) -> Stages:
    """Figures 6, F1 and F2: isometry gap of the weights, and gradients, by layer and epoch."""
    setting = Trained(**fields)
    found = setting.trainings(
        measured("isometry_gap", *setting.at, of="weights"),
        measured("weight_gradient_norm", *setting.at),
        measured("gradient_symmetry", 0, setting.last),
        measured("batch_accuracy", *setting.at, split="train"),
    )
    return tuple(found), None


_PAPER: dict[str, Any] = {
    "data": CIFAR10,
    "max_train": None,
    "max_eval": None,
    "activations": ("identity", "tanh", "sin"),
    "exponent": 0.4,
    "depths": (100, 500, 1000),
    "width": 100,
    "batch_size": 100,
    "per_epoch": 450,
    "epochs": 1000,
    "lr": 0.001,
    "seeds": 3,
    "checkpoint_every": 4500,
}
_LAPTOP = _PAPER | {
    "max_train": 5000,
    "max_eval": 1000,
    "depths": (30, 100),
    "per_epoch": 50,
    "epochs": 250,
    "checkpoint_every": 2500,
}
_SMOKE = _PAPER | {
    "data": DIGITS,
    "max_train": 64,
    "max_eval": 32,
    "activations": ("identity", "tanh"),
    "depths": (3, 6),
    "width": 16,
    "batch_size": 16,
    "per_epoch": 2,
    "epochs": 2,
    "seeds": 2,
    "checkpoint_every": None,
}
_NOTES = (notes.TRAINING, notes.EPOCHS, notes.LAPTOP_TRAINING, notes.PAPER_TRAINING, notes.SMOKE_TRAINING)


def _of_weights(name: str, source: str, activation: str, depths: dict[str, tuple[int, ...]], note: str) -> Item:
    only = {"activations": (activation,)}
    return Item(
        name=name,
        title=f"Isometry gap of the weights and gradients by layer in training, {activation} with shaped gains",
        source=source,
        fields={
            "smoke": _SMOKE | only | {"depths": depths["smoke"]},
            "laptop": _LAPTOP | only | {"depths": depths["laptop"]},
            "paper": _PAPER | only | {"depths": depths["paper"]},
        },
        study=weights,
        figures=figures.weights,
        published=published.FIG_6 if name == "fig6" else (),
        notes=(note, *_NOTES),
    )


def _of_accuracy(name: str, source: str, title: str, data: str, per_epoch: int) -> Item:
    short = {"short_depths": (500,), "short_epochs": 20}
    return Item(
        name=name,
        title=f"Train and test accuracy of deep networks, {title}",
        source=source,
        fields={
            "smoke": _SMOKE | {"short_depths": (12,), "short_epochs": 1},
            "laptop": _LAPTOP | {"data": data} | short,
            "paper": _PAPER | {"data": data, "per_epoch": per_epoch, "short_depths": (), "short_epochs": 0},
        },
        study=generalization,
        figures=figures.accuracies,
        published=published.ACCURACIES[name],
        notes=(
            "Test accuracy is measured under running statistics, as an evaluation has them, and under those of test "
            "batches: identity networks of depth 500 and more fall to chance under the former [P], which the paper "
            "does not remark on. It is judged after a tenth of the paper's steps at least.",
            "laptop: besides, identity networks of depth 500 for 20 epochs, which are too few to judge by.",
            *_NOTES,
        ),
    )


ITEMS = (
    Item(
        name="fig4",
        title="Train accuracy by epoch and depth, with shaped activations and linear",
        source="Figure 4",
        fields={"smoke": _SMOKE, "laptop": _LAPTOP, "paper": _PAPER},
        study=curves,
        figures=figures.curves,
        published=published.FIG_4,
        notes=_NOTES,
    ),
    _of_weights(
        "fig6",
        "Figure 6",
        "tanh",
        {"smoke": (6,), "laptop": (100,), "paper": (1000,)},
        "laptop: depth 100 instead of 1,000, and 250 epochs where the paper's figure goes to 300.",
    ),
    _of_weights(
        "f1",
        "Figure F1",
        "sin",
        {"smoke": (3, 6), "laptop": (30, 100), "paper": (100, 500, 1000)},
        "Figures F1 and F2 are taken to be of sin and of tanh, each with both panels [G].",
    ),
    _of_weights(
        "f2",
        "Figure F2",
        "tanh",
        {"smoke": (3, 6), "laptop": (30, 100), "paper": (100, 500, 1000)},
        "Figures F1 and F2 are taken to be of sin and of tanh, each with both panels [G].",
    ),
    _of_accuracy("g1", "Figure G1", "MNIST", MNIST, 540),
    _of_accuracy("g2", "Figure G2", "Fashion MNIST", FASHION, 540),
    _of_accuracy("g3", "Figure G3", "CIFAR-100", CIFAR100, 450),
    _of_accuracy("g4", "Figure G4", "CIFAR-10", CIFAR10, 450),
)
