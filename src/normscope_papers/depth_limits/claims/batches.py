"""Table D1, and what the paper did not test: how many samples, and how many of them are copies."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from normscope.study import Claim, Effect
from normscope_papers.common.rows import effect, nothing
from normscope_papers.depth_limits.claims.gradients import FLAT, PER_LAYER
from normscope_papers.depth_limits.rates import growths
from normscope_papers.depth_limits.rows import log_norms, rows_with_conditions, slopes

if TYPE_CHECKING:
    import pandas as pd


def shares(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Rank over size of batches: rows of data_set, samples and seed."""
    rows = rows_with_conditions(frame, "d1", probe="batch_rank", name=name)
    return rows.assign(value=rows["value"] / rows["samples"]) if len(rows) else rows


def full_rank(frame: pd.DataFrame) -> Effect:
    """The least rank over size of batches of up to 64 samples, over all data sets and sizes."""
    rows = shares(frame, "raw_rank_float32")
    small = rows[rows["samples"] <= 64] if len(rows) else rows
    what = "rank / samples in float32, least of all data sets and sizes up to 64"
    return effect(what, small.groupby("seed")["value"].min())


def lost_to_tolerance(frame: pd.DataFrame) -> Effect:
    """Rank over size of 512 CIFAR-10 images in float64 less that in float32."""
    what = "rank / samples of 512 CIFAR-10 images: float64 - float32"
    found = []
    for precision in ("float64", "float32"):
        rows = shares(frame, f"raw_rank_{precision}")
        own = rows[(rows["samples"] == 512) & (rows["data_set"] == "cifar10")] if len(rows) else rows
        if own.empty:
            return nothing(what)
        found.append(own.groupby("seed")["value"].mean())
    return effect(what, found[0] - found[1])


FEWER = 0.75
"""Samples over units up to which theory has growth above what counts as flat: 0.0017 at 75 of 100, 0.0006 at 90."""


def _by(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Slope of each seed's values against the depth of the network, by a column of the condition."""
    import pandas as pd

    return pd.DataFrame({size: slopes(part) for size, part in rows.groupby(column)})


def by_samples(frame: pd.DataFrame, *, enough: bool) -> Effect:
    """The largest size of a slope with as many samples as units or more; or the least slope with far fewer."""
    rows = log_norms(frame, "samples")
    which = "as many samples as units or more" if enough else f"at most {FEWER:g} samples for each unit"
    what = f"{'|slope|, largest' if enough else 'slope, least'} with {which}"
    if rows.empty:
        return nothing(what, unit=PER_LAYER)
    share = rows["samples"] / rows["width"]
    found = _by(rows[share >= 1 if enough else share <= FEWER], "samples")
    values = found.abs().max(axis=1, skipna=False) if enough else found.min(axis=1, skipna=False)
    return effect(what, values.rename_axis("seed"), unit=PER_LAYER)


def by_law(frame: pd.DataFrame, *, item: str, along: str) -> Effect:
    """How far slopes lie from theory's, relative to it: largest of those for which theory has more than flat."""
    what = "|slope of log ‖∇W₂‖ against depth over theory's - 1|, largest where theory's is more than flat"
    measured, theory = log_norms(frame, item), growths(frame, item, theory=True)
    if measured.empty or theory.empty:
        return nothing(what)
    expected = _by(theory, along)
    steep = [size for size in expected if expected[size].min() > FLAT]
    ratios = _by(measured, along).reindex(columns=steep) / expected[steep]
    return effect(what, (ratios - 1).abs().max(axis=1, skipna=False).rename_axis("seed"))


def ordered_by_copies(frame: pd.DataFrame) -> Effect:
    """Spearman's correlation of the slope with the number of copies, by seed."""
    rows = log_norms(frame, "repeated")
    what = "rank correlation of the slope of log ‖∇W₂‖ against depth with the number of repeated samples"
    if rows.empty:
        return nothing(what)
    import pandas as pd

    found = _by(rows, "repeated")
    ranks = found.rank(axis=1)
    order = pd.Series(found.columns.to_numpy(float), index=found.columns).rank()
    return effect(what, ranks.apply(lambda line: line.corr(order), axis=1).rename_axis("seed"))


def one_copy(frame: pd.DataFrame) -> Effect:
    """The slope with one sample repeated."""
    found = slopes(log_norms(frame, "repeated", repeated=1))
    return effect("slope of log ‖∇W₂‖ against depth, one sample repeated", found, unit=PER_LAYER)


CLAIMS = (
    Claim(
        name="d1-full-rank",
        statement="Batches of up to 64 images have full rank, in every data set.",
        source="Table D1",
        items=("d1",),
        effect=full_rank,
        holds="above",
        threshold=0.999,  # the table's least is 1, and 63 of 64 would be 0.984
    ),
    Claim(
        name="s5-rank-tolerance",
        statement="That the rank of 512 CIFAR-10 images is far from full is a matter of float32's tolerance.",
        source="derived; Table D1 has 203.7",
        items=("d1",),
        effect=lost_to_tolerance,
        holds="above",
        threshold=0.25,  # less than half of the table's deficit of 0.6 would leave most of it to the images
    ),
    Claim(
        name="n1-fewer-samples",
        statement="With three quarters as many samples as units, or fewer, gradients explode as with repeated samples.",
        source="not in the paper; derived",
        items=("samples",),
        effect=partial(by_samples, enough=False),
        holds="above",
        threshold=FLAT,
    ),
    Claim(
        name="n1-enough-samples",
        statement="With as many samples as units, or more, they do not: n need not be d.",
        source="not in the paper, which has n = d; derived",
        items=("samples",),
        effect=partial(by_samples, enough=True),
        holds="below",
        threshold=FLAT,
    ),
    *(
        Claim(
            name=f"{name}-law",
            statement=f"On batches of rank r that have {what}, they grow by about ½(1/r - 1/d) per layer of d units.",
            source="not in the paper; derived",
            items=(item,),
            effect=partial(by_law, item=item, along=item),
            holds="below",
            threshold=0.25,  # theory leaves out a fifth at three quarters of the full rank, and less below
            remark="Theory is ½ log((r-1)(d-2)/((r-2)(d-1))). Judged at ranks for which that exceeds 0.001.",
        )
        for name, item, what in (("n1", "samples", "too few samples"), ("n2", "repeated", "repeated samples"))
    ),
    Claim(
        name="n2-by-deficit",
        statement="Gradients explode the faster, the more samples are repeated.",
        source="not in the paper, which gives no number; derived",
        items=("repeated",),
        effect=ordered_by_copies,
        holds="above",
        threshold=0.9,  # of eight numbers no more than neighbors change places
    ),
    Claim(
        name="n2-one-copy",
        statement="One repeated sample of a hundred is enough for gradients to explode.",
        source="not in the paper; derived",
        items=("repeated",),
        effect=one_copy,
        holds="above",
        threshold=FLAT,
        remark="Theory has 0.00005 per layer, a twentieth of a nat over a thousand: growth, but no explosion.",
    ),
)
