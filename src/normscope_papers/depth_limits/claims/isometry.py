"""Points 1, 2, 3, 6 and 12: the isometry gap and what one normalization does, from figure 1."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from normscope.study import Claim, Effect
from normscope_papers.common.rows import effect, log, nothing
from normscope_papers.depth_limits import decay as k
from normscope_papers.depth_limits.rows import rows_with_conditions

if TYPE_CHECKING:
    import pandas as pd

ByWidth = Callable[["pd.DataFrame", int], "pd.Series[float]"]

NARROW = 35
"""Width below which the decay of small gaps, k = (d + 2) / 2, is slower than that of the paper's line, 0.015 d^2."""


def over_widths(
    frame: pd.DataFrame, measure: ByWidth, *, choose: Callable[[int], bool] = lambda _: True, least: bool = False
) -> pd.Series[float]:
    """The largest, or least, of a number over widths, by seed; NaN for a seed that misses one."""
    import pandas as pd

    found = {width: measure(frame, width) for width in k.widths(frame) if choose(width)}
    columns = pd.DataFrame(found)
    reduced: pd.Series[float] = columns.min(axis=1, skipna=False) if least else columns.max(axis=1, skipna=False)
    return reduced.rename_axis("seed")


def _rise(frame: pd.DataFrame, width: int) -> pd.Series[float]:
    return k.gaps(frame, width).diff(axis=1).iloc[:, 1:].max(axis=1, skipna=False)


def monotone(frame: pd.DataFrame) -> Effect:
    """The largest rise of the gap from one layer to the next, over layers and widths."""
    return effect("largest rise of the gap in one layer", over_widths(frame, _rise), unit="nats")


def _off_recursion(frame: pd.DataFrame, width: int) -> pd.Series[float]:
    return (k.gaps(frame, width) - k.gaps(frame, width, name="recursion")).abs().max(axis=1)


def recursion(frame: pd.DataFrame) -> Effect:
    """The largest distance of a gap from what the exact recursion says, over layers and widths."""
    return effect("largest distance of a gap from the recursion", over_widths(frame, _off_recursion), unit="nats")


def straight(frame: pd.DataFrame) -> Effect:
    """The least share of the variance of the log gap that a straight line explains, over widths."""
    lines = over_widths(frame, lambda rows, width: k.linearity(k.gaps(rows, width)), least=True)
    return effect("R² of a straight line through the log gap, least of all widths", lines)


def rate(frame: pd.DataFrame) -> Effect:
    """The largest distance of log k, measured, from log k of small gaps, over widths."""

    def distance(rows: pd.DataFrame, width: int) -> pd.Series[float]:
        return log(k.decay(k.gaps(rows, width)) / k.predicted(width)).abs()

    what = "|log of k measured over k of small gaps, (d + 2)/2|, largest of all widths"
    return effect(what, over_widths(frame, distance))


def wider_is_slower(frame: pd.DataFrame) -> Effect:
    """Log of k of the widest network over k of the next."""
    *_, next_, widest = [0, 0, *k.widths(frame)]
    what = "log of k of the widest network over k of the next"
    if not next_:
        return nothing(what)
    return effect(what, log(k.decay(k.gaps(frame, widest)) / k.decay(k.gaps(frame, next_))))


def below_bound(frame: pd.DataFrame) -> Effect:
    """The largest log ratio of a gap to theorem 1's bound, after the first, at which both are equal."""

    def excess(rows: pd.DataFrame, width: int) -> pd.Series[float]:
        ratio = log(k.gaps(rows, width) / k.gaps(rows, width, name="bound"), of_zero=-math.inf)
        return ratio.iloc[:, 1:].max(axis=1, skipna=False)

    what = "log of the gap over theorem 1's bound, largest of all layers after the first and all widths"
    return effect(what, over_widths(frame, excess))


def below_expected(frame: pd.DataFrame) -> Effect:
    """The mean over layers of a gap over corollary 4's bound on its expectation, less 1, largest of widths.

    A mean of the ratio itself, as the bound is on an expectation: that of logarithms lies below by Jensen's inequality.
    """

    def excess(rows: pd.DataFrame, width: int) -> pd.Series[float]:
        bound = k.gaps(rows, width, name="expected")
        return (k.gaps(rows, width) / bound.where(bound > k.LEAST)).mean(axis=1) - 1

    what = "gap over corollary 4's bound of one layer - 1, mean of layers, largest of all widths"
    return effect(what, over_widths(frame, excess))


def drawn_line(frame: pd.DataFrame, *, narrow: bool) -> Effect:
    """The log ratio of a gap to the paper's dashed line, largest of the narrow, or of the other widths.

    At the last layer where the line lies above rounding: in narrow networks it falls to 1e-33, which no gap can.
    """

    def excess(rows: pd.DataFrame, width: int) -> pd.Series[float]:
        gaps = k.gaps(rows, width)
        line = k.drawn_line(gaps, width)
        ratios = log((gaps / line).where(line > k.LEAST), of_zero=-math.inf)
        return ratios.ffill(axis=1).iloc[:, -1]

    which = f"widths {'below' if narrow else 'from'} {NARROW}"
    found = over_widths(frame, excess, choose=lambda width: (width < NARROW) == narrow)
    what = f"log of the gap over the paper's dashed line, last layer where that exceeds {k.LEAST:g}, largest of {which}"
    return effect(what, found)


def jacobian(frame: pd.DataFrame, *, against: str) -> Effect:
    """How far the log norm of a normalization's Jacobian lies from, or above, theory; largest of those measured."""
    rows = rows_with_conditions(frame, "fig1", probe="normalizer_jacobian", name="log_norm")
    theory = rows_with_conditions(frame, "fig1", probe="theory.normalizer_jacobian", name=against)
    keys = ["seed", "condition", "depth"]
    if rows.empty or theory.empty:
        return nothing("log of the Jacobian's norm beside theory")
    difference = rows.set_index(keys)["value"] - theory.set_index(keys)["value"]
    exact = against == "log_norm"
    what = "|log ‖J‖ + log of the least row norm|, largest" if exact else "log ‖J‖ + ½ log λ_min, largest"
    return effect(what, (difference.abs() if exact else difference).groupby("seed").max())


def aligned(frame: pd.DataFrame) -> Effect:
    """The largest gap after one layer with W = U^T."""
    rows = rows_with_conditions(frame, "fig1", probe="aligned_isometry_gap", name="gap")
    return effect("gap after one layer with W = Uᵀ, largest", rows.groupby("seed")["value"].max(), unit="nats")


# Gaps are differences of logarithms of order 1 to 10, summed over up to 100 singular values in float64: a few 1e-15.
_ROUNDING = 1e-10
_HAND = (
    "The text has an absolute constant and proves k = max(2 d², 32 d³ φ₀); the authors' code draws 0.015 d² (1 + d "
    "φ₀), chosen by hand. Small gaps decay with k = (d + 2)/2, which exceeds 0.015 d² for widths below 35."
)


_claim = partial(Claim, items=("fig1",))

CLAIMS = (
    _claim(
        name="c01-monotone",
        statement="The isometry gap does not increase from layer to layer, whatever the orthogonal weights are.",
        source="Lemma 2",
        effect=monotone,
        holds="below",
        threshold=_ROUNDING,
    ),
    _claim(
        name="c02-recursion",
        statement="One layer changes the isometry gap by exactly the mean log of the squared row norms of WX.",
        source="derived from equations 4 and 5",
        effect=recursion,
        holds="below",
        threshold=_ROUNDING,
    ),
    _claim(
        name="c03-linear",
        statement="The isometry gap decays exponentially with depth: its logarithm falls along a straight line.",
        source="Theorem 1, Figure 1",
        effect=straight,
        holds="above",
        threshold=0.95,  # what the eye takes for a straight line
    ),
    _claim(
        name="c03-rate",
        statement="The gap decays as exp(-l/k) with k near (d + 2)/2, 4 d times as fast as the proof has it.",
        source="derived; Theorem 1 has k = 2 d²",
        effect=rate,
        holds="below",
        threshold=math.log(1.5),  # a factor of 1.5, where the proof is off by 4 d
    ),
    _claim(
        name="c03-wider",
        statement="Wider networks approach isometry more slowly.",
        source="Figure 1",
        effect=wider_is_slower,
        holds="above",
        threshold=0.0,  # an order is claimed, not a size
    ),
    _claim(
        name="c03-bound",
        statement="The gap stays below theorem 1's bound with the constants of its proof.",
        source="Theorem 1, appendix B",
        effect=below_bound,
        holds="below",
        threshold=0.0,
    ),
    _claim(
        name="c03-corollary-4",
        statement="On average one layer takes the gap below corollary 4's bound on its expectation.",
        source="Corollary 4",
        effect=below_expected,
        holds="below",
        threshold=0.0,
    ),
    _claim(
        name="c06-norm",
        statement="The Jacobian of the normalization has the operator norm 1 over the least row norm of its input.",
        source="appendix C",
        effect=partial(jacobian, against="log_norm"),
        holds="below",
        threshold=0.01,  # the products' own tolerance is a hundredth of that
    ),
    _claim(
        name="c06-bound",
        statement="That norm is at most the inverse root of the least eigenvalue of the input's Gram matrix.",
        source="appendix C",
        effect=partial(jacobian, against="bound"),
        holds="below",
        threshold=1e-6,  # rounding: at isometry the two are equal
    ),
    _claim(
        name="c12-aligned",
        statement="With W = Uᵀ, U of the singular value decomposition of the batch, one layer makes it an isometry.",
        source="Corollary A.3",
        effect=aligned,
        holds="below",
        threshold=_ROUNDING,
    ),
    _claim(
        name="s1-line-wide",
        statement="The dashed line of figure 1 lies above the measured gap at the widths that the figure shows.",
        source="Figure 1",
        effect=partial(drawn_line, narrow=False),
        holds="below",
        threshold=0.0,
        remark=_HAND,
    ),
    _claim(
        name="s1-line-narrow",
        statement="The same line is an upper bound in narrow networks too.",
        source="Figure 1 and Theorem 1, which hold for every width",
        effect=partial(drawn_line, narrow=True),
        holds="below",
        threshold=0.0,
        remark=_HAND,
    ),
)
