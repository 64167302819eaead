"""Claim 11: the largest eigenvalue of the Hessian and its ratio to the tenth, through training."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from normscope.study import Claim, Effect
from normscope_papers.common.rows import at, at_chosen_rate, effect, log, pick, wide
from normscope_papers.is_batch_norm_unique.claims.spectra import STEP

if TYPE_CHECKING:
    import pandas as pd


def sharpness(frame: pd.DataFrame, name: str, names: tuple[str, ...]) -> pd.DataFrame:
    """Figure 6: (seed, step) x normalizers."""
    return wide(pick(at_chosen_rate(frame, "fig6"), probe="sharpness", name=name), names, along=["step"])


def others_suppress(frame: pd.DataFrame) -> Effect:
    """Layer norm's λ₁/λ₁₀ beside the largest of the others, at the last step."""
    table = at(sharpness(frame, "lambda_ratio", (*_SUPPRESSING, "layernorm")), None)
    others = table[[*_SUPPRESSING]].max(axis=1, skipna=False)
    return effect("λ₁/λ₁₀ at the last step: layernorm / largest of the others", table["layernorm"] / others)


def largest_at_start(frame: pd.DataFrame) -> Effect:
    """Batch norm's largest eigenvalue at initialization beside the largest of the rows it is compared with."""
    rivals = ("layernorm", "weightnorm", "prelayernorm", "regnorm")
    table = at(sharpness(frame, "lambda_max", (*rivals, "batchnorm")), 0)
    others = table[[*rivals]].max(axis=1, skipna=False)
    return effect("λ₁ at initialization: batchnorm / largest of the batch-free rows", table["batchnorm"] / others)


def falls_quickly(frame: pd.DataFrame) -> Effect:
    """Batch norm's largest eigenvalue at step 50 beside that at initialization."""
    table = sharpness(frame, "lambda_max", ("batchnorm",))
    ratio = at(table, STEP) / at(table, 0)
    return effect("λ₁ of batchnorm: at step 50 / at initialization", ratio["batchnorm"])


def similar_later(frame: pd.DataFrame) -> Effect:
    """The largest λ₁ of the rows that suppress outliers over the smallest, at the last step."""
    table = at(sharpness(frame, "lambda_max", _SUPPRESSING), None)
    ratio = table.max(axis=1, skipna=False) / table.min(axis=1, skipna=False)
    return effect("λ₁ at the last step: largest / smallest of batchnorm, bmlv, prelayernorm, regnorm", ratio)


def layernorm_is_low(frame: pd.DataFrame) -> Effect:
    """Layer norm's largest eigenvalue beside batch norm's, mean of the logarithm over steps."""
    table = log(sharpness(frame, "lambda_max", ("layernorm", "batchnorm")))
    return effect("log λ₁, mean over steps: layernorm - batchnorm", table["layernorm"] - table["batchnorm"])


def weightnorm_unlike_none(frame: pd.DataFrame) -> Effect:
    """Distance of weight norm's log λ₁/λ₁₀ from that without normalizer, at the last step."""
    table = log(at(sharpness(frame, "lambda_ratio", ("weightnorm", "none")), None))
    return effect(
        "distance of log λ₁/λ₁₀ at the last step: weightnorm and none", (table["weightnorm"] - table["none"]).abs()
    )


def beside_none(frame: pd.DataFrame, *, norm: str) -> Effect:
    """A row's λ₁/λ₁₀ beside that without normalizer, at the last step."""
    table = at(sharpness(frame, "lambda_ratio", (norm, "none")), None)
    return effect(f"λ₁/λ₁₀ at the last step: {norm} / none", table[norm] / table["none"])


_SUPPRESSING = ("batchnorm", "bmlv", "prelayernorm", "regnorm")

CLAIMS = (
    Claim(
        name="c11-suppression",
        statement="Most normalization techniques are able to suppress outliers, except Layer Norm.",
        source="section 6, Figure 6(a)",
        items=("fig6",),
        effect=others_suppress,
        holds="above",
        threshold=1.0,
    ),
    Claim(
        name="c11-batchnorm",
        statement="Batch Norm suppresses outliers: its λ₁/λ₁₀ is below that of the network without normalizer.",
        source="section 6, Figure 6(a)",
        items=("fig6",),
        effect=partial(beside_none, norm="batchnorm"),
        holds="below",
        threshold=1.0,
    ),
    Claim(
        name="c11-start",
        statement="At initialization Batch Norm has the largest maximum eigenvalue.",
        source="section 6, Figure 6(b)",
        items=("fig6",),
        effect=largest_at_start,
        holds="above",
        threshold=1.0,
        remark="By mean-field theory PreLayerNorm's gradients explode at initialization as Batch Norm's do, and "
        "RegNorm's once R is small, so that their curvature there is of the same kind.",
    ),
    Claim(
        name="c11-falls",
        statement="Batch Norm's maximum eigenvalue quickly decreases.",
        source="section 6, Figure 6(b)",
        items=("fig6",),
        effect=falls_quickly,
        holds="below",
        threshold=0.5,  # to less than half within 50 steps
    ),
    Claim(
        name="c11-similar",
        statement="Most other normalizers condition the spectrum similarly through training.",
        source="section 6, Figure 6(b)",
        items=("fig6",),
        effect=similar_later,
        holds="below",
        threshold=3.0,  # a factor of three is small on the figure's logarithmic axis
    ),
    Claim(
        name="c11-layernorm",
        statement="Layer Norm has a small spectrum through training.",
        source="section 6, Figure 6(b)",
        items=("fig6",),
        effect=layernorm_is_low,
        holds="below",
        threshold=0.0,
    ),
    Claim(
        name="c11-weightnorm",
        statement="Weight Norm does not affect the conditioning of the Hessian.",
        source="section 9",
        items=("fig6",),
        effect=weightnorm_unlike_none,
        holds="below",
        threshold=math.log(1.5),  # half as much again, either way
    ),
)
