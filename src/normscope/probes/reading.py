"""What a probe hands back."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """One measurement: an array with named axes, its standard error and its unit.

    `values` is float64 on the CPU, with one dimension per name in `axes`, and `labels[axis]` names the entries along
    that axis. `stderr` has the shape of `values`; it is None where a single batch leaves the spread unknown. A value
    that is not finite is a result (the model diverged, or the quantity is not defined there) and is kept as it is.

    Raises:
        ValueError: `axes`, `labels`, `values` and `stderr` do not fit each other.
    """

    name: str
    unit: str
    axes: tuple[str, ...]
    values: Tensor  # one dimension per axis
    labels: Mapping[str, tuple[str, ...]]
    stderr: Tensor | None = None  # shape of values

    def __post_init__(self) -> None:
        ticks = tuple(len(self.labels[axis]) for axis in self.axes if axis in self.labels)
        if set(self.labels) != set(self.axes) or ticks != tuple(self.values.shape):
            sizes = {axis: len(names) for axis, names in self.labels.items()}
            raise ValueError(
                f"A Reading labels every entry of every axis; axes are {self.axes}, labels have sizes {sizes} "
                f"and values the shape {tuple(self.values.shape)}. Give one label per entry."
            )
        if self.stderr is not None and self.stderr.shape != self.values.shape:
            raise ValueError(
                f"The standard error has the shape of the values, {tuple(self.values.shape)}, "
                f"but {tuple(self.stderr.shape)} arrived. Reduce both over the same batches."
            )

    def frame(self) -> pd.DataFrame:
        """The reading in long form: a row per value; columns name, one per axis, value, stderr (NaN if None), unit."""
        import pandas as pd

        entries = list(itertools.product(*(self.labels[axis] for axis in self.axes)))
        columns = {axis: [entry[dim] for entry in entries] for dim, axis in enumerate(self.axes)}
        values = self.values.flatten().tolist()
        stderr = [math.nan] * len(values) if self.stderr is None else self.stderr.flatten().tolist()
        return pd.DataFrame({"name": self.name, **columns, "value": values, "stderr": stderr, "unit": self.unit})


def mean_over_batches(samples: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    r"""Mean of equally shaped samples, one per batch, and its standard error.

    .. math:: \bar v = \frac1B \sum_b v_b, \qquad
              \mathrm{stderr} = \sqrt{\frac{1}{B(B-1)} \sum_b (v_b - \bar v)^2}

    Each batch counts once, whatever its size. The standard error is None for B = 1.
    """
    stacked = torch.stack(list(samples)).cpu()
    count = len(stacked)
    stderr = stacked.std(dim=0, correction=1) / math.sqrt(count) if count > 1 else None
    return stacked.mean(dim=0), stderr
