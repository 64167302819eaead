"""Figures 5, E1 and E2, read by eye to about two digits."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from normscope.study import Effect
from normscope_papers.common.published import mean, published
from normscope_papers.depth_limits import notes
from normscope_papers.depth_limits.published.gradients import log_norm
from normscope_papers.depth_limits.rates import beginnings
from normscope_papers.depth_limits.rows import rows_with_conditions

if TYPE_CHECKING:
    import pandas as pd


def _rate(frame: pd.DataFrame, *, activation: str, gain: float) -> Effect | None:
    rows = rows_with_conditions(frame, "e1", probe="explosion_rate", activation=activation, gain=gain)
    return mean("rate of explosion", rows, unit="nats/layer")


def _beginning(frame: pd.DataFrame, *, activation: str, exponent: float) -> Effect | None:
    rows = beginnings(frame)
    own = rows[(rows["activation"] == activation) & (rows["exponent"] == exponent)] if len(rows) else rows
    return mean("rate of explosion at the beginning", own, unit="nats/layer")


FIG_5 = tuple(
    published(
        f"Figure 5, log ‖∇W₂‖ at depth {layers}",
        f"{activation}, {'gain l^-0.4' if exponent else 'no gain'}",
        value,
        partial(log_norm, item="fig5", layers=layers, activation=activation, exponent=exponent),
        f"{notes.READ} {notes.BATCHES}{note}",
        unit="nats",
    )
    for activation, exponent, layers, value, note in (
        ("identity", 0.0, 1000, 0.4, ""),
        ("sin", 0.0, 200, 27.0, " The paper's curve ends here, ours does not."),
        ("tanh", 0.0, 500, 42.0, " The paper's curve ends here, ours does not."),
        ("sin", 0.4, 1000, -1.7, " The paper's curves lie between -1 and -2.4."),
        ("tanh", 0.4, 1000, -1.7, " The paper's curves lie between -1 and -2.4."),
    )
)
FIG_E1 = tuple(
    published(
        "Figure E1, rate at gain 0.9",
        activation,
        value,
        partial(_rate, activation=activation, gain=0.9),
        f"{notes.READ} Ours is the mean over the layers of the figure.",
        unit="nats/layer",
    )
    for activation, value in (("sin", 0.092), ("tanh", 0.07))
)
FIG_E2 = tuple(
    published(
        f"Figure E2, rate at the beginning, exponent {exponent:g}",
        activation,
        value,
        partial(_beginning, activation=activation, exponent=exponent),
        f"{notes.READ} The paper does not say which activation the figure is of; all depths are taken together. At 0.8 "
        "ours is mostly the batch's, on its way to orthogonality: theory without it has 0.003 (sin) and 0.005 (tanh).",
        unit="nats/layer",
    )
    for activation in ("sin", "tanh")
    for exponent, value in ((0.1, 0.054), (0.8, 0.006))
)
