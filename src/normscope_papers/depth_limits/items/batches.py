"""Table D1, and what the paper did not test: fewer and more samples than units, and how many samples are repeated."""

from __future__ import annotations

from typing import Any

from normscope.study import Experiment, Item
from normscope_papers.common.data_sets import CIFAR10, CIFAR100, DIGITS, FASHION, MNIST
from normscope_papers.common.experiments import Stages, measured
from normscope_papers.depth_limits import notes
from normscope_papers.depth_limits.experiments import ROOT, deep, untrained
from normscope_papers.depth_limits.figures import batches as figures
from normscope_papers.depth_limits.items.gradients import ENDS, LAPTOP, PAPER, SMOKE, Untrained
from normscope_papers.depth_limits.published import batches as published

SETS = ("cifar10", "mnist", "fashion", "cifar100")


def ranks(
    *, sets: tuple[str, ...], sizes: tuple[int, ...], batches: int, max_train: int | None, seeds: int, **places: str
) -> Stages:
    """Table D1: the rank of batches of each size; the network behind them is the least there is."""
    found = []
    for name in sets:
        if name not in SETS:
            raise ValueError(f"sets must be among {', '.join(SETS)}, got {name!r}.")
        for size in sizes:
            found.append(
                untrained(
                    data=places[f"{name}_data"],
                    max_train=max_train,
                    model=deep(1, 2),
                    norm=ROOT,
                    seeds=seeds,
                    batch_size=size,
                    measurements=(
                        measured("batch_rank", 0, batches=batches, raw=True, precision="float32"),
                        measured("batch_rank", 0, batches=batches, raw=True, precision="float64"),
                        measured("batch_rank", 0, batches=batches, precision="float64"),
                    ),
                    data_set=name,
                    samples=size,
                )
            )
    return tuple(found), None


def samples(*, samples: tuple[int, ...], **fields: Any) -> Stages:
    """Batches with fewer samples than units, as many, and more."""
    setting = Untrained(**fields, batch_size=max(samples))
    gradient = measured("weight_gradient_norm", 0, layers=ENDS, theory=True)
    found: list[Experiment] = []
    for size in samples:
        found += setting.at_every_depth(ROOT, gradient, batch_size=size, width=setting.width, samples=size)
    return tuple(found), None


def repeated(*, repeated: tuple[int, ...], **fields: Any) -> Stages:
    """Batches in which so many samples are copies."""
    setting = Untrained(**fields)
    found: list[Experiment] = []
    for copies in repeated:
        gradient = measured("weight_gradient_norm", 0, layers=ENDS, repeated=copies, theory=True)
        found += setting.at_every_depth(ROOT, gradient, repeated=copies)
    return tuple(found), None


def _without_batch(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "batch_size"}


_PLACES = {"cifar10_data": CIFAR10, "mnist_data": MNIST, "fashion_data": FASHION, "cifar100_data": CIFAR100}
_D1: dict[str, Any] = {
    "sets": SETS,
    "sizes": (16, 32, 64, 128, 256, 512),
    "batches": 34,
    "max_train": None,
    "seeds": 3,
    **_PLACES,
}
_SAMPLES = (50, 75, 90, 99, 100, 101, 110, 150)
_REPEATED = (0, 1, 2, 5, 10, 25, 50, 90)
_NOT_TESTED = "not in the paper"

ITEMS = (
    Item(
        name="d1",
        title="Rank of the Gram matrix of a batch",
        source="Table D1",
        fields={
            "smoke": _D1
            | {"sets": ("cifar10", "mnist"), "sizes": (16, 128), "batches": 3, "max_train": 256, "seeds": 2}
            | dict.fromkeys(_PLACES, DIGITS),
            "laptop": _D1 | {"max_train": 5000, "batches": 9},
            "paper": _D1,
        },
        study=ranks,
        figures=figures.ranks,
        tables=figures.rank_table,
        published=published.TABLE_D1,
        notes=(
            "Of pixels, the least value of each channel counting as 0 [G]: the data are standardized here, and the "
            "least pixel of each of these data sets is 0. The rank of standardized images is beside it.",
            "In float32, as torch computes it by default [G], and in float64: the rank counts eigenvalues above n ε "
            "times the largest, and ε is what the drop at n = 512 is about [D].",
            "Batches are drawn without repetition within an epoch; of the smallest laptop set, 5,000 images, 9 batches "
            "of 512 are one.",
            "Data of your own: sets=cifar10,mnist cifar10_data=DIR mnist_data=DIR.",
            "paper: three runs of 34 batches each, so that they have an interval, where the paper has 100 batches [P]. "
            "laptop: 5,000 training images of each set, and runs of 9 batches.",
            "smoke: built-in digits under two of the names.",
        ),
    ),
    Item(
        name="samples",
        title="Gradients against depth with fewer samples than units, as many, and more",
        source=_NOT_TESTED,
        fields={
            "smoke": _without_batch(SMOKE) | {"samples": (8, 16, 24)},
            "laptop": _without_batch(LAPTOP) | {"samples": _SAMPLES},
            "paper": _without_batch(PAPER) | {"samples": _SAMPLES},
        },
        study=samples,
        figures=figures.samples,
        tables=figures.by_samples,
        notes=(
            "The paper has as many samples as units, n = d = 100, everywhere [P]; theory needs a batch of rank d [D].",
            notes.SECOND,
            notes.ROOT,
            notes.RANK,
            notes.FLOAT64,
            notes.RUNS,
            "paper: the widths, depths and runs of figure 3. " + notes.LAPTOP,
            notes.SMOKE,
        ),
    ),
    Item(
        name="repeated",
        title="Gradients against depth by the number of repeated samples",
        source=_NOT_TESTED,
        fields={
            "smoke": SMOKE | {"repeated": (0, 2, 8)},
            "laptop": LAPTOP | {"repeated": _REPEATED},
            "paper": PAPER | {"repeated": _REPEATED},
        },
        study=repeated,
        figures=figures.repeated,
        tables=figures.by_copies,
        notes=(
            "Of n = d = 100 samples so many are copies of the others, with their classes: the rank is 100 less that.",
            notes.SECOND,
            notes.ROOT,
            notes.RANK,
            notes.FLOAT64,
            notes.RUNS,
            "paper: the widths, depths and runs of figure 3. " + notes.LAPTOP,
            notes.SMOKE,
        ),
    ),
)
