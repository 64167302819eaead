"""Panels, axes and captions that several figures of this paper share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from normscope.report import LOG_STEP, Axis, Panel, Series
from normscope.study import Measurement, Study
from normscope_papers.common.drawing import drawn, panel
from normscope_papers.common.rows import pick

if TYPE_CHECKING:
    import pandas as pd

SITE = Axis("depth (normalizer site)")
LAYER = Axis("depth (affine layer)")
CORRELATION = Axis("correlation", bounds=(-1.0, 1.0))
NORM = Axis("gradient norm", log=True)
ACCURACY = Axis("test accuracy", bounds=(0.0, 1.0))

SIMILAR = (
    "Correlation is the cosine of the flattened outputs of a normalizer site for a batch and for its noisy copy (noise "
    "0.1 of the input's standard deviation unless the recipe says otherwise), each under its own statistics."
)
OF_OUTPUT = "The gradient norm is that of the mean cross-entropy with respect to the output of a normalizer site."
THEORY = "Grey dashed: mean-field theory of the same row, started at the measured first (of gradients: last) site."


def measurements(study: Study) -> Iterator[Measurement]:
    """Every measurement that the study asks for."""
    for experiment in study.experiments:
        yield from experiment.measurements
    if study.final is not None:
        yield from study.final.measurements


def by_step(title: str, y: Axis, rows: pd.DataFrame, study: Study) -> Panel:
    """A panel against the step of training, as `LOG_STEP` shows it."""
    return panel(title, LOG_STEP, y, rows, study, along="step")


def propagation(title: str, rows: pd.DataFrame, study: Study) -> Panel:
    """Correlation of two similar batches by site."""
    return _by_site(title, CORRELATION, "information_propagation", rows, study)


def gradient_norm(title: str, rows: pd.DataFrame, study: Study) -> Panel:
    """Norm of the gradient by site."""
    return _by_site(title, NORM, "gradient_norm", rows, study)


def _by_site(title: str, y: Axis, probe: str, rows: pd.DataFrame, study: Study) -> Panel:
    """A panel against the site, with the theory that was written beside the measurement."""
    return panel(title, SITE, y, pick(rows, probe=probe), study, theory=pick(rows, probe=f"theory.{probe}"))


def level(values: pd.DataFrame, along: pd.DataFrame) -> pd.DataFrame:
    """Each trial's value at every depth that `along` has: a level line."""
    depths = along[["depth"]].drop_duplicates()
    return values.drop(columns="depth", errors="ignore").merge(depths, how="cross")


def common(rows: pd.DataFrame, study: Study) -> tuple[Series, ...]:
    """What is the same for every normalizer and seed, against the step: one line, drawn as theory is."""
    if rows.empty:
        return ()
    label = study.experiments[0].norm.label
    one = rows.drop_duplicates("step").assign(normalizer=label, seed=0)
    return drawn(one, study, "step", Axis(""), kind="theory")
