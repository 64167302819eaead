"""The figures of a comparison, each one function from rows and recipe to a specification."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from normscope.report import curvature, summary
from normscope.report.curves import STEP, SURVIVORS, Recipe, at_chosen_rate, bands, figure_of, floats, lines
from normscope.report.specification import Axis, Figure, HeatMap, LineFigure, Panel, Series

_SITE = Axis("depth (normalizer site)")
_LAYER = Axis("depth (affine layer)")
_CORRELATION = Axis("correlation", bounds=(-1.0, 1.0))


def draw(frame: pd.DataFrame, recipe: Recipe) -> tuple[Figure, ...]:
    """Return every figure for which `frame` holds rows."""
    builders: tuple[Callable[[pd.DataFrame, Recipe], Figure | None], ...] = (
        information_propagation,
        gradient_correlation,
        gradient_norm,
        training,
        correlation_in_training,
        learning_rate,
        curvature.sharpness,
    )
    drawn = [figure for build in builders if (figure := build(frame, recipe)) is not None]
    return (*drawn, *curvature.spectral_densities(frame, recipe))


def information_propagation(frame: pd.DataFrame, recipe: Recipe) -> LineFigure | None:
    """Correlation of two similar batches by depth at initialization, with mean-field theory."""
    rows = frame[frame["kind"] == "init"]
    panel = Panel("", _SITE, _CORRELATION, _with_theory(rows, "information_propagation", recipe, _CORRELATION))
    caption = (
        "How much of a small difference between two batches survives with depth, at initialization. Correlation is the "
        "cosine of the flattened outputs of a normalizer site for a batch x and for x + noise, where the noise is "
        f"Gaussian with {recipe['noise']} of the standard deviation of x and each batch meets its own statistics; "
        f"{_averaged(recipe)}. Near 1: ordered, the difference fades. Falling towards 0: chaotic, similar inputs "
        f"become unlike. {bands(recipe)} Grey dashed: the infinite-width mean-field map of the same row, started at "
        "the measured first site and averaged over seeds; rows without a theory have none."
    )
    return figure_of("information_propagation", "Information propagation by depth", caption, [panel])


def gradient_correlation(frame: pd.DataFrame, recipe: Recipe) -> LineFigure | None:
    """Correlation of the gradients of two batches by depth at initialization."""
    rows = frame[(frame["kind"] == "init") & (frame["probe"] == "gradient_correlation")]
    panels = [
        Panel(title, _LAYER, _CORRELATION, lines(rows[rows["name"] == name], recipe, along="depth", axis=_CORRELATION))
        for name, title in _PAIRS.items()
    ]
    caption = (
        "Whether two batches ask an affine layer for the same update, at initialization. Correlation is the cosine of "
        "the layer's loss gradients (parameters with more than one dimension, flattened) on two batches: a batch and "
        f"its noisy copy (noise {recipe['noise']} of the standard deviation, same labels), and two batches that share "
        f"no example; {_averaged(recipe)}. {bands(recipe)}"
    )
    return figure_of("gradient_correlation", "Gradient correlation by depth", caption, panels)


def gradient_norm(frame: pd.DataFrame, recipe: Recipe) -> LineFigure | None:
    """Norm of the loss gradient at every site at initialization, with mean-field theory."""
    rows = frame[frame["kind"] == "init"]
    axis = Axis("gradient norm", log=True)
    panel = Panel("", _SITE, axis, _with_theory(rows, "gradient_norm", recipe, axis))
    caption = (
        "How gradients grow or fade on their way back to the input, at initialization: the Euclidean norm of the "
        "gradient of the mean cross-entropy of a batch with respect to the output of each normalizer site; "
        f"{_averaged(recipe)}. "
        f"{bands(recipe, log=True)} Grey dashed: the mean-field growth of the same row, anchored at the measured last "
        "site and followed backwards."
    )
    return figure_of("gradient_norm", "Gradient norm by depth", caption, [panel])


def training(frame: pd.DataFrame, recipe: Recipe) -> LineFigure | None:
    """Validation accuracy and training loss against step, each normalizer at its chosen learning rate."""
    rows = at_chosen_rate(frame, recipe)
    accuracy = Axis("validation accuracy", bounds=(0.0, 1.0))
    loss = Axis("training loss", "nats", log=True)
    panels = [
        _step_panel(rows, recipe, "validation accuracy", accuracy, "evaluation", "validation_accuracy"),
        _step_panel(rows, recipe, "training loss", loss, "train", "loss"),
    ]
    steps = max((len(line.x) for line in panels[1].series), default=0)
    shown = f" ({steps} of {recipe['steps']} steps are drawn)" if steps < recipe["steps"] else ""
    caption = (
        "Early training at the learning rate that each normalizer's validation accuracy chose (results table). "
        "Accuracy is on the validation split; loss is the cross-entropy of the training batch of that step, before the "
        f"step and without penalty or weight decay{shown}. {bands(recipe)} For the loss, mean and interval are those "
        f"of the logarithm. {SURVIVORS}"
    )
    return figure_of("training", "Early training", caption, panels)


def correlation_in_training(frame: pd.DataFrame, recipe: Recipe) -> LineFigure | None:
    """Final-layer correlation and gradient correlation against step at the chosen learning rate."""
    rows = at_chosen_rate(frame, recipe)
    panels = [
        _step_panel(rows, recipe, "outputs of the last site", _CORRELATION, "information_propagation", "correlation"),
        *(
            _step_panel(rows, recipe, f"gradients, {title}", _CORRELATION, "gradient_correlation", name)
            for name, title in _PAIRS.items()
        ),
    ]
    caption = (
        "The same correlations while the network trains, at each normalizer's chosen learning rate: of the outputs of "
        "the last normalizer site for a batch and its noisy copy, and of the gradients of all affine parameters "
        f"together for the two kinds of batch pair; the batches stay the same throughout. Step 0 is "
        f"initialization. {bands(recipe)} {SURVIVORS}"
    )
    return figure_of("correlation_in_training", "Correlations during early training", caption, panels)


def learning_rate(frame: pd.DataFrame, recipe: Recipe) -> HeatMap | None:
    """Mean final validation accuracy by normalizer and learning rate, with divergences and the stability edge."""
    table = summary.rates(frame, recipe)
    if not table["trials"].any():
        return None
    names = tuple(table["normalizer"].unique())
    groups = [table[table["normalizer"] == name].sort_values("lr") for name in names]
    caption = (
        "Mean final validation accuracy over seeds in every cell, a diverged trial counting as 0; below it, where any "
        "diverged, how many of the cell's trials did. The thick line is the stability edge: between the largest rate "
        "at which no seed diverged and the next. A row without a line met no divergence at its largest rate; a line "
        "before the first cell says that at every rate some seed diverged."
    )
    return HeatMap(
        name="learning_rate",
        title="Learning rate by normalizer",
        caption=caption,
        x=Axis("learning rate", log=True),
        color=Axis("validation accuracy"),
        normalizers=names,
        rates=tuple(float(rate) for rate in groups[0]["lr"]),
        values=tuple(floats(group["validation_accuracy"]) for group in groups),
        diverged=tuple(tuple(int(count) for count in group["diverged"]) for group in groups),
        trials=tuple(tuple(int(count) for count in group["trials"]) for group in groups),
        stable=tuple(_stable_columns(group) for group in groups),
    )


_PAIRS = {"similar": "similar batches", "independent": "independent batches"}


def _averaged(recipe: Recipe) -> str:
    return f"each seed's value is the mean over {recipe['init_batches']} batches"


def _with_theory(rows: pd.DataFrame, probe: str, recipe: Recipe, axis: Axis) -> tuple[Series, ...]:
    theory = lines(rows[rows["probe"] == f"theory.{probe}"], recipe, along="depth", axis=axis, kind="theory")
    return lines(rows[rows["probe"] == probe], recipe, along="depth", axis=axis) + theory


def _step_panel(rows: pd.DataFrame, recipe: Recipe, title: str, axis: Axis, probe: str, name: str) -> Panel:
    named = rows[(rows["probe"] == probe) & (rows["name"] == name)]
    return Panel(title, STEP, axis, lines(named, recipe, along="step", axis=axis))


def _stable_columns(group: pd.DataFrame) -> int | None:
    if not group["trials"].any():
        return None
    stable = ((group["diverged"] == 0) & (group["trials"] > 0)).to_numpy()
    return int(np.flatnonzero(stable).max() + 1) if stable.any() else 0
