"""Claims 12 to 14: final scores, and what the batch's statistics have to do with them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from normscope.study import Claim, Effect
from normscope_papers.common.rows import at, at_chosen_rate, effect, final_values, last, nothing, pick, wide
from normscope_papers.is_batch_norm_unique import scores

if TYPE_CHECKING:
    import pandas as pd

OURS = ("PreLayerNorm", "RegNorm", "PreRegNorm")
"""The paper's proposals."""

IMAGES = ("cifar10", "resnet50", "resnet101")


def ahead(frame: pd.DataFrame, *, column: str, first: Sequence[str], then: Sequence[str]) -> Effect:
    """The worst score of the rows `first` minus the best of the rows `then`; nothing where the column is not judged.

    In percentage points; of text, where less is better, the difference of the logarithms.
    """
    text = column == scores.TEXT
    unit = "1" if text else "percentage points"
    quantity = "log perplexity" if text else "accuracy"
    what = f"test {quantity}, {column}: {' / '.join(first)} ahead of {' / '.join(then)}"
    found = scores.column(frame, column)
    if not found.judged():
        return nothing(what, unit=unit)
    mine, theirs = (_good(found, rows) for rows in (first, then))
    return effect(what, mine.min(axis=1, skipna=False) - theirs.max(axis=1, skipna=False), unit=unit)


def _good(column: scores.Column, rows: Sequence[str]) -> pd.DataFrame:
    """Scores of which more is better: seeds x rows."""
    import pandas as pd

    table = pd.DataFrame({row: column.scores(row) for row in rows}).rename_axis("seed")
    return -table.map(math.log) if column.name == scores.TEXT else table


def tested(frame: pd.DataFrame) -> pd.DataFrame:
    """Figure 5: accuracies under test-batch statistics, of networks trained at the batch-free rows' batch size."""
    rows = pick(at_chosen_rate(frame, "fig5"), probe="batch_size_accuracy", name="test_accuracy")
    return _reference(frame, rows)


def _reference(frame: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the training batch at which batch-free rows were trained too."""
    trained = pick(at_chosen_rate(frame, "fig5"), kind="train")
    conditions = trained.loc[trained["normalizer"] == "prelayernorm", "condition"].unique().tolist()
    return pick(rows, condition=conditions)


def running(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Figure 5: test accuracies of those networks in eval mode: seeds x normalizers."""
    return wide(
        _reference(frame, final_values(pick(at_chosen_rate(frame, "fig5"), kind="train"), "test_accuracy")), names
    )


def aggregated_is_better(frame: pd.DataFrame) -> Effect:
    """Batch norm's accuracy with running statistics minus that with those of the largest test batches."""
    rows = last(tested(frame), "depth")
    by_batch = wide(rows, ["batchnorm"])
    difference = 100 * (running(frame, ["batchnorm"]) - by_batch)
    what = "test accuracy of batchnorm: running statistics - those of the largest test batches"
    return effect(what, difference["batchnorm"], unit="percentage points")


def changes_with_size(frame: pd.DataFrame, *, norm: str) -> Effect:
    """Accuracy under the statistics of the largest test batches minus that under those of the smallest."""
    rows = pick(tested(frame), normalizer=norm)
    smallest = rows[rows["depth"] == rows.groupby("trial")["depth"].transform("min")]
    difference = 100 * (wide(last(rows, "depth"), [norm]) - wide(smallest, [norm]))
    what = f"test accuracy of {norm} by test-batch statistics: largest - smallest test batches"
    return effect(what, difference[norm], unit="percentage points")


def edge(frame: pd.DataFrame, *, aggregated: bool) -> Effect:
    """Batch norm's accuracy minus the best batch-free row's, with running or with test-batch statistics."""
    free = running(frame, ["layernorm", "prelayernorm", "regnorm"]).max(axis=1, skipna=False)
    own = running(frame, ["batchnorm"]) if aggregated else wide(last(tested(frame), "depth"), ["batchnorm"])
    by = "running statistics" if aggregated else "statistics of the largest test batches"
    what = f"test accuracy: batchnorm with {by} - best batch-free row"
    return effect(what, 100 * (own["batchnorm"] - free), unit="percentage points")


def slower_in_large_batches(frame: pd.DataFrame) -> Effect:
    """Batch norm's last-site correlation at initialization in the largest batches minus that in the smallest."""
    rows = pick(at_chosen_rate(frame, "fig5"), kind="init", probe="information_propagation", normalizer="batchnorm")
    rows = last(pick(rows, name="correlation"), "depth")
    sizes = rows["condition"].str.extract(r"batch (\d+)", expand=False).astype(float)
    table = wide(rows.assign(step=sizes), ["batchnorm"], along=["step"])["batchnorm"]
    what = "last-site correlation of batchnorm at initialization: largest - smallest batches"
    if table.empty:
        return nothing(what)
    return effect(what, at(table, None) - at(table, int(sizes.min())))


_WHERE = {
    "cifar10": "WideResNet on CIFAR-10",
    "resnet50": "ResNet-50 v1 on ImageNet",
    "resnet101": "ResNet-101 v1 on ImageNet",
}
_REST = ("Layer", "PreLayerNorm", "RegNorm", "PreRegNorm", "BMLV", "LMBV")

# Name of the claim, its statement, and which rows are ahead of which.
_ORDERS = (
    ("best", "Batch Norm performs best", ("Batch",), _REST),
    ("batch-train", "The proposed techniques outperform Batch-Train", OURS, ("Batch-Train",)),
    ("layernorm", "RegNorm and PreLayerNorm reliably outperform Layer Norm", OURS[:2], ("Layer",)),
    ("pre", "Using Pre-Normalization helps increase RegNorm's performance", ("PreRegNorm",), ("RegNorm",)),
)
_REMARKS = {
    ("batch-train", "resnet50"): "In the paper's own table RegNorm ties with Batch-Train here, 74.78 both.",
    ("pre", "cifar10"): "The paper's own table has RegNorm 95.84 and PreRegNorm 95.81.",
}

# Name of the claim, whether test time has the accumulated statistics, and what is said of Batch Norm then.
_EDGES = (
    (
        "c14-edge",
        True,
        "With accumulated statistics at test time Batch Norm performs better than the methods without batch "
        "dependence.",
    ),
    ("c14-no-edge", False, "Without accumulated statistics at test time Batch Norm loses that advantage."),
)

CLAIMS = (
    *(
        Claim(
            name=f"c12-{name}-{column}",
            statement=f"{statement} ({where}).",
            source="section 7, Table 3",
            items=("table3",),
            effect=partial(ahead, column=column, first=first, then=then),
            holds="above",
            threshold=0.0,  # table 3 is read as an order; its differences are tenths of a point
            remark=_REMARKS.get((name, column), ""),
        )
        for column, where in _WHERE.items()
        for name, statement, first, then in _ORDERS
    ),
    Claim(
        name="c13-prelayernorm",
        statement="Replacing Layer Norm by Pre-Normalization outperforms it on the LM1B language modeling task.",
        source="section 7, Table 3",
        items=("table3",),
        effect=partial(ahead, column="lm1b", first=("PreLayerNorm",), then=("Layer",)),
        holds="above",
        threshold=0.0,
    ),
    Claim(
        name="c13-none",
        statement="Layer Norm is far better than no normalization on the LM1B language modeling task.",
        source="Table 3",
        items=("table3",),
        effect=partial(ahead, column="lm1b", first=("Layer",), then=("None",)),
        holds="above",
        threshold=0.1,  # a tenth less perplexity; the paper's difference is log(59.2 / 38.34) = 0.43
    ),
    Claim(
        name="c14-aggregated",
        statement="Even for large test-time batch sizes, Batch Norm without aggregated means and variances produces "
        "significantly worse test accuracy.",
        source="section 8, Figure 5",
        items=("fig5",),
        effect=aggregated_is_better,
        holds="above",
        threshold=0.0,
    ),
    *(
        Claim(
            name=f"c14-size-{norm}",
            statement=f"The performance of {title} changes with the batch size if population statistics are not used.",
            source="section 8, Figure 5",
            items=("fig5",),
            effect=partial(changes_with_size, norm=norm),
            holds="above",
            threshold=1.0,  # a point: about the sampling error of 2,000 test images
        )
        for norm, title in (("batchnorm", "Batch Norm"), ("bmlv", "BMLV"), ("lmbv", "LMBV"))
    ),
    *(
        Claim(
            name=name,
            statement=statement,
            source="section 8, Figure 5",
            items=("fig5",),
            effect=partial(edge, aggregated=aggregated),
            holds="above" if aggregated else "below",
            threshold=0.0,
        )
        for name, aggregated, statement in _EDGES
    ),
    Claim(
        name="c14-decorrelation",
        statement="With increasing batch size, Batch Norm causes slower decorrelation through depth at initialization.",
        source="section 8, after Yang et al. 2019",
        items=("fig5",),
        effect=slower_in_large_batches,
        holds="above",
        threshold=0.1,  # as visible as every other difference of correlations
    ),
)
