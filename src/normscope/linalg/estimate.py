"""A Monte Carlo number with its error."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from torch import Tensor


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Estimate:
    """A mean over samples, its standard error (NaN where one sample leaves it unknown), and the samples."""

    value: float
    stderr: float
    samples: Tensor  # (num_samples,) float64


def estimate(samples: Tensor) -> Estimate:
    r"""The mean of independent samples (num_samples,) and its standard error.

    .. math:: \bar x = \frac1S \sum_s x_s, \qquad
              \mathrm{stderr} = \sqrt{\frac{1}{S(S-1)} \sum_s (x_s - \bar x)^2}
    """
    count = len(samples)
    stderr = float(samples.std(correction=1)) / math.sqrt(count) if count > 1 else math.nan
    return Estimate(value=float(samples.mean()), stderr=stderr, samples=samples)
