"""The figures of the Hessian: densities of its eigenvalues, and the outermost of them through training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from normscope.report import summary
from normscope.report.curves import (
    ABOUT_LOG_STEPS,
    LOG_STEP,
    Recipe,
    at_chosen_rate,
    bands,
    figure_of,
    floats,
    lines,
)
from normscope.report.density import Rule, outline, smooth
from normscope.report.specification import Axis, LineFigure, Panel, Series

# Points drawn in one figure, all panels together, and in one of them: the page stays below 2 MB whatever is measured.
MAX_POINTS = 1800
MAX_POINTS_OF_ONE = 600

_EIGENVALUE = Axis("eigenvalue of the Hessian")
_DENSITY = Axis("density", log=True, bounds=(1e-10, 1e2))
_PROBES = {"train": "spectrum", "eval": "spectrum.eval"}


def spectral_densities(frame: pd.DataFrame, recipe: Recipe) -> Iterator[LineFigure]:
    """Yield one figure per step with spectra of all parameters, and one with those of their groups.

    A panel holds one spectrum: two of them hide each other's gaps, and gaps are what a density is looked at for.
    """
    rows = _spectra(frame, recipe)
    for step in sorted(rows["step"].unique()):
        here = rows[rows["step"] == step]
        whole = here[here["layer"] == ""]
        modes = {f"{mode} mode": whole[whole["probe"] == probe] for mode, probe in _PROBES.items()}
        when = "at initialization" if step == 0 else f"at step {step}"
        name, title = f"spectral_density_step{step}", f"Spectral density of the Hessian {when}"
        yield from _drawn(name, title, _caption(whole, recipe), _panels(modes, recipe))
        groups = {str(group): here[here["layer"] == group] for group in here["layer"].unique() if group}
        caption = f"Of the parameters whose names match the pattern above each panel, in train mode. {_HOW}"
        yield from _drawn(f"{name}_groups", f"{title}, by group", caption, _panels(groups, recipe))


def sharpness(frame: pd.DataFrame, recipe: Recipe) -> LineFigure | None:
    """The outermost eigenvalues of the Hessian against step, at each normalizer's chosen learning rate."""
    rows = _with_initialization(frame, recipe)
    rows = rows[rows["probe"] == "sharpness"]
    if rows.empty:
        return None
    largest = _where(rows, rows["name"] == "lambda_max", (rows["name"] == "converged") & (rows["depth"] == 1))
    negative = (rows["name"] == "lambda_min") & (rows["value"] < 0)
    smallest = _where(rows, negative, rows["name"] == "lambda_min_converged")
    panels = [
        _step_panel(largest, recipe, Axis("largest eigenvalue", log=True)),
        _step_panel(rows[rows["name"] == "lambda_ratio"].dropna(subset="value"), recipe, Axis("λ₁/λ₁₀", log=True)),
        _step_panel(smallest.assign(value=-smallest["value"]), recipe, Axis("−smallest eigenvalue", log=True)),
    ]
    caption = (
        "The largest eigenvalue of the Hessian, its ratio to the tenth largest (the data's number of classes in the "
        "source: few outliers above a bulk make it small), and the size of the most negative one, while the network "
        "trains at each normalizer's chosen learning rate. Only eigenvalues that have converged are drawn: residual "
        f"bounds at most a thousandth of the largest magnitude. {_of_what(recipe)} {ABOUT_LOG_STEPS} "
        f"{bands({**recipe, 'seeds': 1})}"
    )
    return figure_of("sharpness", "Sharpness during early training", caption, panels)


_HOW = (
    "Gauss rules by stochastic Lanczos quadrature, averaged over their random starts; every node is drawn as a "
    "Gaussian whose standard deviation is the width above the panel, √(1e-5 max(1, λ_max − λ_min)) for each "
    "spectrum, and values below 1e-12 as 1e-12. One seed."
)


def _caption(rows: pd.DataFrame, recipe: Recipe) -> str:
    same = summary.normalizer_names(rows[rows["name"] == "same_as_train"], {"norms": []})
    again = f" In eval mode {', '.join(same)} normalize as in train mode, and have the same spectrum." if same else ""
    return (
        f"How many directions of parameter space have which curvature. {_of_what(recipe)} {_HOW}{again} Each "
        "normalizer is drawn at its chosen learning rate, and left out where training ended before."
    )


def _of_what(recipe: Recipe) -> str:
    return (
        f"The Hessian is that of the mean cross-entropy of {recipe['curvature_examples']} training examples as one "
        "batch, without penalty and weight decay, dropout off, by all parameters."
    )


def _spectra(frame: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    rows = _with_initialization(frame, recipe)
    return rows[rows["probe"].isin(_PROBES.values())]


def _with_initialization(frame: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    """Rows of training at the chosen rates; those of step 0, which no rate has touched, from whichever has them."""
    rows = frame[(frame["kind"] == "train") & (frame["step"] == 0)]
    later = at_chosen_rate(frame, recipe)
    return pd.concat([rows, later[later["step"] > 0]])


def _where(rows: pd.DataFrame, chosen: pd.Series, converged: pd.Series) -> pd.DataFrame:
    """The chosen rows of those measurements whose row `converged` says 1."""
    measurement = ["normalizer", "seed", "lr", "step"]
    return rows[chosen].merge(rows[converged & (rows["value"] == 1)][measurement], on=measurement)


def _step_panel(rows: pd.DataFrame, recipe: Recipe, axis: Axis) -> Panel:
    return Panel(axis.title, LOG_STEP, axis, lines(rows, recipe, along="step", axis=axis))


def _drawn(name: str, title: str, caption: str, panels: list[Panel]) -> Iterator[LineFigure]:
    figure = figure_of(name, title, caption, panels)
    if figure is not None:
        yield figure


def _panels(spectra: Mapping[str, pd.DataFrame], recipe: Recipe) -> list[Panel]:
    """One panel per normalizer and kind of spectrum, a normalizer's side by side."""
    rules = {(name, kind): rule for kind, rows in spectra.items() for name, rule in _rules(rows, recipe)}
    order = dict.fromkeys(name for name, _ in rules)  # each kind's names come in the order of the recipe
    drawn = [(name, kind) for name in order for kind in spectra if _is_finite(rules.get((name, kind)))]
    limit = min(MAX_POINTS_OF_ONE, MAX_POINTS // max(len(drawn), 1))
    return [_panel(name, kind, rules[name, kind], limit) for name, kind in drawn]


def _is_finite(rule: Rule | None) -> bool:
    return rule is not None and bool(np.isfinite(rule.nodes).all())


def _panel(name: str, kind: str, rule: Rule, limit: int) -> Panel:
    title = f"{name}, {kind}, width {rule.width:.2g}"
    return Panel(title, _EIGENVALUE, _DENSITY, (_line(name, rule, limit),))


def _rules(rows: pd.DataFrame, recipe: Recipe) -> Iterator[tuple[str, Rule]]:
    for name in summary.normalizer_names(rows, recipe):
        own = rows[(rows["normalizer"] == name) & rows["name"].isin(["node", "weight"])]
        if len(own):
            table = own.pivot(index="depth", columns="name", values="value")
            yield name, Rule(table["node"].to_numpy(np.float64), table["weight"].to_numpy(np.float64))


def _line(name: str, rule: Rule, limit: int) -> Series:
    grid = rule.grid()
    density = np.maximum(smooth(rule, grid), 1e-12)
    kept = outline(grid, np.log10(density), limit=limit)
    x, y = floats(grid[kept]), floats(density[kept])
    nothing = (math.nan,) * len(kept)
    return Series(name, "measured", x, y, nothing, nothing, ())
