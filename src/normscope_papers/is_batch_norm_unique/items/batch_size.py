"""Figure 5 and section 8: what the size of batches does, in training, in testing and at initialization."""

from __future__ import annotations

from typing import Any, Literal

from normscope.study import Data, Experiment, Item, Measurement, Norm, Training
from normscope_papers.common.experiments import Stages, evaluated, every, measured, named, trained, untrained
from normscope_papers.is_batch_norm_unique import figures, notes
from normscope_papers.is_batch_norm_unique.experiments import ScheduleName, momentum, schedule_of, wide_resnet
from normscope_papers.is_batch_norm_unique.items.initialization import signal
from normscope_papers.is_batch_norm_unique.training import LAPTOP, SMOKE


def batch_size(
    *,
    data: str,
    max_train: int | None,
    max_eval: int | None,
    augment: Literal["none", "crop_flip"],
    coupled: tuple[Norm, ...],
    batch_free: tuple[Norm, ...],
    depth: int,
    width: int,
    skips: bool,
    dropout: float,
    examples: int,
    train_batches: tuple[int, ...],
    batch_free_batch: int,
    test_batches: tuple[int, ...],
    lr_per_example: float,
    schedule: ScheduleName,
    seeds: int,
    weight_decay: float,
    penalty_weight: float,
    init_norms: tuple[Norm, ...],
    init_depth: int,
    init_batches: tuple[int, ...],
    noise: float,
) -> Stages:
    """Train at each batch size on as many examples, test with the statistics of test batches of each size.

    The learning rate goes with the batch size. Beside it, at initialization and without skips, the correlation by
    depth at each of `init_batches`.
    """
    asked = Data(name=data, max_train=max_train, max_eval=max_eval, augment=augment)

    def training(norm: Norm, size: int) -> tuple[Experiment, ...]:
        steps = max(1, examples // size)
        template = trained(
            norm,
            data=asked,
            model=wide_resnet(depth=depth, width=width, skips=skips, dropout=dropout),
            steps=steps,
            schedule=schedule_of(schedule, steps),
            batch_size=size,
            optimizer=momentum,
            weight_decay=weight_decay,
            penalty_weight=penalty_weight,
            condition=f"trained at {size}",
        )
        # Only what couples the batch answers otherwise under the statistics of test batches.
        sizes = test_batches if norm in coupled else ()
        return every([template], lrs=(lr_per_example * size,), seeds=seeds, measurements=lambda t: _tested(t, sizes))

    pairs = [(norm, size) for norm in coupled for size in train_batches]
    pairs += [(norm, batch_free_batch) for norm in batch_free]
    at_start = (
        experiment
        for size in init_batches
        for experiment in untrained(
            data=asked,
            model=wide_resnet(depth=init_depth, width=width, skips=False),
            norms=init_norms,
            seeds=seeds,
            batch_size=size,
            measurements=(signal(1, noise, theory=True),),
            condition=f"batch {size}",
        )
    )
    return (*at_start, *(experiment for pair in pairs for experiment in training(*pair))), None


def _tested(training: Training, sizes: tuple[int, ...]) -> tuple[Measurement, ...]:
    end = training.steps
    by_size = measured("batch_size_accuracy", end, sizes=" ".join(map(str, sizes)))
    return (evaluated(end), evaluated(end, split="test"), *([by_size] if sizes else []))


_COUPLED, _BATCH_FREE = named("batchnorm", "bmlv", "lmbv"), named("layernorm", "prelayernorm", "regnorm")
_SHARED = ("data", "max_train", "max_eval", "augment", "dropout", "weight_decay", "penalty_weight", "seeds", "width")


def _shared(fields: dict[str, Any]) -> dict[str, Any]:
    shared = {name: fields[name] for name in _SHARED}
    return shared | {"coupled": _COUPLED, "batch_free": _BATCH_FREE, "noise": 0.1, "schedule": "constant"}


_LAPTOP = _shared(LAPTOP) | {
    "max_eval": 2000,
    "depth": 14,
    "skips": True,
    "examples": 40_000,
    "train_batches": (16, 64, 256),
    "batch_free_batch": 64,
    "test_batches": (2, 8, 32, 128, 512, 2000),
    "lr_per_example": 0.05 / 64,
    "init_norms": named("batchnorm"),
    "init_depth": 26,
    "init_batches": (4, 16, 64, 256),
}
ITEMS = (
    Item(
        name="fig5",
        title="Test accuracy against the size of test batches whose own statistics are used",
        source="Figure 5",
        fields={
            "smoke": _shared(SMOKE)
            | {
                "coupled": named("batchnorm"),
                "batch_free": named("prelayernorm"),
                "depth": 8,
                "skips": True,
                "examples": 48,
                "train_batches": (8, 16),
                "batch_free_batch": 16,
                "test_batches": (2, 16, 64),
                "lr_per_example": 0.05 / 64,
                "init_norms": named("batchnorm"),
                "init_depth": 8,
                "init_batches": (4, 16),
            },
            "laptop": _LAPTOP,
            "paper": _LAPTOP
            | {
                "max_eval": None,
                "augment": "crop_flip",
                "depth": 26,
                "width": 10,
                "dropout": 0.3,
                "examples": 200 * 45_000,
                "train_batches": (32, 128, 256, 1024),
                "batch_free_batch": 256,
                "test_batches": (2, 8, 32, 128, 512, 2048),
                "lr_per_example": 0.1 / 256,
                "schedule": "piecewise",
                "init_batches": (4, 16, 64, 256, 1024),
            },
        },
        study=batch_size,
        figures=figures.batch_size,
        notes=(
            "The figure's horizontal axis is lost [G]: size of test batches or of training batches. Both are varied: "
            "one panel per training batch, the test batch along x.",
            "The network of the figure is not named; table 3's (width 10, with skips) is taken for paper scale [G].",
            "The learning rate goes with the batch size (0.1 at 256, laptop 0.05 at 64) and is not searched [G]; every "
            "network sees the same number of examples.",
            "Batches of test images are random and mix the classes; what is left over of the test set is left out.",
            "The correlation by depth at each batch size is section 8's first sentence, without a figure in the paper.",
            notes.PENALTY_WEIGHT,
            "laptop: WRN-14-1 instead of WRN-26-10, 40,000 examples (an epoch) instead of 200 epochs at a constant "
            "rate, training batches 16, 64 and 256, 2,000 test images.",
            notes.SMOKE,
        ),
    ),
)
