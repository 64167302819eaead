"""Figures 4, 6, F1, F2 and G1 to G4: deep networks in training."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from normscope.study import Data, Experiment, Item, Measurement, Optimizer, Training
from normscope_papers.common.data_sets import CIFAR10, CIFAR100, DIGITS, FASHION, MNIST
from normscope_papers.common.experiments import Fields, Scalar, Stages, evaluated, identifier, measured
from normscope_papers.depth_limits import notes
from normscope_papers.depth_limits.experiments import STANDARD, deep, spelled
from normscope_papers.depth_limits.figures import training as figures
from normscope_papers.depth_limits.published import training as published

_EPOCHS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 300, 500, 1000)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The fields of an item that trains; the command line may set each of them.

    Attributes:
        exponent: of the gain, where the activation is not the identity.
        per_epoch: steps of an epoch; it follows from max_train and batch_size, which no recipe counts.
        short_depths: further depths, trained with `short_activations` for `short_epochs` from `short_seeds` seeds.
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
    short_depths: tuple[int, ...]
    short_activations: tuple[str, ...]
    short_epochs: int
    short_seeds: int
    checkpoint_every: int | None

    @property
    def last(self) -> int:
        """The number of steps."""
        return self.epochs * self.per_epoch

    @property
    def at(self) -> tuple[int, ...]:
        """The steps after so many epochs, the last among them."""
        return tuple(sorted({*(epoch * self.per_epoch for epoch in _EPOCHS if epoch < self.epochs), self.last}))

    def trainings(self, asked: Callable[[Trained], tuple[Measurement, ...]]) -> tuple[Experiment, ...]:
        """Every activation at every depth from every seed, then those that train for few epochs."""
        short = replace(
            self,
            activations=self.short_activations,
            depths=self.short_depths,
            epochs=self.short_epochs,
            seeds=self.short_seeds,
        )
        return (*self._trainings(asked(self)), *short._trainings(asked(short)))

    def _trainings(self, measurements: tuple[Measurement, ...]) -> Iterable[Experiment]:
        for activation in self.activations:
            for depth in self.depths:
                yield from (self._training(activation, depth, seed, measurements) for seed in range(self.seeds))

    def _training(self, activation: str, depth: int, seed: int, measurements: tuple[Measurement, ...]) -> Experiment:
        options: dict[str, Scalar] = {"activation": activation, "bias": True}
        condition = spelled(activation=activation, width=self.width, layers=depth)
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
    return Trained(**fields).trainings(lambda of: (measured("batch_accuracy", *of.at, split="train"),)), None


def generalization(**fields: Any) -> Stages:
    """Figures G1 to G4: train and test accuracy by epoch, under batch statistics; test accuracy under running ones."""

    def asked(of: Trained) -> tuple[Measurement, ...]:
        train, test = (measured("batch_accuracy", *of.at, split=split) for split in ("train", "test"))
        return train, test, evaluated(*of.at, split="test")

    return Trained(**fields).trainings(asked), None


def weights(**fields: Any) -> Stages:
    """Figures 6, F1 and F2: isometry gap of the weights, gradients and their two parts, by layer and epoch."""

    def asked(of: Trained) -> tuple[Measurement, ...]:
        return (
            measured("isometry_gap", *of.at, of="weights"),
            measured("weight_gradient_norm", *of.at),
            measured("gradient_symmetry", *of.at),
        )

    return Trained(**fields).trainings(asked), None


_ALONE: dict[str, Any] = {"short_depths": (), "short_activations": (), "short_epochs": 0, "short_seeds": 0}
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
    **_ALONE,
    "checkpoint_every": 4500,
}
_LAPTOP = _PAPER | {
    "max_train": 5000,
    "max_eval": 1000,
    "per_epoch": 50,
    "epochs": 50,
    "lr": 0.01,
    "checkpoint_every": 500,
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


def _short(activations: tuple[str, ...], depths: tuple[int, ...], epochs: int, seeds: int) -> dict[str, Any]:
    given = (depths, activations, epochs, seeds)
    return dict(zip(_ALONE, given, strict=True))


def _of_weights(name: str, source: str, activation: str, fields: Fields, *said: str) -> Item:
    only = {"activations": (activation,)}
    base = {"smoke": _SMOKE, "laptop": _LAPTOP, "paper": _PAPER}
    return Item(
        name=name,
        title=f"Isometry gap of the weights and gradients by layer in training, {activation} with shaped gains",
        source=source,
        fields={scale: base[scale] | only | own for scale, own in fields.items()},
        study=weights,
        figures=figures.weights,
        published=published.WEIGHTS[name],
        notes=(*said, notes.SQUARE, notes.PARTS, *_NOTES),
    )


# A tenth as wide as deep, as in the paper, at a cost that allows three seeds.
_NARROW = {"width": 32, "batch_size": 32, "per_epoch": 156, "depths": (100, 320), "epochs": 10}
_NARROW_NOTES = (
    "Figures F1 and F2 are taken to be of sin and of tanh, each with both panels [G].",
    "laptop: width 32, batches of 32, depths 100 and 320, 10 epochs of 156 steps instead of 1,000 of 450.",
)


def _of_accuracy(name: str, data: str, title: str, per_epoch: int, short: dict[str, Any], *said: str) -> Item:
    return Item(
        name=name,
        title=f"Train and test accuracy of deep networks, {title}",
        source=f"Figure {name.upper()}",
        fields={
            "smoke": _SMOKE | _short(("identity",), (12,), 1, 2),
            "laptop": _LAPTOP | {"data": data, "activations": ("identity", "tanh"), "depths": (100,)} | short,
            "paper": _PAPER | {"data": data, "per_epoch": per_epoch},
        },
        study=generalization,
        figures=figures.accuracies,
        published=published.ACCURACIES[name],
        notes=(
            "Test accuracy is measured under running statistics, as an evaluation has them, and under those of test "
            "batches: identity networks of depth 500 and more fall to chance under the former [P], which the paper "
            "does not remark on. It is judged after a tenth of the paper's steps at least.",
            notes.LAPTOP_EPOCHS,
            "laptop: identity and tanh at depth 100.",
            *said,
            *_NOTES,
        ),
    )


ITEMS = (
    Item(
        name="fig4",
        title="Train accuracy by epoch and depth, with shaped activations and linear",
        source="Figure 4",
        fields={
            "smoke": _SMOKE | _short(("identity", "tanh"), (12,), 1, 2),
            "laptop": _LAPTOP | {"depths": (30, 100)} | _short(("identity", "tanh"), (500, 1000), 5, 2),
            "paper": _PAPER,
        },
        study=curves,
        figures=figures.curves,
        published=published.FIG_4,
        notes=(
            notes.LAPTOP_EPOCHS,
            "laptop: depths 30 and 100; besides, identity and tanh at depths 500 and 1,000 for 5 epochs, 2 runs.",
            *_NOTES,
        ),
    ),
    _of_weights(
        "fig6",
        "Figure 6",
        "tanh",
        {
            "smoke": {"depths": (6,)} | _short(("tanh",), (12,), 1, 2),
            "laptop": {"depths": (100,)} | _short(("tanh",), (500, 1000), 10, 3),
            "paper": {"depths": (1000,)},
        },
        "laptop: depth 100 for 50 epochs, 500 and 1,000 for 10, where the paper's figure shows depth 1,000 after 50 to "
        "300 epochs of 500 steps.",
    ),
    _of_weights("f1", "Figure F1", "sin", {"smoke": {}, "laptop": _NARROW, "paper": {}}, *_NARROW_NOTES),
    _of_weights("f2", "Figure F2", "tanh", {"smoke": {}, "laptop": _NARROW, "paper": {}}, *_NARROW_NOTES),
    _of_accuracy(
        "g1",
        MNIST,
        "MNIST",
        540,
        _short(("identity",), (500,), 10, 3),
        "laptop: besides, identity networks of depth 500 for 10 epochs, which are too few to judge by.",
    ),
    _of_accuracy("g2", FASHION, "Fashion MNIST", 540, {}),
    _of_accuracy("g3", CIFAR100, "CIFAR-100", 450, {}),
    _of_accuracy("g4", CIFAR10, "CIFAR-10", 450, {}),
)
