"""What claims, tables and figures of this paper read from the rows of a record: curves along step sizes, rates."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from normscope_papers.common.rows import by_seed, pick
from normscope_papers.understanding_batch_norm.experiments import layer_of

if TYPE_CHECKING:
    import pandas as pd

DIVERGENCE = 1e3
"""The relative loss above which the paper calls a step divergent."""


def along(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of a curve along numbers, with the number that `layer` spells in the column `depth`."""
    return rows.assign(depth=rows["layer"].astype(float))


def by_layer(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of blocks or convolutions, with the paper's number of the layer in the column `depth`."""
    return rows.assign(depth=rows["layer"].map(layer_of).astype(float))


def by_normalizer(rows: pd.DataFrame, names: tuple[str, ...], reduce: Callable[[pd.DataFrame], float]) -> pd.DataFrame:
    """One number for the rows of each seed and normalizer: seeds x normalizers; NaN where there are no rows."""
    import pandas as pd

    columns = {name: by_seed(pick(rows, normalizer=name), reduce) for name in names}
    return pd.DataFrame(columns).rename_axis("seed")


def diverging_size(rows: pd.DataFrame) -> float:
    """The smallest step size with a relative loss above `DIVERGENCE`, of one network; the largest where none has.

    A relative loss that is infinite or no number is above it. The largest size is then a lower bound.
    """
    curve = along(pick(rows, probe="relative_loss", name="relative_loss"))
    beyond = curve[~(curve["value"] <= DIVERGENCE)]
    return float(curve["depth"].max() if beyond.empty else beyond["depth"].min())


def usable_rate(rows: pd.DataFrame) -> float:
    """The largest rate at which training neither diverges nor ends more than a tenth above its first loss.

    Of one kind of network. The end is the mean over the last fifth of the steps; a tenth, since batches differ. The
    smallest rate of the grid where none is usable: an upper bound then.
    """
    rates = [float(str(rate)) for rate, own in rows.groupby("lr") if _is_usable(own)]
    return max(rates, default=float(rows["lr"].min()))


def _is_usable(rows: pd.DataFrame) -> bool:
    losses = pick(rows, probe="train", name="loss").sort_values("step")["value"].to_numpy(np.float64)
    diverged = pick(rows, probe="outcome", name="diverged")["value"]
    if diverged.empty or bool(diverged.iloc[0] > 0):
        return False
    return bool(losses[-math.ceil(len(losses) / 5) :].mean() < 1.1 * losses[0])
