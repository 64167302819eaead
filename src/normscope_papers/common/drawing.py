"""Figures and panels that papers draw alike: a line for each normalizer, theory's dashed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from normscope.report import Axis, Figure, Panel, Series, bands, figure_of, lines
from normscope.study import Norm, Study

if TYPE_CHECKING:
    import pandas as pd


def figure(
    study: Study,
    title: str,
    caption: str,
    panels: Iterable[Panel],
    *,
    name: str = "",
    theory: str = "mean-field theory",
) -> tuple[Figure, ...]:
    """The figure of those panels that hold a line, its grey lines named `theory`; nothing where none does.

    Its files are named as its item is, unless `name` says otherwise.
    """
    found = figure_of(name or study.item, title, caption, panels)
    return () if found is None else (dataclasses.replace(found, theory=theory),)


def no_figures(frame: pd.DataFrame, study: Study) -> tuple[Figure, ...]:  # noqa: ARG001  (all figures are called alike)
    """No figure: the item is a table."""
    return ()


def norms(study: Study) -> list[Norm]:
    """The study's normalizers in order."""
    return list({experiment.norm.label: experiment.norm for experiment in study.experiments}.values())


def recipe(study: Study, rows: pd.DataFrame) -> dict[str, Any]:
    """What the drawing functions of `normscope.report` ask of a recipe: normalizers in order, and how many seeds."""
    return {"norms": [msgspec.to_builtins(norm) for norm in norms(study)], "seeds": int(rows["seed"].nunique())}


def spread(rows: pd.DataFrame, *, log: bool = False) -> str:
    """What lines and bands are, for a caption."""
    return bands({"seeds": int(rows["seed"].nunique())}, log=log)


def drawn(
    rows: pd.DataFrame,
    study: Study,
    along: Literal["depth", "step"],
    axis: Axis,
    *,
    kind: Literal["measured", "theory"] = "measured",
) -> tuple[Series, ...]:
    """One line per name in the column `normalizer`, the mean over seeds."""
    return lines(rows, recipe(study, rows), along=along, axis=axis, kind=kind)


def panel(
    title: str,
    x: Axis,
    y: Axis,
    rows: pd.DataFrame,
    study: Study,
    *,
    theory: pd.DataFrame | None = None,
    along: Literal["depth", "step"] = "depth",
) -> Panel:
    """A panel of such lines, with theory's."""
    dashed = () if theory is None else drawn(theory, study, along, y, kind="theory")
    return Panel(title, x, y, drawn(rows, study, along, y) + dashed)
