"""The tables of the items: what table 1 defines, what decides table 2, scores and failed experiments."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import normscope as ns
from normscope.nn import External
from normscope.report import Table, short
from normscope.study import Norm, Study
from normscope_papers.common.cells import written
from normscope_papers.common.drawing import norms
from normscope_papers.common.rows import at_chosen_rate, effect, final_values, last, pick, wide
from normscope_papers.is_batch_norm_unique import scores as table3
from normscope_papers.is_batch_norm_unique.properties import NORMS, PROPERTIES, Property

if TYPE_CHECKING:
    import pandas as pd

Tables = tuple[Table, ...]

_NOTHING = "not measured"
_NOT_TOLD = "?"
_AXES = {"batch": "(N, H, W)", "layer": "(H, W, C)", "channels": "(C)", None: "-"}
_AXES |= {"instance": "(H, W)", "group": "(H, W, C of a group)"}
_LAYER_OPS = {
    "plain": "z = W x + b",
    "centered": "x̃ = x - mean x over (H, W, C), z = W x̃ + b",
    "weight_norm": "z = (g V / ‖V‖) x + b",
    "unit_norm": "z = (V / ‖V‖)(x - m) + b, m a ReLU's mean",
    "standardized": "z = ((V - mean V) / std V) x + b",
}


def definitions(frame: pd.DataFrame, study: Study) -> Tables:
    """Table 1, from the table of normalizers itself, with each row's measured dependence on the batch."""
    change = pick(frame, probe="batch_dependence", name="train_change")
    rows = tuple(
        _definition(ns.normalizer(norm.name, **norm.options), change, norm.label)
        for norm in sorted_as_table(norms(study))
    )
    return (
        Table(
            "Table 1. x is a layer's input, z what its affine operation gives; axes of images, for dense layers (N) "
            "and (C). Then the relative change of outputs when half of the batch is exchanged: mean [95 % interval].",
            ("normalization", "layer op", "norm op", "mean axes", "std axes", "dependence on the batch"),
            rows,
        ),
    )


def _definition(row: ns.Normalizer | External, change: pd.DataFrame, label: str) -> tuple[str, ...]:
    # The row's own formula ends in what is added to the loss, where something is.
    penalty = " (+ penalty in the loss)" if row.penalized else ""
    measured = written(effect("", wide(change, [label])[label]))
    if not isinstance(row, ns.Normalizer):  # of another package, which says what it does in one line
        return (label, _NOT_TOLD, row.formula, _NOT_TOLD, _NOT_TOLD, measured)
    return (label, _LAYER_OPS[row.layer], norm_op(row) + penalty, _AXES[row.mean], _AXES[row.scale], measured)


def norm_op(row: ns.Normalizer) -> str:
    """What a row does to z: subtract a mean or not, divide by a deviation, a root mean square or nothing."""
    top = "z - μ" if row.mean else "z"
    if row.scale is None:
        return "-" if row.mean is None else top
    bottom = {"std": "σ", "rms": "rms", "norm": "‖z‖"}[row.moment]
    return f"({top}) / {bottom}" if row.mean else f"{top} / {bottom}"


def sorted_as_table(asked: Iterable[Norm]) -> list[Norm]:
    """Normalizers in the order of `normscope.normalizers()`."""
    order = [row.name for row in ns.normalizers()]
    return sorted(asked, key=lambda norm: (order.index(norm.name), norm.label))


def properties(frame: pd.DataFrame, study: Study) -> Tables:  # noqa: ARG001  (every item's tables are called alike)
    """Table 2: for each property and normalizer the number that decides it, its sign, and the paper's sign."""
    header = ("property", *NORMS, "decided by")
    rows = tuple(
        (f"{one.name} ({one.item})", *(_decided(one, frame, norm) for norm in NORMS), one.rule) for one in PROPERTIES
    )
    caption = (
        "Table 2. The sign that a measured number gives by the rule at the right, the number with its 95 % interval "
        "over seeds, and the paper's sign. In brackets the item whose rows decide."
    )
    return (Table(caption, header, rows),)


def _decided(one: Property, frame: pd.DataFrame, norm: str) -> str:
    has_rows = "item" not in frame.columns and one.item == "table2"
    has_rows |= "item" in frame.columns and bool((frame["item"] == one.item).any())
    found = one.measured(frame, norm) if has_rows else None
    mean = math.nan if found is None else found.interval().mean
    sign = _NOTHING if math.isnan(mean) else f"{one.sign(mean)}  {written(found)}"
    return f"{sign}  (paper {one.signs[norm]})"


def scores(frame: pd.DataFrame, study: Study) -> Tables:
    """Table 3: test accuracy in per cent, and perplexity; each column with whether it can be judged."""
    asked = {experiment.condition for experiment in study.experiments}
    columns = [table3.column(frame, name) for name in table3.COLUMNS if name in asked]
    rows = [
        (row, *(written(effect("", column.scores(row)), infinite="diverged") for column in columns))
        for row in table3.LABELS
    ]
    rows.append(("share of the gap closed by batchnorm (layernorm)", *(short(column.closed()) for column in columns)))
    rows.append(("judged", *("yes" if column.judged() else "not judged" for column in columns)))
    caption = (
        "Table 3. Means over seeds [95 % interval] at the rate that validation chose; a diverged training counts as "
        "accuracy 0. Batch-Train: statistics of test batches of the training size. A column is judged where the "
        "yardstick closes at least half of the gap from chance (the untrained networks) to its published score."
    )
    header = ("", *(f"{column.name} ({table3.unit(column.name)})" for column in columns))
    return (Table(caption, header, tuple(rows)),)


def variants(frame: pd.DataFrame, study: Study) -> Tables:
    """Final test accuracy of each normalizer under each condition."""
    return (_by_condition(frame, study, "Test accuracy", "test_accuracy"),)


def conditioning(frame: pd.DataFrame, study: Study) -> Tables:
    """Final test accuracy, and the ratio of the largest eigenvalue of the Hessian to the tenth."""
    rows = pick(last(at_chosen_rate(frame, study.item), "step"), probe="sharpness", name="lambda_ratio")
    accuracy = _by_condition(frame, study, "Test accuracy", "test_accuracy")
    return accuracy, _grid(rows, study, "λ₁/λ₁₀ of the Hessian at the last step")


def _by_condition(frame: pd.DataFrame, study: Study, what: str, name: str) -> Table:
    return _grid(final_values(at_chosen_rate(frame, study.item), name), study, what)


def _grid(values: pd.DataFrame, study: Study, what: str) -> Table:
    asked = {(experiment.condition, experiment.norm.label) for experiment in study.experiments}
    labels = [norm.label for norm in norms(study)]

    def cell(condition: str, label: str) -> str:
        own = wide(pick(values, condition=condition), [label])[label]
        return written(effect("", own)) if (condition, label) in asked else ""

    conditions = dict.fromkeys(experiment.condition for experiment in study.experiments)
    rows = tuple((condition, *(cell(condition, label) for label in labels)) for condition in conditions)
    return Table(f"{what}: mean over seeds [95 % interval], each at its own best rate.", ("", *labels), rows)
