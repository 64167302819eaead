"""Figure 3, and which rates a network without batch norm bears: by depth, and by initialization."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from normscope.study import Data, Experiment, Item, Measurement, Norm, Training
from normscope_papers.common.data_sets import CIFAR10, DIGITS
from normscope_papers.common.experiments import Fields, Stages, evaluated, every, measured, named, trained, untrained
from normscope_papers.understanding_batch_norm import notes, published, tables
from normscope_papers.understanding_batch_norm.experiments import (
    BLOCKS,
    CONTROL,
    along_gradient,
    he_sgd,
    patient,
    residual,
)
from normscope_papers.understanding_batch_norm.figures import step_sizes as figures


def relative_loss(*at: int, points: int) -> Measurement:
    """Figure 3's measurement over the figure's own range of step sizes."""
    return along_gradient("relative_loss", *at, low=1.5e-5, high=0.2, points=points)


def first_batches(
    *,
    data: str,
    max_train: int | None,
    depth: int,
    width: int,
    batch_size: int,
    lr: float,
    none_lr: float,
    minibatches: tuple[int, ...],
    points: int,
    seeds: int,
    weight_decay: float,
) -> Stages:
    """Figure 3: the relative loss on some of the first minibatches of a normal training, before each one's update."""
    found: list[Experiment] = []
    for norm, rate in ((Norm("batchnorm"), lr), (Norm("none"), none_lr)):
        training = patient(
            trained(
                norm,
                data=Data(name=data, max_train=max_train),
                model=residual(depth=depth, width=width),
                steps=max(minibatches),
                batch_size=batch_size,
                weight_decay=weight_decay,
                optimizer=he_sgd,
            )
        )
        asked = relative_loss(*(count - 1 for count in minibatches), points=points)
        found += every([training], lrs=(rate,), seeds=seeds, measurements=lambda _training, asked=asked: (asked,))  # type: ignore[misc]
    return tuple(found), None


def usable_rates(
    *,
    data: str,
    max_train: int | None,
    max_eval: int,
    augment: Literal["none", "crop_flip"],
    depths: tuple[int, ...],
    width: int,
    batch_size: int,
    steps: int,
    lrs: tuple[float, ...],
    points: int,
    seeds: int,
    weight_decay: float,
) -> Stages:
    """Depth against usable rate, without batch norm: trainings at every rate, and the relative loss before them."""
    asked = Data(name=data, max_train=max_train, max_eval=max_eval, augment=augment)
    found: list[Experiment] = []
    for depth in depths:
        model, condition = residual(depth=depth, width=width), f"depth {depth}"
        found += untrained(
            data=msgspec.structs.replace(asked, augment="none"),
            model=model,
            norms=named("none"),
            seeds=seeds,
            batch_size=batch_size,
            measurements=(relative_loss(0, points=points),),
            condition=condition,
        )
        training = patient(
            trained(
                Norm("none"),
                data=asked,
                model=model,
                steps=steps,
                batch_size=batch_size,
                weight_decay=weight_decay,
                optimizer=he_sgd,
                condition=condition,
            )
        )
        found += every([training], lrs=lrs, seeds=seeds, measurements=_at_the_end)
    return tuple(found), None


def initializations(
    *,
    data: str,
    max_train: int | None,
    max_eval: int,
    inits: tuple[str, ...],
    depth: int,
    train_depth: int,
    width: int,
    batch_size: int,
    steps: int,
    lrs: tuple[float, ...],
    points: int,
    seeds: int,
    weight_decay: float,
) -> Stages:
    """Without batch norm, weights drawn by other rules: moments and relative loss, and trainings at every rate.

    Beside these, trainings of the network with batch norm, whose weights are Xavier's.
    """
    asked = Data(name=data, max_train=max_train, max_eval=max_eval)

    def training(norm: str, init: str, condition: str) -> Experiment:
        return patient(
            trained(
                Norm(norm),
                data=asked,
                model=residual(depth=train_depth, width=width, init=init),
                steps=steps,
                batch_size=batch_size,
                weight_decay=weight_decay,
                optimizer=he_sgd,
                condition=condition,
            )
        )

    found: list[Experiment] = []
    for init in inits:
        found += untrained(
            data=asked,
            model=residual(depth=depth, width=width, init=init),
            norms=named("none"),
            seeds=seeds,
            batch_size=batch_size,
            measurements=(measured("channel_moments", 0, modules=BLOCKS), relative_loss(0, points=points)),
            condition=init,
        )
    trainings = [training("batchnorm", "xavier", CONTROL), *(training("none", init, init) for init in inits)]
    return (*found, *every(trainings, lrs=lrs, seeds=seeds, measurements=_at_the_end)), None


def _at_the_end(training: Training) -> tuple[Measurement, ...]:
    """Whether the network that is left gives finite numbers; what it has learned is read from the training losses."""
    return (evaluated(training.steps),)


_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
_INITS = ("xavier", "he", "he_fan_out", "lecun", "small")
_SMOKE: dict[str, Any] = {
    "data": DIGITS,
    "max_train": 128,
    "width": 4,
    "batch_size": 16,
    "points": 6,
    "seeds": 1,
    "weight_decay": 1e-4,
}
_PAPER: dict[str, Any] = _SMOKE | {
    "data": CIFAR10,
    "max_train": None,
    "width": 16,
    "batch_size": 128,
    "points": 26,
    "seeds": 3,
}
_FIRST: Fields = {
    "smoke": _SMOKE | {"depth": 8, "lr": 0.1, "none_lr": 1e-4, "minibatches": (1, 2, 3)},
    "laptop": _PAPER | {"depth": 110, "lr": 0.1, "none_lr": 1e-4, "minibatches": (1, 4, 7)},
    "paper": _PAPER | {"depth": 110, "lr": 0.1, "none_lr": 1e-4, "minibatches": (1, 4, 7), "seeds": 5},
}
_DEPTHS: Fields = {
    "smoke": _SMOKE | {"max_eval": 32, "augment": "none", "depths": (8, 14), "steps": 3, "lrs": (1e-3, 1e-1)},
    "laptop": _PAPER
    | {"max_eval": 500, "augment": "none", "depths": (8, 20, 56), "steps": 36, "lrs": (1e-3, 1e-2, 1e-1)}
    | {"points": 13},
    "paper": _PAPER
    | {"max_eval": 10_000, "augment": "crop_flip", "depths": (8, 20, 32, 56, 110), "steps": 1755, "lrs": _RATES},
}
_ABLATION: Fields = {
    "smoke": _SMOKE
    | {"max_eval": 32, "inits": _INITS[:2], "depth": 8, "train_depth": 8, "steps": 3, "lrs": (1e-3, 1e-1)},
    "laptop": _PAPER
    | {"max_eval": 500, "inits": ("xavier", "he", "small"), "depth": 110, "train_depth": 32}
    | {"steps": 40, "lrs": (1e-1,), "points": 13},
    "paper": _PAPER
    | {"max_eval": 10_000, "inits": _INITS, "depth": 110, "train_depth": 110, "steps": 1755, "lrs": _RATES},
}
_RELATIVE = "The relative loss is that of the batch whose gradient is followed, in train mode: L(θ - η g) / L(θ)."
_USABLE = (
    "A rate is usable where the network learns at it: the training does not diverge, and its mean loss over the last "
    "fifth of the steps is below 0.98 ln 10. To stay below the first loss is no test: deep networks begin far above a "
    "guess, and one that a step has broken stays at a guess for ever. Beside it stands whether the training did not "
    "diverge. Where no rate is usable, the lowest of the grid is taken, where all are, the highest: an end of the grid "
    "is a bound, and two networks at the same end are not told apart."
)
_FEW = (
    "In so few steps small rates teach nothing yet, whatever the network: what is found is how large a rate may be, "
    "not which is the smallest of use, and nothing about where a training ends."
)

ITEMS: tuple[Item, ...] = (
    Item(
        name="fig3",
        title="Relative loss against the size of a step along the gradient, in the first steps of training",
        source="Figure 3",
        fields=_FIRST,
        study=first_batches,
        figures=figures.relative_loss,
        published=published.FIGURE_3,
        notes=(
            _RELATIVE,
            "Divergence is a relative loss above 10^3 [S].",
            "The trainings are those of the paper, batch norm at rate 0.1 and the network without at 1e-4 [P], without "
            "augmentation, so that the measured batch is the one that is trained on next.",
            notes.NETWORK,
            notes.NO_BIAS,
            notes.PATIENT,
            "laptop: the paper's own network and batch, 26 step sizes, three seeds instead of five.",
            notes.SMOKE,
        ),
    ),
    Item(
        name="depth",
        title="Usable learning rate without batch norm against depth",
        source="text",
        fields=_DEPTHS,
        study=usable_rates,
        figures=figures.by_depth,
        tables=tables.usable,
        notes=(
            _USABLE,
            _RELATIVE,
            notes.EPOCH,
            notes.PATIENT,
            "That shallower ResNets bear larger rates is in a secondary source [S]; the paper's numbers are unknown.",
            "laptop: depths 8, 20 and 56, three rates, 36 steps instead of five epochs, no augmentation, 13 step "
            f"sizes. {_FEW}",
            notes.SMOKE,
        ),
    ),
    Item(
        name="initializations",
        title="Other initializations without batch norm",
        source="appendix",
        fields=_ABLATION,
        study=initializations,
        figures=figures.initializations,
        tables=tables.usable,
        notes=(
            "That the paper tries other initializations is remembered [M]; which ones and with what numbers is "
            "unknown. Here: Xavier's, He's by fan-in and by fan-out, LeCun's, and a deviation of 0.01 everywhere.",
            _USABLE,
            _RELATIVE,
            notes.EPOCH,
            notes.PATIENT,
            "Moments and relative loss are of the untrained ResNet-110 (smoke: 8 layers). Trained is beside them the "
            "network with batch norm and Xavier's weights, so that a rate at which none learns in the time is not held "
            "against the others.",
            "laptop: three of the rules (Xavier's and LeCun's agree where a convolution keeps the number of channels, "
            "and so do He's two), 13 step sizes; trainings of ResNet-32 instead of ResNet-110, 40 steps instead of "
            "five epochs, at rate 0.1 alone: deeper networks do not learn in so few steps with batch norm either. "
            f"{_FEW} A network that has not begun to learn by then, as weights of 0.01 may well not have, is not one "
            "that never will.",
            notes.SMOKE,
        ),
    ),
)
