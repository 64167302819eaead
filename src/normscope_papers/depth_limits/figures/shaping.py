"""Figures 5, E1 and E2, and the power laws of figure E1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normscope.report import Axis, Figure, Table
from normscope.study import Study
from normscope_papers.common.cells import written
from normscope_papers.common.drawing import spread
from normscope_papers.common.rows import effect
from normscope_papers.depth_limits import drawing as d
from normscope_papers.depth_limits.figures.gradients import by_depth, slopes_table
from normscope_papers.depth_limits.rates import beginnings, growths, powers
from normscope_papers.depth_limits.rows import rows_with_conditions

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["constant_gains", "exponents", "power_law", "shaped", "slopes_table"]

GAIN = Axis("gain α")
EXPONENT = Axis("exponent p of the gain l⁻ᵖ")


def shaped(frame: pd.DataFrame, study: Study) -> tuple[Figure, ...]:
    """Figure 5: a panel for each exponent."""
    rows = rows_with_conditions(frame, study.item)
    panels = []
    for exponent in rows["exponent"].unique() if len(rows) else ():
        own = frame[frame["condition"].isin(rows.loc[rows["exponent"] == exponent, "condition"])]
        title = f"gain l^-{exponent:g}" if exponent else "no gain"
        panels.append(by_depth(own, study, lambda row: str(row["activation"]), title=title))
    return d.figure(
        study,
        "Gradients with and without activation shaping",
        "Natural log of the Frobenius norm of the gradient by the second weight, against the depth of the network. "
        "Dashed: theory's growth per layer, from the gradient measured at the last hidden layer back. "
        f"{spread(rows)}",
        panels,
    )


def constant_gains(frame: pd.DataFrame, study: Study) -> tuple[Figure, ...]:
    """Figure E1: a panel for each activation, a line for each layer."""
    rows = rows_with_conditions(frame, study.item)
    measured, theory = (rows[rows["probe"] == probe] for probe in ("explosion_rate", "theory.explosion_rate"))
    panels = [
        d.panel(
            str(activation),
            GAIN,
            d.RATE,
            own,
            lambda row: f"l = {row['depth']}",
            "gain",
            theory=theory[theory["activation"] == activation],
        )
        for activation, own in (measured.groupby("activation", sort=False) if len(measured) else ())
    ]
    return d.figure(
        study,
        "Rate of explosion against a constant gain",
        f"(log ‖∇W of layer l - 10‖ - log ‖∇W of layer l‖) / 10. Dashed: ½ log χ(α) of infinite width. {spread(rows)}",
        panels,
    )


def exponents(frame: pd.DataFrame, study: Study) -> tuple[Figure, ...]:
    """Figure E2, with the growth over all layers beside it."""
    rows = rows_with_conditions(frame, study.item)
    rate, rate_theory = (beginnings(frame, theory=one) for one in (False, True))
    growth, growth_theory = (growths(frame, study.item, theory=one) for one in (False, True))
    axis = Axis("growth from the last hidden layer to the second", "nats")
    panels = []
    for activation in rows["activation"].unique() if len(rows) else ():
        for title, y, own, theory in (
            ("rate at the beginning", d.RATE, rate, rate_theory),
            ("growth", axis, growth, growth_theory),
        ):
            of_it, dashed = (found[found["activation"] == activation] for found in (own, theory))
            title = f"{activation}: {title}"
            panels.append(
                d.panel(title, EXPONENT, y, of_it, lambda row: f"L = {row['layers']}", "exponent", theory=dashed)
            )
    return d.figure(
        study,
        "Rate of explosion against the exponent of a shrinking gain",
        "Rate from the second weight to the twelfth; and log ‖∇W‖ of the second weight less that of the last hidden "
        f"one. Dashed: theory of infinite width. {spread(rows)}",
        panels,
    )


def power_law(frame: pd.DataFrame, study: Study) -> tuple[Table, ...]:
    """The power law that the paper fits, and the rate at the largest gain beside theory's."""
    rows = rows_with_conditions(frame, study.item)
    cells = []
    for activation in rows["activation"].unique() if len(rows) else ():
        fits = [powers(frame, str(activation), of_logarithms=one) for one in (True, False)]
        own = rows[rows["activation"] == activation]
        largest = own[own["gain"] == own["gain"].max()]
        at = {
            probe: largest[largest["probe"] == probe].groupby("seed")["value"].mean()
            for probe in ("explosion_rate", "theory.explosion_rate")
        }
        cells.append(
            (
                str(activation),
                *(written(effect("", fit[name])) for fit in fits for name in ("c1", "c2")),
                *(written(effect("", values)) for values in at.values()),
            )
        )
    caption = (
        "Rates fitted as c₁ α^c₂ by least squares of their logarithms and of themselves, and the rate at the largest "
        "gain, nats per layer: mean over seeds [95 % interval]."
    )
    header = ("activation", "c₁, log", "c₂, log", "c₁", "c₂", "rate at the largest gain", "by theory")
    return (d.table(caption, header, cells),)
