"""What the paper publishes as numbers, with the reason why ours may differ; shown beside results, never used as one."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from normscope.study import Effect, Published
from normscope_papers.common.published import known
from normscope_papers.common.rows import effect
from normscope_papers.is_batch_norm_unique import scores

if TYPE_CHECKING:
    import pandas as pd

_GAPS = {
    "cifar10": (
        "The paper's network has 26 layers at width 10 and 200 epochs. Ours is what the record says; at laptop scale "
        "14 layers at width 1, 0.9 epochs, without augmentation."
    ),
    "resnet50": (
        "The paper trains on ImageNet (1,000 classes, 224 pixels) for about 90 epochs. Ours is what the record says; "
        "at laptop scale a quarter of the width on Tiny ImageNet, where fewer classes make any score easier."
    ),
    "resnet101": (
        "The paper trains on ImageNet (1,000 classes, 224 pixels) for about 90 epochs. Ours is what the record says; "
        "at laptop scale a quarter of the width on Tiny ImageNet, where fewer classes make any score easier."
    ),
    "lm1b": (
        "Perplexity is per subword, and compares between equal vocabularies on equal texts only: the paper has LM1B "
        "and some 32,000 subwords; at laptop scale ours are WikiText-2 and 2,000, and the network is far smaller."
    ),
}
_NONE = " The paper's 0.0 says that it fails; here failing is chance, or 0 where it diverges."


def _measured(frame: pd.DataFrame, *, column: str, row: str) -> Effect | None:
    values = scores.column(frame, column).scores(row)
    what = "test perplexity" if column == scores.TEXT else "test accuracy"
    return known(effect(f"{what} of {row}, {column}", values, unit=scores.unit(column)))


TABLE_3 = tuple(
    Published(
        quantity=f"Table 3, {column}",
        normalizer=row,
        value=value,
        uncertainty=None if math.isnan(uncertainty) else uncertainty,
        unit=scores.unit(column),
        measured=partial(_measured, column=column, row=row),
        gap=_GAPS[column] + (_NONE if (column, row) == ("cifar10", "None") else ""),
    )
    for column, entries in scores.PUBLISHED.items()
    for row, (value, uncertainty) in entries.items()
)
"""Every entry of table 3."""
