"""Panels of the paper's figures: what several of them draw alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from normscope.report import LOG_STEP, Axis, Figure, Panel, Series, bands, figure_of, lines
from normscope.study import Measurement, Norm, Study
from normscope_papers.is_batch_norm_unique.rows import pick

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


def figure(study: Study, title: str, caption: str, panels: Iterable[Panel], *, name: str = "") -> tuple[Figure, ...]:
    """The figure of those panels that hold a line; nothing where none does. It is called as its item is."""
    found = figure_of(name or study.item, title, caption, panels)
    return () if found is None else (found,)


def recipe(study: Study, rows: pd.DataFrame) -> dict[str, Any]:
    """What the drawing functions of `normscope.report` ask of a recipe: normalizers in order, and how many seeds."""
    return {"norms": [msgspec.to_builtins(norm) for norm in norms(study)], "seeds": int(rows["seed"].nunique())}


def norms(study: Study) -> list[Norm]:
    """The study's normalizers in order."""
    return list({experiment.norm.label: experiment.norm for experiment in study.experiments}.values())


def spread(rows: pd.DataFrame, *, log: bool = False) -> str:
    """What lines and bands are, for a caption."""
    return bands({"seeds": int(rows["seed"].nunique())}, log=log)


def measurements(study: Study) -> Iterator[Measurement]:
    """Every measurement that the study asks for."""
    for experiment in study.experiments:
        yield from experiment.measurements
    if study.final is not None:
        yield from study.final.measurements


def drawn(
    rows: pd.DataFrame,
    study: Study,
    along: Literal["depth", "step"],
    axis: Axis,
    *,
    kind: Literal["measured", "theory"] = "measured",
) -> tuple[Series, ...]:
    """One line per normalizer, the mean over seeds."""
    return lines(rows, recipe(study, rows), along=along, axis=axis, kind=kind)


def by_depth(title: str, x: Axis, y: Axis, rows: pd.DataFrame, study: Study) -> Panel:
    """A panel against the layer."""
    return Panel(title, x, y, drawn(rows, study, "depth", y))


def by_step(title: str, y: Axis, rows: pd.DataFrame, study: Study) -> Panel:
    """A panel against the step of training, as `LOG_STEP` shows it."""
    return Panel(title, LOG_STEP, y, drawn(rows, study, "step", y))


def with_theory(title: str, y: Axis, probe: str, rows: pd.DataFrame, study: Study) -> Panel:
    """A panel against the layer, with the theory that was written beside the measurement."""
    theory = drawn(pick(rows, probe=f"theory.{probe}"), study, "depth", y, kind="theory")
    return Panel(title, SITE, y, drawn(pick(rows, probe=probe), study, "depth", y) + theory)


def propagation(title: str, rows: pd.DataFrame, study: Study) -> Panel:
    """Correlation of two similar batches by site."""
    return with_theory(title, CORRELATION, "information_propagation", rows, study)


def gradient_norm(title: str, rows: pd.DataFrame, study: Study) -> Panel:
    """Norm of the gradient by site."""
    return with_theory(title, NORM, "gradient_norm", rows, study)


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
