"""Claims 7 to 9: accuracy, correlations and gradients in the first steps."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from normscope.study import Claim, Effect
from normscope_papers.common.rows import at, at_chosen_rate, effect, final_values, nothing, pick, wide
from normscope_papers.is_batch_norm_unique.properties import correlations, rise

if TYPE_CHECKING:
    import pandas as pd

NORMALIZED = ("batchnorm", "weightnorm", "bmlv", "lmbv", "prelayernorm", "regnorm", "preregnorm")
"""The normalizers of figure 3, as far as it can be known, without Layer Norm."""

STEPS = 1000


def slowest(frame: pd.DataFrame) -> Effect:
    """The lowest test accuracy of all normalizers after the last step, where there are 1,000 steps."""
    what = f"test accuracy after {STEPS} or more steps: lowest of all normalizers"
    rows = at_chosen_rate(frame, "fig3")
    if rows.empty or rows["step"].max() < STEPS:
        return nothing(what)
    table = wide(final_values(rows, "test_accuracy"), [*NORMALIZED, "layernorm"])
    return effect(what, table.min(axis=1, skipna=False))


def layernorm_lags(frame: pd.DataFrame) -> Effect:
    """How far layer norm's accuracy curve lies below the median of the others, averaged over the recorded steps."""
    rows = pick(at_chosen_rate(frame, "fig3"), probe="evaluation", name="test_accuracy")
    table = wide(rows[rows["step"] > 0], [*NORMALIZED, "layernorm"])
    others = table[[*NORMALIZED]].median(axis=1, skipna=False)
    what = "test accuracy, mean over steps: median of the others - layernorm"
    return effect(what, others - table["layernorm"])


def falls_again(frame: pd.DataFrame) -> Effect:
    """How far batch norm's final-layer correlation ends below its maximum."""
    curve = correlations(frame, ["batchnorm"])["batchnorm"]
    peak, end = curve.groupby("seed").max(), at(curve, None)
    return effect("final layer's correlation of batchnorm: maximum - last", peak - end)


def at_start(frame: pd.DataFrame, *, norm: str) -> Effect:
    """A row's final-layer correlation at initialization."""
    curve = correlations(frame, [norm])[norm]
    return effect(f"final layer's correlation at initialization: {norm}", at(curve, 0))


def layernorm_stays_high(frame: pd.DataFrame) -> Effect:
    """The lowest value of layer norm's final-layer correlation."""
    curve = correlations(frame, ["layernorm"])["layernorm"]
    return effect("final layer's correlation of layernorm: minimum over steps", curve.groupby("seed").min())


def closer_than_layernorm(frame: pd.DataFrame) -> Effect:
    """How much nearer to batch norm's curve PreLayerNorm's is than layer norm's."""
    curves = correlations(frame, ["batchnorm", "layernorm", "prelayernorm"])
    far, near = ((curves[norm] - curves["batchnorm"]).abs() for norm in ("layernorm", "prelayernorm"))
    return effect("distance to batchnorm's correlation, mean over steps: layernorm - prelayernorm", far - near)


def confusion(frame: pd.DataFrame, pairs: str, names: tuple[str, ...]) -> pd.DataFrame:
    """Figure 3(c): gradient correlation, mean over the steps after the first update: seeds x normalizers."""
    rows = pick(at_chosen_rate(frame, "fig3"), probe="gradient_correlation", name=pairs)
    return wide(rows[rows["step"] > 0], names)


_RIVALS = ("layernorm", "prelayernorm", "regnorm", "weightnorm")


def least_confusion(frame: pd.DataFrame) -> Effect:
    """The smallest gradient correlation of the batch-free rows minus batch norm's."""
    table = confusion(frame, "similar", (*_RIVALS, "batchnorm"))
    others = table[[*_RIVALS]].min(axis=1, skipna=False)
    what = "gradient correlation (similar batches), mean over steps: least of the batch-free rows - batchnorm"
    return effect(what, others - table["batchnorm"])


def least_conflict(frame: pd.DataFrame) -> Effect:
    """Batch norm's correlation of independent gradients minus the largest of the batch-free rows'."""
    table = confusion(frame, "independent", (*_RIVALS, "batchnorm"))
    others = table[[*_RIVALS]].max(axis=1, skipna=False)
    what = "gradient correlation (independent batches), mean over steps: batchnorm - largest of the batch-free rows"
    return effect(what, table["batchnorm"] - others)


def bmlv_confusion(frame: pd.DataFrame) -> Effect:
    """Distance of BMLV's gradient correlation from batch norm's."""
    table = confusion(frame, "similar", ("bmlv", "batchnorm"))
    what = "gradient correlation (similar batches), mean over steps: distance of bmlv and batchnorm"
    return effect(what, (table["bmlv"] - table["batchnorm"]).abs())


def layernorm_approaches_one(frame: pd.DataFrame) -> Effect:
    """Layer norm's gradient correlation at the last step."""
    rows = pick(at_chosen_rate(frame, "fig3"), probe="gradient_correlation", name="similar", normalizer="layernorm")
    curve = wide(rows, ["layernorm"], along=["step"])["layernorm"]
    return effect("gradient correlation (similar batches) at the last step: layernorm", at(curve, None))


def prelayernorm_between(frame: pd.DataFrame) -> Effect:
    """By how much PreLayerNorm's gradient correlation lies inside the interval from batch norm's to layer norm's."""
    table = confusion(frame, "similar", ("batchnorm", "layernorm", "prelayernorm"))
    above, below = table["prelayernorm"] - table["batchnorm"], table["layernorm"] - table["prelayernorm"]
    what = "gradient correlation of prelayernorm: distance inside the interval from batchnorm's to layernorm's"
    return effect(what, above.where(above < below, below))


_VISIBLE = 0.1  # of a correlation, as at initialization
_TWO_READINGS = (
    "Rao and Sohl-Dickstein call highly correlated gradients confused; Sankararaman et al. 2019, whom they cite, call "
    "negatively correlated gradients of independent batches confused. By the first meaning batch norm's correlation "
    "has to be the smallest, by the second the largest; both are judged."
)

CLAIMS = (
    Claim(
        name="c07-accuracy",
        statement="By step 1000, networks with all normalization schemes perform with greater than 50 % accuracy.",
        source="section 5, Figure 3(a)",
        items=("fig3",),
        effect=slowest,
        holds="above",
        threshold=0.5,
        remark="Not judged where training ends before step 1000, as at laptop scale.",
    ),
    Claim(
        name="c07-layernorm",
        statement="Accuracy trajectories look similar for most normalizers, with Layer Norm lagging other approaches.",
        source="section 5, Figure 3(a)",
        items=("fig3",),
        effect=layernorm_lags,
        holds="above",
        threshold=0.02,  # two points: beyond the sampling error of 1,000 test images
    ),
    Claim(
        name="c08-low",
        statement="Batch Norm is chaotic at initialization: the final layer's correlation starts low.",
        source="section 5, Figure 3(b)",
        items=("fig3",),
        effect=partial(at_start, norm="batchnorm"),
        holds="below",
        threshold=0.5,  # nearer to 0 than to 1
    ),
    Claim(
        name="c08-rise",
        statement="In a phase of early training Batch Norm's representations become more correlated.",
        source="section 5, Figure 3(b)",
        items=("fig3",),
        effect=partial(rise, norm="batchnorm"),
        holds="above",
        threshold=_VISIBLE,
    ),
    Claim(
        name="c08-fall",
        statement="After that phase Batch Norm's representations gradually decorrelate again.",
        source="section 5, Figure 3(b)",
        items=("fig3",),
        effect=falls_again,
        holds="above",
        threshold=_VISIBLE / 2,  # "gradually": half of what the rise has to be
    ),
    Claim(
        name="c08-layernorm",
        statement="Layer Norm causes its input representations to be highly correlated through training.",
        source="section 5, Figure 3(b)",
        items=("fig3",),
        effect=layernorm_stays_high,
        holds="above",
        threshold=0.8,
    ),
    Claim(
        name="c08-prelayernorm",
        statement="With Pre-Normalization the final layer's correlation gets closer to Batch Norm's behavior.",
        source="section 5, Figure 3(b)",
        items=("fig3",),
        effect=closer_than_layernorm,
        holds="above",
        threshold=0.0,  # an order is claimed, not a size
    ),
    Claim(
        name="c09-batchnorm",
        statement="Batch Norm induces the least gradient confusion: the least correlated gradients of similar batches.",
        source="section 5, Figure 3(c)",
        items=("fig3",),
        effect=least_confusion,
        holds="above",
        threshold=0.0,
        remark=_TWO_READINGS,
    ),
    Claim(
        name="c09-other-meaning",
        statement="Batch Norm induces the least gradient confusion in the sense of Sankararaman et al.: the most "
        "positively correlated gradients of independent batches.",
        source="section 5, Figure 3(c)",
        items=("fig3",),
        effect=least_conflict,
        holds="above",
        threshold=0.0,
        remark=_TWO_READINGS,
    ),
    Claim(
        name="c09-bmlv",
        statement="BMLV behaves similarly to Batch Norm in gradient correlation.",
        source="section 5, Figure 3(c)",
        items=("fig3",),
        effect=bmlv_confusion,
        holds="below",
        threshold=_VISIBLE,
    ),
    Claim(
        name="c09-layernorm",
        statement="Layer Norm has gradient correlations that rapidly approach 1.",
        source="section 5, Figure 3(c)",
        items=("fig3",),
        effect=layernorm_approaches_one,
        holds="above",
        threshold=0.9,
    ),
    Claim(
        name="c09-prelayernorm",
        statement="PreLayerNorm maintains intermediate values of gradient correlation.",
        source="section 5, Figure 3(c)",
        items=("fig3",),
        effect=prelayernorm_between,
        holds="above",
        threshold=0.05,  # inside by more than the width of a line
    ),
)
