"""Figures 2, 3, G5 and G6, and the slopes of their lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from normscope.report import Axis, Figure, Panel, Table
from normscope.study import Study
from normscope_papers.common.cells import written
from normscope_papers.common.drawing import spread
from normscope_papers.common.rows import effect
from normscope_papers.depth_limits import drawing as d
from normscope_papers.depth_limits.rates import growths
from normscope_papers.depth_limits.rows import log_norms, rows_with_conditions, slopes

if TYPE_CHECKING:
    import pandas as pd

_WHAT = "Natural log of the Frobenius norm of the gradient by the second weight, against the depth of the network. "
_DASHED = (
    "Dashed: theory's growth per layer (none with orthogonal weights, the identity and a batch of full rank), from the "
    "gradient measured at the last hidden layer back. "
)
_PART = Axis("norm of the part", log=True)
_DIGITS = 12  # of theory's slopes, which are differences of log norms: behind them stands rounding alone


def by_depth(
    frame: pd.DataFrame, study: Study, label: d.Label, *, title: str = "", layer: int = 2, y: Axis = d.LOG_NORM
) -> Panel:
    """Log norms of one layer's gradient against the depth of the network, with theory where it was written."""
    measured, theory = (log_norms(frame, study.item, layer=layer, theory=one) for one in (False, True))
    return d.panel(title, d.DEPTH, y, measured, label, "layers", theory=theory)


def degenerate(frame: pd.DataFrame, study: Study) -> tuple[Figure, ...]:
    """Figure 2."""
    return d.figure(
        study,
        "Gradients on batches of full rank and with repeated samples",
        f"{_WHAT}{_DASHED}{spread(rows_with_conditions(frame, study.item))}",
        [by_depth(frame, study, lambda row: _copies(int(row["repeated"])))],
    )


def _copies(count: int) -> str:
    return f"{count} samples repeated" if count else "full rank"


def weights(frame: pd.DataFrame, study: Study) -> tuple[Figure, ...]:
    """Figure 3, and the two parts of the gradient."""
    rows = rows_with_conditions(frame, study.item)
    parts = rows[rows["probe"] == "gradient_symmetry"]
    split = [
        d.panel(f"{kind} weights: parts of ∇W Wᵀ", d.LAYER, _PART, own, lambda row: f"{row['name']} part", "depth")
        for kind, own in (parts.groupby("weights", sort=False) if len(parts) else ())
    ]
    return d.figure(
        study,
        "Gradients with orthogonal and with Gaussian weights",
        f"{_WHAT}{_DASHED}Further panels: Frobenius norms of the symmetric and antisymmetric part of ∇W Wᵀ by layer, "
        f"at the greatest depth. {spread(rows)}",
        [by_depth(frame, study, lambda row: str(row["weights"])), *split],
    )


def standard_modules(frame: pd.DataFrame, study: Study) -> tuple[Figure, ...]:
    """Figure G5: gradients at the left, the last layer's gap at the right, by normalization."""
    rows = rows_with_conditions(frame, study.item)
    panels = []
    for norm, own in rows.groupby("normalizer", sort=False) if len(rows) else ():
        gradients = own[(own["probe"] == "weight_gradient_norm") & (own["depth"] == 2)]
        theory = own[(own["probe"] == "theory.weight_gradient_norm") & (own["depth"] == 2)]
        panels.append(
            d.panel(f"gradients, {norm}", d.DEPTH, d.LOG_NORM, gradients, _activation, "layers", theory=theory)
        )
        gap = own[(own["probe"] == "isometry_gap") & (own["name"] == "gap")]
        panels.append(d.panel(f"gap of the last layer, {norm}", d.DEPTH, d.GAP, gap, _activation, "layers"))
    return d.figure(
        study,
        "Gradients and isometry gap without activation shaping",
        f"{_WHAT}{_DASHED}Gap of the output of the last normalization; under batchnorm without the direction that the "
        f"subtraction of the mean leaves null, with which it would be infinite. {spread(rows)}",
        panels,
    )


def _activation(row: pd.Series[Any]) -> str:
    return str(row["activation"])


def centering(frame: pd.DataFrame, study: Study) -> tuple[Figure, ...]:
    """Figure G6."""
    rows = rows_with_conditions(frame, study.item)
    return d.figure(
        study,
        "Gradients with and without subtraction of the mean",
        "Natural log of the Frobenius norm of the gradient by the first weight, against the depth of the network. "
        "batchnorm subtracts the mean; bnl2:moment=rms does not; bnl2 also leaves out the factor √n. "
        f"{spread(rows)}",
        [by_depth(frame, study, lambda row: str(row["normalizer"]), layer=1, y=Axis("log ‖∇W₁‖", "nats"))],
    )


def slopes_by(
    frame: pd.DataFrame, study: Study, columns: tuple[str, ...], say: Callable[[str, object], str] = lambda _, v: f"{v}"
) -> tuple[Table, ...]:
    """The slope of log gradient norms against depth, by these columns of the condition, beside that of theory's growth.

    Theory's, from the last hidden layer to the second, is without the norm measured there, from which it is drawn.
    """
    measured, theory = log_norms(frame, study.item), growths(frame, study.item, theory=True)
    if measured.empty:
        return (d.table("No trial has ended.", (*columns, "slope"), ()),)
    rows = []
    for key, own in measured.groupby(list(columns), sort=False):
        beside = theory[(theory[list(columns)] == list(key)).all(axis=1)] if len(theory) else theory
        expected = slopes(beside).round(_DIGITS)
        cells = (written(effect("", slopes(own))), written(effect("", expected)) if len(beside) else "none")
        rows.append((*(say(name, value) for name, value in zip(columns, key, strict=True)), *cells))
    caption = (
        "Slope of log ‖∇W₂‖ against the depth of the network, and of theory's growth from the last hidden layer to the "
        "second, nats per layer, by least squares: mean over seeds [95 % interval]."
    )
    return (d.table(caption, (*columns, "measured", "theory"), rows),)


def slopes_table(frame: pd.DataFrame, study: Study) -> tuple[Table, ...]:
    """The slopes of figures 2, 3 and 5, by what sets their lines apart."""
    asked = study.experiments[0].condition.split()
    columns = tuple(name for name in (part.partition("=")[0] for part in asked) if name != "layers")
    return slopes_by(frame, study, columns)
