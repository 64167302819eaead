"""Table 3's scores from rows: per seed, beside the published ones, and whether a column can be judged at all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from normscope_papers.common.rows import Score, at_chosen_rate, final_values, pick

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("cifar10", "resnet50", "resnet101", "lm1b")
TEXT = "lm1b"

# Row of the table -> the labels it has in the records. None keeps gain and shift where it would not train otherwise.
LABELS: Mapping[str, list[str]] = {
    "None": ["none", "none:affine=true"],
    "Batch": ["batchnorm"],
    "Batch-Train": ["batchnorm"],
    "Layer": ["layernorm"],
    "PreLayerNorm": ["prelayernorm"],
    "RegNorm": ["regnorm"],
    "PreRegNorm": ["preregnorm"],
    "BMLV": ["bmlv"],
    "LMBV": ["lmbv"],
}

# Column -> row -> (score, uncertainty): per cent, and perplexity in the last column. The last digit of each entry is
# read as the uncertainty of the digit before it: "59.22" is 59.2(2).
PUBLISHED: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "cifar10": {
        "None": (0.0, math.nan),
        "Batch": (95.95, 0.03),
        "Batch-Train": (95.51, 0.02),
        "Layer": (95.65, 0.03),
        "PreLayerNorm": (95.73, 0.03),
        "RegNorm": (95.84, 0.03),
        "PreRegNorm": (95.81, 0.03),
        "BMLV": (95.43, 0.02),
        "LMBV": (95.39, 0.02),
    },
    "resnet50": {
        "None": (71.25, 0.04),
        "Batch": (76.29, 0.03),
        "Batch-Train": (74.78, 0.00),
        "Layer": (66.62, 0.03),
        "PreLayerNorm": (75.10, 0.07),
        "RegNorm": (74.78, 0.02),
        "PreRegNorm": (75.87, 0.08),
        "BMLV": (75.17, 0.04),
        "LMBV": (74.83, 0.07),
    },
    "resnet101": {
        "None": (73.15, 0.03),
        "Batch": (78.10, 0.04),
        "Batch-Train": (76.69, 0.03),
        "Layer": (75.74, 0.05),
        "PreLayerNorm": (77.65, 0.05),
        "RegNorm": (76.72, 0.05),
        "PreRegNorm": (77.45, 0.02),
        "BMLV": (76.81, 0.04),
        "LMBV": (76.08, 0.07),
    },
    "lm1b": {"None": (59.2, 0.2), "Layer": (38.34, 0.01), "PreLayerNorm": (38.00, 0.02)},
}


def unit(column: str) -> str:
    """The unit of a column's scores."""
    return "perplexity" if column == TEXT else "%"


@dataclass(frozen=True, eq=False)
class Column:
    """One column's rows, each training at the rate that validation chose."""

    name: str
    rows: pd.DataFrame

    def scores(self, row: str) -> pd.Series[float]:
        """The score of a row by seed: test accuracy in per cent, or test perplexity; empty where nothing was tested.

        A training that diverged has accuracy 0, or infinite perplexity.
        """
        rows = pick(self.rows, normalizer=LABELS[row])
        if row == "Batch-Train":
            return 100 * pick(rows, probe="batch_size_accuracy", name="test_accuracy").groupby("seed")["value"].mean()
        if self.name == TEXT:
            perplexities: pd.Series[float] = np.exp(final_values(rows, "test_loss").groupby("seed")["value"].mean())
            return perplexities
        return 100 * final_values(rows, "test_accuracy").groupby("seed")["value"].mean()

    def closed(self) -> float:
        """Which share of the gap between chance and its published score the yardstick closes; NaN if unknown.

        The yardstick is batchnorm, and layernorm for text. Chance is what untrained networks score on validation data:
        their mean accuracy; of a text, where random logits only add to the loss log V of a vocabulary of V, the lowest
        loss. Of text, the gap is that of the logarithm of perplexity.
        """
        start = pick(self.rows, probe="evaluation", step=0)
        if self.name == TEXT:
            ours, target = np.log(self.scores("Layer").mean()), np.log(PUBLISHED[self.name]["Layer"][0])
            chance = pick(start, name="validation_loss")["value"].min()
        else:
            ours, target = self.scores("Batch").mean(), PUBLISHED[self.name]["Batch"][0]
            chance = 100 * pick(start, name="validation_accuracy")["value"].mean()
        return float((ours - chance) / (target - chance))

    def judged(self) -> bool:
        """Whether the yardstick closes at least half the gap, so that the column's differences mean something."""
        return self.closed() >= 0.5


def column(frame: pd.DataFrame, name: str) -> Column:
    """The rows of a column."""
    by: Score = "validation_loss" if name == TEXT else "validation_accuracy"
    return Column(name, at_chosen_rate(pick(frame, condition=name), "table3", by=by))
