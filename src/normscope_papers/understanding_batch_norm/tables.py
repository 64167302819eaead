"""The tables of the items: sums of gradients, cosines of logit gradients, singular values, final accuracies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from normscope.report import Table, short
from normscope.study import Study
from normscope_papers.common.cells import written
from normscope_papers.common.drawing import norms
from normscope_papers.common.rows import at_chosen_rate, by_seed, effect, final_values, pick
from normscope_papers.understanding_batch_norm.experiments import layer_of
from normscope_papers.understanding_batch_norm.rows import diverging_size, learns, survives

if TYPE_CHECKING:
    import pandas as pd

Tables = tuple[Table, ...]

_MEAN = "mean over seeds [95 % interval]"


def gradient_sums(frame: pd.DataFrame, study: Study) -> Tables:
    """Table 1: a, b and a/b for each convolution and normalizer."""
    rows = pick(frame, probe="gradient_sums")
    layers = rows.sort_values("depth")["layer"].unique()
    cells = tuple(
        (
            norm.label,
            str(layer_of(layer)),
            *(_mean(pick(rows, normalizer=norm.label, layer=layer, name=name)) for name in ("a", "b", "a/b")),
        )
        for norm in norms(study)
        for layer in layers
    )
    caption = (
        f"Table 1, {_MEAN}. a: sum over images and pixels of the sizes of what adds up to the gradient of a weight; b: "
        "the size of that gradient; both averaged over the weights of the convolution."
    )
    return (Table(caption, ("normalizer", "layer", "a", "b", "a/b"), cells or (("–",) * 5,)),)


def logits(frame: pd.DataFrame, study: Study) -> Tables:
    """How alike the rows of the logit gradients are."""
    cosines = pick(frame, probe="logit_gradients", name="cosine")
    cells = tuple((norm.label, _mean(pick(cosines, normalizer=norm.label))) for norm in norms(study))
    caption = f"Mean cosine of the logit gradients of two different images, {_MEAN}."
    return (Table(caption, ("normalizer", "cosine"), cells),)


def products(frame: pd.DataFrame, study: Study) -> Tables:  # noqa: ARG001  (every item's tables are called alike)
    """Largest singular value beside the law's edge, and condition number, by the number of matrices."""
    rows = pick(frame, probe="gaussian_products", name="singular_value")
    edges = pick(frame, probe="theory.gaussian_products", name="largest")
    cells = []
    for factors in sorted(rows["layer"].unique(), key=int):
        own = pick(rows, layer=factors)
        largest, smallest = own.groupby("seed")["value"].max(), own.groupby("seed")["value"].min()
        law = pick(edges, layer=factors)["value"]
        cells.append(
            (
                str(factors),
                written(effect("", largest)),
                "–" if law.empty else f"{law.iloc[0]:.4g}",
                "–" if law.empty else f"{law.iloc[0] ** 2:.4g}",
                short(float(np.median(largest / smallest))),
            )
        )
    caption = (
        f"Largest singular value, {_MEAN}; the edge of the law for infinite size and its square, which is what the "
        "paper's O(M) describes; median condition number."
    )
    header = ("matrices", "largest singular value", "edge", "edge squared", "condition number")
    return (Table(caption, header, tuple(cells) or (("–",) * 5,)),)


def training(frame: pd.DataFrame, study: Study) -> Tables:
    """Final test accuracy of each normalizer at each rate, and how many trainings diverged."""
    trained = pick(frame, kind="train")
    finals, lost = final_values(trained, "test_accuracy"), pick(trained, probe="outcome", name="diverged")
    cells = []
    for label, rate in _rates(study):
        own = pick(finals, normalizer=label, lr=rate)
        ends = pick(lost, normalizer=label, lr=rate)["value"]
        diverged = f"{int(ends.sum())} of {len(ends)}" if len(ends) else "–"
        cells.append((label, f"{rate:g}", _mean(own), diverged))
    caption = f"Final test accuracy, {_MEAN}; a diverged training counts as 0."
    return (Table(caption, ("normalizer", "rate", "test accuracy", "diverged"), tuple(cells)),)


def last_layer(frame: pd.DataFrame, study: Study) -> Tables:
    """Final test accuracy with batch norm everywhere, at the last layer and nowhere, and the rate of each."""
    values = final_values(at_chosen_rate(frame, study.item), "test_accuracy")
    cells = []
    for condition in dict.fromkeys(experiment.condition for experiment in study.experiments):
        own = pick(values, condition=condition)
        rates = ", ".join(f"{rate:g}" for rate in sorted(own["lr"].unique()))
        cells.append((condition, rates or "–", _mean(own)))
    caption = f"Final test accuracy, {_MEAN}, at the rate that validation chose."
    return (Table(caption, ("batch norm", "rate", "test accuracy"), tuple(cells)),)


def usable(frame: pd.DataFrame, study: Study) -> Tables:
    """At which rates each condition learns, and at which it does not diverge; and its divergent step size."""
    trainings = dict.fromkeys((e.condition, e.training.optimizer.lr) for e in study.experiments if e.training)
    rates = tuple(
        (condition, f"{lr:g}", _count(own, learns), _count(own, survives))
        for condition, lr in trainings
        for own in [pick(frame, kind="train", condition=condition, lr=lr)]
    )
    sizes = tuple(
        (condition, written(effect("", by_seed(own, diverging_size))))
        for condition in dict.fromkeys(e.condition for e in study.experiments if e.training is None)
        for own in [pick(frame, kind="init", condition=condition, probe="relative_loss")]
    )
    learned = (
        "Seeds that learn at a rate: mean loss over the last fifth of the steps below 0.98 ln 10. Beside them those "
        "that do not diverge, whatever they have learned."
    )
    diverges = f"Smallest step size whose relative loss exceeds 1,000, the largest measured where none does, {_MEAN}."
    return (
        Table(learned, ("", "rate", "learns", "does not diverge"), rates),
        Table(diverges, ("", "divergent step size"), sizes),
    )


def _count(rows: pd.DataFrame, holds: Callable[[pd.DataFrame], bool]) -> str:
    """Of how many seeds it holds, among those that have ended."""
    found = by_seed(pick(rows, trial=_ended(rows)), holds)
    return f"{int(found.sum())} of {len(found)}" if len(found) else "not measured"


def _ended(rows: pd.DataFrame) -> list[str]:
    return list(pick(rows, probe="outcome", name="diverged")["trial"])


def _rates(study: Study) -> Iterable[tuple[str, float]]:
    pairs = [(e.norm.label, e.training.optimizer.lr) for e in study.experiments if e.training is not None]
    return dict.fromkeys(pairs)


def _mean(rows: pd.DataFrame) -> str:
    return written(effect("", rows.groupby("seed")["value"].mean()))
