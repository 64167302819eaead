"""Claim 10, and what claim 11 says of skips: the Hessian's spectrum at step 50."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from normscope.study import Claim, Effect
from normscope_papers.common.rows import at, at_chosen_rate, effect, log, pick, wide

if TYPE_CHECKING:
    import pandas as pd

STEP = 50
"""Figure 4's."""

RANK = 10
"""K of λ₁/λ_K: the number of classes of CIFAR-10."""

Quantity = Literal["largest", "ratio", "negative"]


def spectra(frame: pd.DataFrame, item: str, quantity: Quantity, names: tuple[str, ...]) -> pd.DataFrame:
    """A number of each spectrum in train mode, mean over its Lanczos starts: (seed, step) x normalizers.

    Of the Ritz values θ₁ ≥ θ₂ ≥ ... of a start: "largest" is θ₁; "ratio" θ₁/θ₁₀, NaN where θ₁₀ is not positive;
    "negative" how large the most negative is, max(0, -θ_min)/θ₁.
    """
    rows = pick(at_chosen_rate(frame, item), probe="spectrum", name="node", layer="")
    measured = ["trial", "normalizer", "seed", "step", "start"]
    table = _with_starts(rows).groupby(measured)["value"].agg(_NUMBERS[quantity])
    return wide(table.reset_index(), names, along=["step"])


def _with_starts(nodes: pd.DataFrame) -> pd.DataFrame:
    """The nodes with the number of their start. A start's are numbered on, ascending: where they fall, one begins."""
    spectrum = ["trial", "step"]
    ordered = nodes.sort_values([*spectrum, "depth"])
    begins = ordered.groupby(spectrum)["value"].diff() < 0
    return ordered.assign(start=begins.groupby([ordered[column] for column in spectrum]).cumsum())


def _ratio(nodes: pd.Series[float]) -> float:
    largest = nodes.nlargest(RANK)
    tenth = largest.iloc[-1]
    return float(largest.iloc[0] / tenth) if len(largest) == RANK and tenth > 0 else math.nan


def _negative(nodes: pd.Series[float]) -> float:
    return max(0.0, -float(nodes.min())) / float(nodes.max())


def _largest(nodes: pd.Series[float]) -> float:
    return float(nodes.max())


_NUMBERS: dict[Quantity, Callable[[pd.Series[float]], float]] = {
    "largest": _largest,
    "ratio": _ratio,
    "negative": _negative,
}


def has_changed(frame: pd.DataFrame) -> Effect:
    """How much smaller batch norm's most negative eigenvalue, beside its largest, is at step 50."""
    table = spectra(frame, "fig4", "negative", ("batchnorm",))["batchnorm"].to_frame()
    change = at(table, 0) - at(table, STEP)
    return effect("|λ_min|/λ₁ of batchnorm: at initialization - at step 50", change["batchnorm"])


def late_shape(frame: pd.DataFrame) -> Effect:
    """How far λ₁/λ₁₀ moves after step 50, minus how far before, as logarithms, mean over normalizers."""
    table = log(spectra(frame, "fig4", "ratio", _FOUR))
    before, after = (at(table, STEP) - at(table, 0)).abs(), (at(table, None) - at(table, STEP)).abs()
    what = "change of log λ₁/λ₁₀, mean over normalizers: from step 50 to the last - from 0 to step 50"
    return effect(what, (after - before).mean(axis=1, skipna=False))


def no_large_negative(frame: pd.DataFrame) -> Effect:
    """Batch norm's most negative eigenvalue beside its largest, at step 50."""
    return effect(
        "|λ_min|/λ₁ of batchnorm at step 50", at(spectra(frame, "fig4", "negative", _FOUR), STEP)["batchnorm"]
    )


def outliers_of_layernorm(frame: pd.DataFrame) -> Effect:
    """Layer norm's λ₁/λ₁₀ beside batch norm's, at step 50."""
    table = at(spectra(frame, "fig4", "ratio", _FOUR), STEP)
    return effect("λ₁/λ₁₀ at step 50: layernorm / batchnorm", table["layernorm"] / table["batchnorm"])


def small_spectrum(frame: pd.DataFrame) -> Effect:
    """Layer norm's largest eigenvalue beside batch norm's, at step 50."""
    table = at(spectra(frame, "fig4", "largest", _FOUR), STEP)
    return effect("λ₁ at step 50: layernorm / batchnorm", table["layernorm"] / table["batchnorm"])


def conditioned_alike(frame: pd.DataFrame) -> Effect:
    """How much farther from batch norm's λ₁/λ₁₀ layer norm's is than PreLayerNorm's, as logarithms, at step 50."""
    table = log(at(spectra(frame, "fig4", "ratio", _FOUR), STEP))
    far, near = ((table[norm] - table["batchnorm"]).abs() for norm in ("layernorm", "prelayernorm"))
    return effect("distance to batchnorm's log λ₁/λ₁₀ at step 50: layernorm - prelayernorm", far - near)


def skips_condition(frame: pd.DataFrame) -> Effect:
    """Log of λ₁/λ₁₀ without skips over that with skips, at step 50, least of all normalizers."""
    without, with_skips = (log(at(spectra(frame, item, "ratio", _FOUR), STEP)) for item in ("fig4", "app5"))
    what = "log λ₁/λ₁₀ at step 50: without - with skips, least of four normalizers"
    return effect(what, (without - with_skips).min(axis=1, skipna=False))


_FOUR = ("batchnorm", "layernorm", "prelayernorm", "regnorm")

CLAIMS = (
    Claim(
        name="c10-changed",
        statement="Very quickly through training the spectrum undergoes a transformation: Batch Norm loses the large "
        "negative eigenvalues of initialization by step 50.",
        source="section 6, Figure 4",
        items=("fig4",),
        effect=has_changed,
        holds="above",
        threshold=0.2,  # at initialization the two are about equal (ratio 1); a fifth of that is a transformation
    ),
    Claim(
        name="c10-late",
        statement="The spectrum at step 50 is predictive of its shape very late in training.",
        source="section 6, Figure 4",
        items=("fig4",),
        effect=late_shape,
        holds="below",
        threshold=0.0,  # it moves less after step 50 than before
        remark="'Late' is the last step of the run; at laptop scale that is step 100.",
    ),
    Claim(
        name="c10-negative",
        statement="Batch Norm does not have large negative eigenvalues 50 steps into training.",
        source="section 6, Figure 4",
        items=("fig4",),
        effect=no_large_negative,
        holds="below",
        threshold=0.2,  # "large": a fifth of the largest positive one
    ),
    Claim(
        name="c10-layernorm-outliers",
        statement="50 steps into training Layer Norm has outliers that Batch Norm suppresses.",
        source="section 6, Figure 4",
        items=("fig4",),
        effect=outliers_of_layernorm,
        holds="above",
        threshold=1.0,
    ),
    Claim(
        name="c10-layernorm-small",
        statement="Layer Norm has a small spectrum 50 steps into training.",
        source="section 6, Figure 4",
        items=("fig4",),
        effect=small_spectrum,
        holds="below",
        threshold=1.0,
    ),
    Claim(
        name="c10-prelayernorm",
        statement="PreLayerNorm is able to condition the Hessian similarly to Batch Norm.",
        source="section 6, Figure 4",
        items=("fig4",),
        effect=conditioned_alike,
        holds="above",
        threshold=0.0,  # nearer to Batch Norm than Layer Norm is
    ),
    Claim(
        name="c11-skips",
        statement="Residual connections improve conditioning across all techniques.",
        source="section 9, Figure App.5",
        items=("fig4", "app5"),
        effect=skips_condition,
        holds="above",
        threshold=0.0,
    ),
)
