"""Santurkar et al.: loss, gradient and effective smoothness along the gradient, and internal covariate shift."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normscope.report import Axis, Figure, Panel
from normscope.study import Study
from normscope_papers.common import drawing as d
from normscope_papers.common.rows import pick
from normscope_papers.understanding_batch_norm import drawing
from normscope_papers.understanding_batch_norm.experiments import DEEP_LINEAR
from normscope_papers.understanding_batch_norm.rows import along

if TYPE_CHECKING:
    import pandas as pd

Figures = tuple[Figure, ...]

_QUANTITIES = {
    "loss": ("(a) loss", Axis("loss after the step", log=True)),
    "gradient_distance": ("(b) gradient", Axis("distance of the gradient", log=True)),
    "smoothness": ("(c) effective smoothness", Axis("effective smoothness", log=True)),
}


def smoothness(frame: pd.DataFrame, study: Study) -> Figures:
    """Figures 4 and 9 of Santurkar et al., one figure for each network."""
    first = drawing.first_seed(frame)
    rows, theory = (pick(first, probe=probe) for probe in ("loss_along_gradient", "theory.loss_along_gradient"))
    return tuple(
        figure
        for network, own in rows.groupby("condition", sort=False)
        for figure in _of_network(str(network), own, pick(theory, condition=network), study)
    )


def _of_network(network: str, rows: pd.DataFrame, theory: pd.DataFrame, study: Study) -> Figures:
    saturated = pick(theory, normalizer=theory["normalizer"].iloc[0]) if len(theory) else theory
    by_size, axis = _over_steps(along(pick(rows, name="smoothness"))), _QUANTITIES["smoothness"][1]
    title = "effective smoothness by step size"
    panels = [
        *(_ends(name, rows, study) for name in ("loss", "gradient_distance")),
        _largest("smoothness", rows, study, theory=saturated),
        d.panel(title, drawing.STEP_SIZE, axis, by_size, study, theory=along(saturated)),
    ]
    return d.figure(
        study,
        f"Along the gradient through training: {network}",
        "At steps of training, on the batch that comes next, at θ - ηg for every η of the grid: the largest and the "
        "smallest value over the grid (of the smoothness the largest). Grey dashed: 1/η, where the gradient after the "
        "step is as far from that before as that is long; in (c) that of the smallest η. By step size: the median over "
        "steps. One training of each, without intervals: over few seeds those of such extremes cover all.",
        panels,
        name=f"{study.item}_{network}",
        theory="1/η",
    )


def _ends(name: str, rows: pd.DataFrame, study: Study) -> Panel:
    """The largest and the smallest value over the step sizes against the step of training."""
    import pandas as pd

    title, axis = _QUANTITIES[name]
    ends = [
        found.assign(normalizer=found["normalizer"] + f", {label}")
        for label, end in (("largest", "max"), ("smallest", "min"))
        for found in [_over_sizes(pick(rows, name=name), end)]
    ]
    return d.panel(title, drawing.STEP, axis, pd.concat(ends), study, along="step")


def _largest(name: str, rows: pd.DataFrame, study: Study, *, theory: pd.DataFrame | None = None) -> Panel:
    """The largest value over the step sizes against the step of training, with that of the theory."""
    title, axis = _QUANTITIES[name]
    level = None if theory is None else _over_sizes(theory, "max")
    own = _over_sizes(pick(rows, name=name), "max")
    return d.panel(f"{title}, largest", drawing.STEP, axis, own, study, theory=level, along="step")


def _over_sizes(rows: pd.DataFrame, end: str) -> pd.DataFrame:
    """The largest or smallest value over the step sizes, by normalizer, seed and step."""
    found: pd.DataFrame = rows.groupby(["normalizer", "seed", "step"], sort=False)["value"].agg(end).reset_index()
    return found


def _over_steps(rows: pd.DataFrame) -> pd.DataFrame:
    """The median over the steps, by normalizer, seed and step size."""
    found: pd.DataFrame = rows.groupby(["normalizer", "seed", "depth"], sort=False)["value"].median().reset_index()
    return found


def covariate_shift(frame: pd.DataFrame, study: Study) -> Figures:
    """Distance and cosine of gradients before and after the layers below step, gradients along the way, accuracy.

    The deep linear network has a figure of its own, of distance and cosine.
    """
    linear = frame["condition"] == DEEP_LINEAR
    return (*_of_the_vgg(frame[~linear], study), *_of_the_linear(frame[linear], study))


_SHIFT = (
    "G is a layer's gradient, G' the same after all layers below it have taken their step, on one batch; the first "
    "layer, below which there is none, is left out."
)


def _of_the_linear(frame: pd.DataFrame, study: Study) -> Figures:
    rows = frame.assign(condition="")
    return d.figure(
        study,
        "Internal covariate shift of the deep linear network",
        f"{_SHIFT} {d.spread(frame)}",
        _shifts(rows, study),
        name=f"{study.item}_{DEEP_LINEAR}",
    )


def _shifts(frame: pd.DataFrame, study: Study) -> list[Panel]:
    """Distance and cosine, against the step and against the layer."""
    shift = pick(frame, probe="covariate_shift")
    later = shift[shift["depth"] > 1]  # nothing lies below the first layer
    distance, cosine = Axis("‖G - G'‖", log=True), Axis("cos(G, G')", bounds=(-1.0, 1.0))
    return [
        d.panel("shift, mean over layers", drawing.STEP, distance, _of(later, "distance"), study, along="step"),
        d.panel("shift, mean over layers", drawing.STEP, cosine, _of(later, "cosine"), study, along="step"),
        d.panel("shift by layer, mean over steps", Axis("layer"), distance, _of(later, "distance"), study),
        d.panel("shift by layer, mean over steps", Axis("layer"), cosine, _of(later, "cosine"), study),
    ]


def _of_the_vgg(frame: pd.DataFrame, study: Study) -> Figures:
    along_gradient = pick(frame, probe="loss_along_gradient")
    accuracy = pick(frame, probe="evaluation", name="test_accuracy")
    panels = [
        *_shifts(frame, study),
        *(_ends(name, _variants(along_gradient), study) for name in ("gradient_distance", "smoothness")),
        d.panel(
            "test accuracy", drawing.STEP, Axis("accuracy", bounds=(0.0, 1.0)), _variants(accuracy), study, along="step"
        ),
    ]
    return d.figure(
        study,
        "Internal covariate shift, noisy batch norm and other norms",
        f"{_SHIFT} {d.spread(frame)}",
        panels,
    )


def _of(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    return _variants(pick(rows, name=name))


def _variants(rows: pd.DataFrame) -> pd.DataFrame:
    """Noisy batch norm, which is a condition, as a name of its own."""
    return rows.assign(normalizer=rows["normalizer"].where(rows["condition"] == "", rows["condition"]))
