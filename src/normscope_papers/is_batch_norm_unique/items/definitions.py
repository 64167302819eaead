"""Tables 1 and 2: what the normalizers are, and which properties a measurement gives them."""

from __future__ import annotations

from typing import Any

from normscope.study import Item
from normscope_papers.common.data_sets import CIFAR10, DIGITS
from normscope_papers.common.drawing import no_figures
from normscope_papers.common.experiments import Stages, measured, named
from normscope_papers.is_batch_norm_unique import notes, tables
from normscope_papers.is_batch_norm_unique.items.initialization import gradient_norm, signal
from normscope_papers.is_batch_norm_unique.untrained import Untrained

_DEPENDENCE = (measured("batch_dependence", 0), measured("train_eval_gap", 0))


def definitions(**fields: Any) -> Stages:
    """Table 1 needs no run; each row's dependence on the batch, which its axes imply, is measured beside it."""
    setting = Untrained(**fields)
    return setting.measured(setting.wide_resnet(skips=False), *_DEPENDENCE)


def properties(*, batches: int, noise: float, **fields: Any) -> Stages:
    """Table 2: what an untrained network tells of a normalizer."""
    setting = Untrained(**fields)
    return setting.measured(
        setting.wide_resnet(skips=False),
        *_DEPENDENCE,
        gradient_norm(batches, theory=True),
        signal(batches, noise, theory=True),
        measured("moments", 0, batches=batches),
    )


_TABLE_1 = {
    "data": DIGITS,
    "max_train": 256,
    "norms": named("batchnorm", "layernorm", "weightnorm", "bmlv", "lmbv", "prelayernorm", "regnorm"),
    "seeds": 1,
    "depth": 8,
    "width": 1,
    "batch_size": 16,
}
_TABLE_2 = {"norms": named("batchnorm", "bmlv", "layernorm", "prelayernorm", "regnorm"), "noise": 0.1}

ITEMS = (
    Item(
        name="table1",
        title="The normalizers: layer operation, normalization and its axes",
        source="Table 1",
        fields={
            "smoke": _TABLE_1,
            "laptop": _TABLE_1 | {"max_train": None, "seeds": 3, "batch_size": 64},
            "paper": _TABLE_1 | {"max_train": None, "seeds": 3, "batch_size": 64},
        },
        study=definitions,
        figures=no_figures,
        tables=tables.definitions,
        notes=(
            "Rendered from the table of normalizers itself, normscope.normalizers(). The cells of the paper's table "
            "are lost; they are reconstructed from its words and from which cells are empty.",
            "The last column is measured on an untrained WRN-8-1 and the built-in digits, at every scale: by how much "
            "the outputs of half a batch change when the other half is exchanged.",
        ),
    ),
    Item(
        name="table2",
        title="Properties of the normalizers, each decided by a measurement",
        source="Table 2",
        reads=("fig3", "fig6"),
        fields={
            "smoke": _TABLE_1 | _TABLE_2 | {"batches": 2},
            "laptop": _TABLE_1
            | _TABLE_2
            | {"data": CIFAR10, "max_train": 2000, "seeds": 3, "depth": 26, "width": 2, "batch_size": 64, "batches": 4},
            "paper": _TABLE_1
            | _TABLE_2
            | {
                "data": CIFAR10,
                "max_train": None,
                "seeds": 5,
                "depth": 26,
                "width": 2,
                "batch_size": 128,
                "batches": 4,
            },
        },
        study=properties,
        figures=no_figures,
        tables=tables.properties,
        notes=(
            "Every entry is a number and a rule fixed in code before any run; the paper's sign stands beside it. Two "
            "of the paper's entries are lost signs and read as '~', after the footnote.",
            "Own measurements: means and scales of normalized outputs, dependence on the batch, train-test difference, "
            "gradient growth. The other properties are of training and read from runs of fig3 and fig6, where they are "
            "given; else 'not measured'.",
            notes.GRADIENT_NORM,
            "laptop: batches of 64 instead of 128, three seeds, the first 2,000 training images.",
            notes.SMOKE,
        ),
    ),
)
