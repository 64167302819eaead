"""What claims, tables and figures of this paper read from the rows of a record: curves along step sizes, rates."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from normscope_papers.common.rows import by_seed, log, pick
from normscope_papers.understanding_batch_norm.experiments import READOUT, layer_of

if TYPE_CHECKING:
    import pandas as pd

DIVERGENCE = 1e3
"""The relative loss above which the paper calls a step divergent."""

LEARNED = 0.98 * math.log(10)
"""Nats below which a network of ten classes has learned something: 2 % below a guess among CIFAR-10's, or the digits'.

A network that gives every image the same answer has at least about ln 10, however its training began.
"""


def along(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of a curve along numbers, with the number that `layer` spells in the column `depth`."""
    return rows.assign(depth=rows["layer"].astype(float))


def by_layer(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of blocks or convolutions with the paper's number of the layer in the column `depth`.

    The readout, where it is among them, is the layer behind the last block's two.
    """
    if rows.empty:
        return rows
    numbers = rows["layer"].where(rows["layer"] != READOUT).map(layer_of, na_action="ignore").astype(float)
    return rows.assign(depth=numbers.fillna(numbers.max() + 2))


def at_last_step(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows at the largest step of all: where one training ended early, the others' are not beside its own."""
    found: pd.DataFrame = rows[rows["step"] == rows["step"].max()]
    return found


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


def diverges(rows: pd.DataFrame) -> bool:
    """Whether some size has such a relative loss."""
    return bool((~(pick(rows, probe="relative_loss", name="relative_loss")["value"] <= DIVERGENCE)).any())


def learns(rows: pd.DataFrame) -> bool:
    """Whether one training did not diverge and had a mean loss below `LEARNED` over the last fifth of its steps."""
    if not survives(rows):
        return False
    losses = pick(rows, probe="train", name="loss").sort_values("step")["value"].to_numpy(np.float64)
    return bool(losses[-math.ceil(len(losses) / 5) :].mean() < LEARNED)


def survives(rows: pd.DataFrame) -> bool:
    """Whether one training ended without diverging; what it has learned is not asked."""
    diverged = pick(rows, probe="outcome", name="diverged")["value"]
    return len(diverged) > 0 and not bool((diverged > 0).any())


def largest_rate(rows: pd.DataFrame, bears: Callable[[pd.DataFrame], bool]) -> float:
    """The largest rate of the grid whose training `bears` it, of one kind of network and seed.

    The smallest of the grid where none is borne: an upper bound then, as the largest is a lower one.
    """
    rates = [float(str(rate)) for rate, own in rows.groupby("lr") if bears(own)]
    return max(rates, default=float(rows["lr"].min()))


def usable_rate(rows: pd.DataFrame) -> float:
    """The largest rate at which a kind of network learns: `largest_rate`."""
    return largest_rate(rows, learns)


def surviving_rate(rows: pd.DataFrame) -> float:
    """The largest rate that does not make it diverge: `largest_rate`."""
    return largest_rate(rows, survives)


def decades(one: pd.Series[float], other: pd.Series[float], grid: pd.Series[float]) -> pd.Series[float]:
    """log10 of one number over another by seed, both found on this grid.

    An end of the grid is a bound, and taken as it is it makes the difference smaller. Where both numbers lie at the
    same end the grid does not tell them apart: NaN.
    """
    import pandas as pd

    both = pd.DataFrame({"one": one, "other": other}).rename_axis("seed")
    same_end = (both["one"] == both["other"]) & both["one"].isin([grid.min(), grid.max()])
    return log(both["one"] / both["other"], base=10).mask(same_end)
