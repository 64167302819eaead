"""Claims 7 to 9: gradients of the untrained network, by weights and by logits."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from normscope.study import Claim, Effect
from normscope_papers.common.rows import effect, log, pick, wide
from normscope_papers.understanding_batch_norm.rows import by_layer, by_normalizer

if TYPE_CHECKING:
    import pandas as pd

PAIR = ("batchnorm", "none")


def gradient(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """A moment of the gradient of figure 2: seeds x normalizers."""
    return wide(pick(frame, item="fig2", probe="gradient_histogram", name=name), PAIR)


def kurtosis(frame: pd.DataFrame, *, norm: str) -> Effect:
    """Excess kurtosis of the gradient's entries."""
    return effect(f"excess kurtosis of the gradient's entries: {norm}", gradient(frame, "excess_kurtosis")[norm])


def wider(frame: pd.DataFrame) -> Effect:
    """Range of the gradient's entries without batch norm beside that with it, in decades."""
    table = gradient(frame, "largest")
    return effect(
        "log10 of the largest entry of the gradient: none - batchnorm", log(table["none"] / table["batchnorm"], base=10)
    )


def column_share(frame: pd.DataFrame) -> pd.DataFrame:
    """Share of the images whose largest logit gradient lies in the most frequent column: seeds x normalizers."""

    def share(rows: pd.DataFrame) -> float:
        table = rows.pivot_table(index="depth", columns="layer", values="value")
        return float(table.idxmax(axis=1).value_counts(normalize=True).iloc[0])

    return by_normalizer(pick(frame, item="fig6", probe="logit_gradients", name="gradient"), PAIR, share)


def one_column(frame: pd.DataFrame) -> Effect:
    """That share without batch norm."""
    what = "share of the images whose largest logit gradient lies in one and the same column: none"
    return effect(what, column_share(frame)["none"])


def weaker_columns(frame: pd.DataFrame) -> Effect:
    """That share without batch norm minus with it."""
    table = column_share(frame)
    what = "share of the images whose largest logit gradient lies in one column: none - batchnorm"
    return effect(what, table["none"] - table["batchnorm"])


def cosines(frame: pd.DataFrame) -> Effect:
    """How much more alike the logit gradients of different images are without batch norm."""
    table = wide(pick(frame, item="fig6", probe="logit_gradients", name="cosine"), PAIR)
    return effect("mean cosine of logit gradients: none - batchnorm", table["none"] - table["batchnorm"])


def cancellation(frame: pd.DataFrame) -> pd.DataFrame:
    """The logarithm of a/b of table 1: (seed, layer) x normalizers, layers in order."""
    rows = by_layer(pick(frame, item="table1", probe="gradient_sums", name="a/b"))
    return wide(rows, PAIR, along=["depth"]).apply(log)


def cancels(frame: pd.DataFrame, *, norm: str) -> Effect:
    """Geometric mean of a/b over the layers."""
    means = cancellation(frame)[norm].groupby("seed").mean()
    return effect(f"a/b, geometric mean over the layers: {norm}", means.map(math.exp))


def cancels_more(frame: pd.DataFrame) -> Effect:
    """a/b with batch norm beside that without, in decades, mean over the layers."""
    table = cancellation(frame)
    return effect(
        "log10 of a/b, mean over layers: batchnorm - none", (table["batchnorm"] - table["none"]) / math.log(10)
    )


def falls_with_depth(frame: pd.DataFrame) -> Effect:
    """Batch norm's a/b in the first of the layers beside that in the last, as logarithm."""
    groups = cancellation(frame)["batchnorm"].groupby("seed")
    return effect("ln of a/b of batchnorm: first layer - last", groups.first() - groups.last())


CLAIMS = (
    Claim(
        name="c07-none",
        statement="Without batch norm gradients are heavy-tailed at initialization.",
        source="Figure 2",
        items=("fig2",),
        effect=partial(kurtosis, norm="none"),
        holds="above",
        threshold=3.0,  # Laplace's distribution
    ),
    Claim(
        name="c07-batchnorm",
        statement="With batch norm the histogram of gradients is bell-shaped.",
        source="Figure 2",
        items=("fig2",),
        effect=partial(kurtosis, norm="batchnorm"),
        holds="below",
        threshold=1.0,  # a third of Laplace's
    ),
    Claim(
        name="c07-wider",
        statement="Without batch norm the gradient's entries span about two orders of magnitude more.",
        source="Figure 2",
        items=("fig2",),
        effect=wider,
        holds="above",
        threshold=1.0,  # half of two orders
    ),
    Claim(
        name="c08-none",
        statement="Without batch norm the same class is predicted for almost every image: one column of the logit "
        "gradients is positive throughout.",
        source="Figure 6",
        items=("fig6",),
        effect=one_column,
        holds="above",
        threshold=0.8,  # of at most about 0.9: an image of the class itself has a negative entry there
    ),
    Claim(
        name="c08-batchnorm",
        statement="With batch norm that column structure is weaker.",
        source="Figure 6",
        items=("fig6",),
        effect=weaker_columns,
        holds="above",
        threshold=0.1,  # a tenth of the images
    ),
    Claim(
        name="c08-cosine",
        statement="Without batch norm logit gradients depend less on the input: different images' are more alike.",
        source="Figure 6",
        items=("fig6",),
        effect=cosines,
        holds="above",
        threshold=0.0,  # an order is claimed
    ),
    Claim(
        name="c09-batchnorm",
        statement="With batch norm the parts of a gradient cancel: their sizes sum to many times the size of their "
        "sum.",
        source="Table 1",
        items=("table1",),
        effect=partial(cancels, norm="batchnorm"),
        holds="above",
        threshold=10.0,  # "many": an order of magnitude
    ),
    Claim(
        name="c09-none",
        statement="Without batch norm the parts of a gradient hardly cancel.",
        source="Table 1",
        items=("table1",),
        effect=partial(cancels, norm="none"),
        holds="below",
        threshold=10.0,
    ),
    Claim(
        name="c09-more",
        statement="The parts of a gradient cancel far more with batch norm than without.",
        source="Table 1",
        items=("table1",),
        effect=cancels_more,
        holds="above",
        threshold=0.5,  # half a decade: three times
    ),
    Claim(
        name="c09-depth",
        statement="With batch norm the parts cancel less in deeper layers.",
        source="Table 1",
        items=("table1",),
        effect=falls_with_depth,
        holds="above",
        threshold=0.0,
    ),
)
