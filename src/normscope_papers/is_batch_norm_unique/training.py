"""The training that most items share: a WideResNet, every normalizer at every rate, as rows of fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from normscope.study import Data, Experiment, Norm, Switch
from normscope_papers.common.data_sets import CIFAR10, DIGITS
from normscope_papers.common.experiments import named, trained
from normscope_papers.is_batch_norm_unique.experiments import momentum, wide_resnet


@dataclass(frozen=True, kw_only=True)
class WideTraining:
    """The fields of an item that trains WideResNets by SGD; the command line may set each of them.

    Attributes:
        lrs: learning rates searched from one seed; with one rate there is no search.
        seeds: how many train at the chosen rate: 0, 1, ...
        weight_decay: L2, of parameters with more than one dimension ([F]: 5e-4).
        penalty_weight: of RegNorm's penalty, where a row has one [G].
        dropout: before the second convolution of each block ([F]: 0.3).
    """

    data: str
    max_train: int | None
    max_eval: int | None
    augment: Literal["none", "crop_flip"]
    norms: tuple[Norm, ...]
    depth: int
    width: int
    skips: bool
    dropout: float
    steps: int
    batch_size: int
    lrs: tuple[float, ...]
    seeds: int
    weight_decay: float
    penalty_weight: float

    def training(
        self, norm: Norm, *, condition: str = "", switches: tuple[Switch, ...] = (), skips: bool | None = None
    ) -> Experiment:
        """One network's training, without rate and seed."""
        return trained(
            norm,
            data=Data(name=self.data, max_train=self.max_train, max_eval=self.max_eval, augment=self.augment),
            model=wide_resnet(
                depth=self.depth,
                width=self.width,
                skips=self.skips if skips is None else skips,
                dropout=self.dropout,
            ),
            steps=self.steps,
            batch_size=self.batch_size,
            optimizer=momentum,
            weight_decay=self.weight_decay,
            penalty_weight=self.penalty_weight,
            condition=condition,
            switches=switches,
        )

    def trainings(self) -> tuple[Experiment, ...]:
        """Every normalizer's training."""
        return tuple(self.training(norm) for norm in self.norms)


SMOKE: dict[str, Any] = {
    "data": DIGITS,
    "max_train": 128,
    "max_eval": 64,
    "augment": "none",
    "norms": named("batchnorm", "layernorm", "prelayernorm"),
    "depth": 8,
    "width": 1,
    "skips": False,
    "dropout": 0.0,
    "steps": 3,
    "batch_size": 16,
    "lrs": (0.1,),
    "seeds": 1,
    "weight_decay": 5e-4,
    "penalty_weight": 0.1,
}
LAPTOP: dict[str, Any] = {
    "data": CIFAR10,
    "max_train": None,
    "max_eval": 1000,
    "augment": "none",
    "norms": named("none", "batchnorm", "layernorm", "bmlv", "prelayernorm", "regnorm"),
    "depth": 26,
    "width": 1,
    "skips": False,
    "dropout": 0.0,
    "steps": 200,
    "batch_size": 64,
    "lrs": (0.01, 0.03, 0.1),
    "seeds": 3,
    "weight_decay": 5e-4,
    "penalty_weight": 0.1,
}
PAPER: dict[str, Any] = LAPTOP | {
    "max_eval": None,
    "augment": "crop_flip",
    "width": 2,
    "dropout": 0.3,
    "steps": 1000,
    "batch_size": 256,
    "lrs": (0.01, 0.03, 0.1, 0.3, 1.0),
}
