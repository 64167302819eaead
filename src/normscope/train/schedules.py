"""Schedules of the learning rate: by which factor the rate of each step differs from the base rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

from normscope.train.table import check_options, look_up

# From a step, counted from 1, to the factor of the learning rate at it.
Factor: TypeAlias = Callable[[int], float]


def schedule(name: str, **options: object) -> Factor:
    """A schedule by its name, with the options of that row.

    >>> halved = schedule("piecewise", boundaries=(2,), factors=(1.0, 0.5))
    >>> [halved(step) for step in (1, 2, 3)]
    [1.0, 1.0, 0.5]

    Args:
        name: "constant", "piecewise", "cosine" or "rsqrt".
        **options: the keyword arguments of the function of that name in `normscope.train.schedules`.

    Returns:
        a function from the step, 1 for the first, to the factor of the learning rate.

    Raises:
        ValueError: an unknown name or option, which names the close ones; a missing or unsuitable option.
    """
    row = look_up("schedule", _TABLE, name)
    check_options("schedule", _TABLE, name, options, given=())
    return row(**options)


def constant() -> Factor:
    """f(t) = 1."""
    return lambda _step: 1.0


def piecewise(*, boundaries: Sequence[int], factors: Sequence[float]) -> Factor:
    r"""Constant between boundaries.

    .. math:: f(t) = \mathrm{factors}_i, \quad \mathrm{boundaries}_{i-1} < t \le \mathrm{boundaries}_i

    so that a boundary is the number of steps taken at the rates before it. Flax's CIFAR-10 example has 0/60/120/160
    epochs with factors 1, 0.2, 0.04, 0.008.

    Args:
        boundaries: ascending steps, from 1 on.
        factors: one more than boundaries.

    Raises:
        ValueError: boundaries do not ascend; there is not one factor more; a factor is negative or not finite.
    """
    edges, values = tuple(boundaries), tuple(float(factor) for factor in factors)
    if list(edges) != sorted(set(edges)) or any(edge < 1 for edge in edges):
        raise ValueError(f"boundaries must be ascending steps from 1 on, got {edges}.")
    if len(values) != len(edges) + 1:
        raise ValueError(
            f"factors must be one more than the {len(edges)} boundaries, got {len(values)}; the first is for the steps "
            "up to the first boundary."
        )
    if not all(0.0 <= value < math.inf for value in values):
        raise ValueError(f"factors must be zero or positive, got {values}.")
    return lambda step: values[sum(step > edge for edge in edges)]


def cosine(*, total: int, warmup: int = 0) -> Factor:
    r"""Half a cosine down to zero, after a linear warm-up.

    .. math::
        f(t) = t / w \quad (t \le w), \qquad
        f(t) = \tfrac12 \left(1 + \cos \pi \frac{t - 1 - w}{T - w}\right) \quad (w < t \le T), \qquad
        f(t) = 0 \quad (t > T)

    The first step after the warm-up is at the full rate and step T + 1 would be at zero.
    Reference: Loshchilov and Hutter 2017, arXiv:1608.03983, eq. 5, without restarts.

    Args:
        total: T, steps of the whole training.
        warmup: w, steps of the warm-up; less than T.

    Raises:
        ValueError: total is less than 1, or warmup not between 0 and total - 1.
    """
    if total < 1:
        raise ValueError(f"total must be at least 1 step, got {total}.")
    if not 0 <= warmup < total:
        raise ValueError(f"warmup must lie between 0 and total - 1 = {total - 1} steps, got {warmup}.")

    def factor(step: int) -> float:
        if step <= warmup:
            return step / warmup
        progress = min(1.0, (step - 1 - warmup) / (total - warmup))
        return 0.5 * (1.0 + math.cos(math.pi * progress))

    return factor


def rsqrt(*, warmup: int) -> Factor:
    r"""Linear warm-up, then the inverse square root of the step.

    .. math:: f(t) = \min(1, t / w) / \sqrt{\max(t, w)}

    Its largest value is 1 / sqrt(w), at t = w: a base rate of 0.05 with w = 8000 peaks at 0.00056.
    Reference: Flax's lm1b example of 2020, ``constant * linear_warmup * rsqrt_decay``, whose first step is t = 0
    (factor 0, no update); here it is t = 1. After Vaswani et al. 2017, arXiv:1706.03762, eq. 3.

    Args:
        warmup: w, steps; at least 1.

    Raises:
        ValueError: warmup is less than 1.
    """
    if warmup < 1:
        raise ValueError(f"warmup must be at least 1 step, got {warmup}.")
    return lambda step: min(1.0, step / warmup) / math.sqrt(max(step, warmup))


_TABLE: dict[str, Callable[..., Factor]] = {row.__name__: row for row in (constant, piecewise, cosine, rsqrt)}
