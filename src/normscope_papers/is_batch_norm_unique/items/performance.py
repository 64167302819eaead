"""Table 3: final scores of a WideResNet, two ResNets and a Transformer, in four columns."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from normscope.study import Augment, Data, Experiment, Item, Measurement, Optimizer, Training
from normscope_papers.common.drawing import no_figures
from normscope_papers.common.experiments import Stages, evaluated, every, measured, network, trained
from normscope_papers.is_batch_norm_unique import notes, published, tables
from normscope_papers.is_batch_norm_unique.experiments import ScheduleName, momentum, schedule_of, wide_resnet
from normscope_papers.is_batch_norm_unique.items.table3_fields import FIELDS
from normscope_papers.is_batch_norm_unique.scores import COLUMNS

COUPLED = ("batchnorm", "bmlv", "lmbv")
"""Rows whose evaluation depends on whether running or test-batch statistics are used."""


def table3(
    *,
    columns: tuple[str, ...],
    seeds: int,
    max_eval: int | None,
    penalty_weight: float,
    precision: str,
    checkpoint_every: int | None,
    **fields: Any,
) -> Stages:
    """Every row of every column at every rate of its grid, from every seed.

    The remaining fields belong to one column or to both ImageNet columns, and begin with its name: `cifar10_lrs`.
    """
    found: list[Experiment] = []
    for column in columns:
        if column not in _BUILDERS:
            raise ValueError(f"columns must be among {', '.join(_BUILDERS)}, got {column!r}.")
        prefix, build = _BUILDERS[column]
        own = {name.removeprefix(prefix): value for name, value in fields.items() if name.startswith(prefix)}
        lrs, norms = own.pop("lrs"), own.pop("norms")
        shared: dict[str, Any] = build(max_eval=max_eval, **own) | {
            "condition": column,
            "penalty_weight": penalty_weight,
            "precision": precision,
            "checkpoint_every": checkpoint_every,
        }
        for norm in norms:
            asked = partial(_measured, coupled=column != "lm1b" and norm.name in COUPLED)
            found += every([trained(norm, **shared)], lrs=lrs, seeds=seeds, measurements=asked)
    return tuple(found), None


def _measured(training: Training, *, coupled: bool) -> tuple[Measurement, ...]:
    """The untrained network too: what it scores is chance. With coupled rows, the test batch's own statistics."""
    by_batch = measured("batch_size_accuracy", training.steps, sizes=str(training.batch_size))
    ends = (evaluated(0, training.steps), evaluated(training.steps, split="test"))
    return (*ends, by_batch) if coupled else ends


def _cifar10(
    *,
    max_eval: int | None,
    augment: Augment,
    data: str,
    depth: int,
    width: int,
    dropout: float,
    steps: int,
    batch: int,
    schedule: ScheduleName,
) -> dict[str, Any]:
    return {
        "data": Data(name=data, max_eval=max_eval, augment=augment),
        "model": wide_resnet(depth=depth, width=width, skips=True, dropout=dropout),
        "steps": steps,
        "batch_size": batch,
        "weight_decay": 5e-4,
        "optimizer": momentum,
        "schedule": schedule_of(schedule, steps),
    }


def _imagenet(
    *,
    depth: int,
    max_eval: int | None,
    augment: Augment,
    data: str,
    image_size: int | None,
    buffer: int | None,
    width: int,
    steps: int,
    batch: int,
    warmup: int,
) -> dict[str, Any]:
    return {
        "data": Data(name=data, max_eval=max_eval, augment=augment, image_size=image_size, buffer=buffer),
        "model": network("resnet", depth=depth, width=width),
        "steps": steps,
        "batch_size": batch,
        "weight_decay": 1e-4,
        "optimizer": momentum,
        "schedule": schedule_of("cosine", steps, warmup=warmup),
    }


def _lm1b(
    *,
    max_eval: int | None,
    data: str,
    max_train: int | None,
    buffer: int | None,
    vocabulary: int,
    length: int,
    depth: int,
    dim: int,
    heads: int,
    hidden: int,
    dropout: float,
    steps: int,
    batch: int,
    warmup: int,
) -> dict[str, Any]:
    return {
        "data": Data(
            name=data,
            max_train=max_train,
            max_eval=max_eval,
            sequence_length=length,
            vocabulary=vocabulary,
            buffer=buffer,
        ),
        "model": network("transformer", depth=depth, dim=dim, heads=heads, hidden=hidden, dropout=dropout),
        "steps": steps,
        "batch_size": batch,
        "weight_decay": 0.1,
        "optimizer": _adamw,
        "schedule": schedule_of("rsqrt", steps, warmup=warmup),
    }


def _adamw(lr: float, *, weight_decay: float) -> Optimizer:
    return Optimizer(
        name="adamw", lr=lr, options={"beta1": 0.9, "beta2": 0.98, "eps": 1e-9, "weight_decay": weight_decay}
    )


_BUILDERS: dict[str, tuple[str, Callable[..., dict[str, Any]]]] = {
    "cifar10": ("cifar10_", _cifar10),
    "resnet50": ("imagenet_", partial(_imagenet, depth=50)),
    "resnet101": ("imagenet_", partial(_imagenet, depth=101)),
    "lm1b": ("lm1b_", _lm1b),
}

ITEMS = (
    Item(
        name="table3",
        parts=COLUMNS,
        title="Final scores: WideResNet, ResNet-50, ResNet-101 and Transformer",
        source="Table 3",
        fields=FIELDS,
        study=table3,
        figures=no_figures,
        tables=tables.scores,
        published=published.TABLE_3,
        notes=(
            "Batch-Train is the batchnorm network of the same training, tested with the statistics of test batches of "
            "the training size; bmlv and lmbv, whose table entries may be of that kind [G], are shown both ways.",
            "cifar10, paper scale [F]: SGD with Nesterov momentum 0.9, batch 256, rate 0.1 with factors 1, 0.2, 0.04, "
            "0.008 at epochs 0, 60, 120 and 160 of 200, weight decay 5e-4, dropout 0.3, padded random crops and flips. "
            "The 5,000 validation images are cut from the training set, on which the paper may have trained too.",
            "resnet50 and resnet101, paper scale [F]: rate 0.1 B / 256 with B = 1,024, 5 epochs of warm-up, cosine "
            "over 90 epochs, weight decay 1e-4, the last gain of each block starts at 0. Crops "
            "of random area (0.08 to 1) and shape (3/4 to 4/3), and flips, as Flax has them, but cut from the "
            "224-pixel square that is read, not from the file's own pixels, and bilinear, not bicubic. None keeps gain "
            "and shift there [G]; it does not train without them.",
            "lm1b, paper scale [F]: AdamW (0.9, 0.98), decay 0.1, rate 0.05 with 8,000 steps of warm-up and inverse "
            "square root, 500,000 steps of 2,048 sequences of 32 tokens, 32,000 subwords. The paper's 38.3 against "
            "Flax's own 33.2 says that its run was shorter or smaller.",
            "Paper scale: ImageNet and LM1B are streamed (COLUMN_buffer; with none they are held in memory) and scored "
            "on 10,000 examples of each split, which leaves a sampling error of 0.4 points at 76 %. ImageNet's test "
            "labels are not public: its test examples are 10,000 training images that are held out.",
            "The paper tuned every row alike on an unknown grid [G]; here each column has a grid (COLUMN_lrs), one "
            "rate where nothing else is said, chosen by validation.",
            notes.PENALTY_WEIGHT,
            "A column is judged only where batchnorm (layernorm for text) closes at least half of the gap between the "
            "untrained network and its published score; chance is what the untrained networks score.",
            "laptop, cifar10: WRN-14-1, batch 64, 600 steps (0.9 epochs) with cosine decay, no augmentation and no "
            "dropout, rates 0.03 and 0.1, 2,000 test images.",
            "laptop, resnet50 and resnet101: width 16 instead of 64, 48-pixel images, padded crops of one size, batch "
            "64, 600 steps, one rate. "
            "Sized for 12 classes of Tiny ImageNet (imagenet_data=DIR, 7 epochs, half the gap at 42 and 43 %); with "
            "the 200 that the hub has, so short a training is expected to end 'not judged'.",
            "laptop, lm1b: WikiText-2 in place of LM1B, 2,000 subwords instead of 32,000, 3 blocks of 128 instead of 6 "
            "of 512, no dropout, 300 steps of 64 x 32 tokens.",
            "The laptop sizes were chosen by one training of each column's yardstick, batchnorm or layernorm, alone.",
            "smoke: built-in digits, and for lm1b the built-in text of 8,000 characters; 2 steps: it shows that the "
            "item runs.",
        ),
    ),
)
