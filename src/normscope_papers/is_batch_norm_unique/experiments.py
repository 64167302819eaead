"""The normalizers, networks, optimizer and schedules that the items of this paper share."""

from __future__ import annotations

from typing import Literal

import msgspec

from normscope.study import Model, Optimizer, Schedule
from normscope_papers.common.experiments import named, network

NAME = "is-batch-norm-unique"

ScheduleName = Literal["constant", "piecewise", "cosine", "rsqrt"]

NINE = named("none", "batchnorm", "layernorm", "weightnorm", "bmlv", "lmbv", "prelayernorm", "regnorm", "preregnorm")
"""Table 1 and what table 3 adds to it. `batchnorm_train` differs from `batchnorm` in eval mode alone."""


def wide_resnet(*, depth: int, width: int, skips: bool, dropout: float = 0.0) -> Model:
    """WideResNet; without skip connections the network of the paper's analyses."""
    plain = network("wrn", depth=depth, width=width, skips=skips)
    return msgspec.structs.replace(plain, options={**plain.options, "dropout": dropout}) if dropout else plain


def momentum(lr: float, *, weight_decay: float) -> Optimizer:
    """SGD with Nesterov momentum 0.9, as in all image experiments ([F] of Flax's examples)."""
    return Optimizer(lr=lr, options={"momentum": 0.9, "weight_decay": weight_decay})


def schedule_of(name: ScheduleName, steps: int, *, warmup: int = 0) -> Schedule:
    """A schedule over so many steps.

    "piecewise" has Flax's factors for CIFAR-10, 1, 0.2, 0.04 and 0.008, changing after 30, 60 and 80 % of the steps:
    60, 120 and 160 of 200 epochs [F].
    """
    if name == "piecewise":
        boundaries = tuple(round(share * steps) for share in (0.3, 0.6, 0.8))
        return Schedule(name=name, options={"boundaries": boundaries, "factors": (1.0, 0.2, 0.04, 0.008)})
    if name == "cosine":
        return Schedule(name=name, options={"total": steps, "warmup": warmup})
    return Schedule(name=name, options={"warmup": warmup} if name == "rsqrt" else {})
