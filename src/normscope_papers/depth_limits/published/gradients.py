"""Figures 2, 3, G5 and G6, read by eye to about two digits. Weights are counted from 1, the paper counts from 0."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from normscope.study import Effect
from normscope_papers.common.published import mean, published
from normscope_papers.depth_limits import notes
from normscope_papers.depth_limits.rows import log_norms, rows_with_conditions

if TYPE_CHECKING:
    import pandas as pd


def log_norm(frame: pd.DataFrame, *, item: str, layers: int, layer: int = 2, **where: Any) -> Effect | None:
    """The log norm of the gradient by one layer's weight, in networks of one depth."""
    rows = log_norms(frame, item, layer=layer, layers=layers, **where)
    return mean(f"log norm of the gradient by weight {layer}, depth {layers}", rows, unit="nats")


def _repeated(frame: pd.DataFrame) -> Effect | None:
    rows = log_norms(frame, "fig2", layers=1000)
    own = rows[rows["repeated"] > 0] if len(rows) else rows
    return mean("log norm of the gradient by weight 2, depth 1000, samples repeated", own, unit="nats")


def _last_gap(frame: pd.DataFrame, *, layers: int, **where: Any) -> Effect | None:
    rows = rows_with_conditions(frame, "g5", probe="isometry_gap", name="gap", layers=layers, **where)
    return mean("gap of the last layer", rows, unit="nats")


_GAP = f"{notes.READ} {notes.BATCHES}"

FIG_2 = (
    published(
        "Figure 2, log ‖∇W₂‖ at depth 1000",
        "repeated samples",
        30.0,
        _repeated,
        f"{notes.READ} The paper does not say how many samples are repeated, and the growth is set by that number: by "
        "theory 0.03 per layer are those of a batch of rank 16 of 100, and the rank of 10 that ours has gives 54.",
        unit="nats",
    ),
    published(
        "Figure 2, log ‖∇W₂‖ at depth 1000",
        "full rank",
        0.0,
        partial(log_norm, item="fig2", layers=1000, repeated=0),
        _GAP,
        unit="nats",
    ),
)
FIG_3 = tuple(
    published(
        f"Figure 3, log ‖∇W₂‖ at depth {layers}",
        kind,
        value,
        partial(log_norm, item="fig3", layers=layers, weights=kind),
        _GAP,
        unit="nats",
    )
    for kind, layers, value in (
        ("orthogonal", 1000, 0.4),
        ("xavier", 5, 0.7),
        ("xavier", 500, 4.3),
        ("xavier", 1000, 10.3),
    )
)
FIG_G5 = (
    published(
        "Figure G5, gap of the last layer at depth 1000",
        "identity, without subtraction of the mean",
        3e-4,
        partial(_last_gap, layers=1000, activation="identity", normalizer="bnl2:moment=rms"),
        _GAP,
        unit="nats",
    ),
    *(
        published(
            "Figure G5, gap of the last layer at depth 1000",
            f"{activation}, without subtraction of the mean",
            1.0,
            partial(_last_gap, layers=1000, activation=activation, normalizer="bnl2:moment=rms"),
            _GAP,
            unit="nats",
        )
        for activation in ("tanh", "sin")
    ),
)
FIG_G6 = tuple(
    published(
        f"Figure G6, log ‖∇W₁‖ at depth {layers}",
        norm,
        value,
        partial(log_norm, item="g6", layer=1, layers=layers, normalizer=norm),
        _GAP,
        unit="nats",
    )
    for norm, layers, value in (
        ("batchnorm", 5, 2.0),
        ("batchnorm", 1000, 2.85),
        ("bnl2", 5, -0.4),
        ("bnl2", 1000, 0.2),
    )
)
