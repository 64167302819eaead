"""Figures 7 and 8: densities of singular values, theory alone and beside samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normscope.report import Axis, Figure, Panel, Series
from normscope.study import Study
from normscope_papers.common import drawing as d
from normscope_papers.common.rows import pick

if TYPE_CHECKING:
    import pandas as pd

Figures = tuple[Figure, ...]

_BINS = 50
_LAW = "Fuss-Catalan law, infinite size"
_DENSITY = Axis("density", log=True, bounds=(1e-3, 1e2))
_SAMPLES = "product of Gaussian matrices"


def densities(frame: pd.DataFrame, study: Study) -> Figures:
    """Figure 7: the law of singular values, and that of their squares, a panel for each number of factors."""
    drawn: list[Figure] = []
    for name, density, variable in (
        ("", "density", "singular value"),
        ("_squares", "squared_density", "squared singular value"),
    ):
        rows = pick(frame, probe="theory.gaussian_products", name=density)
        drawn += d.figure(
            study,
            f"Density of the {variable} of products of Gaussian matrices",
            f"The Fuss-Catalan law for square matrices of infinite size, of the {variable}: nothing here is measured. "
            "The density is cut at 0.001 and 100.",
            [Panel(_title(factors), Axis(variable), _DENSITY, (_theory(own),)) for factors, own in _by_length(rows)],
            name=f"{study.item}{name}",
            theory=_LAW,
        )
    return tuple(drawn)


def products(frame: pd.DataFrame, study: Study) -> Figures:
    """Figure 8: histograms of singular values beside the law, a panel for each number of factors."""
    sampled = pick(frame, probe="gaussian_products", name="singular_value")
    theory = dict(_by_length(pick(frame, probe="theory.gaussian_products", name="density")))
    panels = []
    for factors, own in _by_length(sampled):
        lines = d.drawn(_histogram(own), study, "depth", _DENSITY)
        law = (_theory(theory[factors]),) if factors in theory else ()
        panels.append(Panel(_title(factors), Axis("singular value"), _DENSITY, lines + law))
    return d.figure(
        study,
        "Singular values of products of Gaussian matrices",
        f"Density in {_BINS} bins from 0 to the largest value; a seed is one product. {d.spread(sampled, log=True)} "
        "The density is cut at 0.001 and 100.",
        panels,
        theory=_LAW,
    )


def _by_length(rows: pd.DataFrame) -> list[tuple[int, pd.DataFrame]]:
    """The rows of each number of factors, ascending."""
    rows = rows.assign(factors=rows["layer"].str.partition("@")[0].astype(int) if len(rows) else 0)
    return [(int(str(factors)), own) for factors, own in rows.groupby("factors")]


def _title(factors: int) -> str:
    return f"{factors} matrix" if factors == 1 else f"{factors} matrices"


def _theory(rows: pd.DataFrame) -> Series:
    """The law, which is the same for every seed."""
    one = rows.drop_duplicates("depth").sort_values("depth")
    x = tuple(map(float, one["layer"].str.partition("@")[2]))
    y = tuple(map(float, one["value"]))
    nothing = (float("nan"),) * len(x)
    return Series(_SAMPLES, "theory", x, y, nothing, nothing, ())


def _histogram(rows: pd.DataFrame) -> pd.DataFrame:
    """The density of each seed's values in equal bins, as rows; empty bins are left out."""
    import pandas as pd

    edges = np.linspace(0.0, rows["value"].max(), _BINS + 1)
    parts = []
    for seed, own in rows.groupby("seed"):
        density = np.histogram(own["value"], edges, density=True)[0]
        parts.append(pd.DataFrame({"depth": (edges[:-1] + edges[1:]) / 2, "value": density}).assign(seed=seed))
    return pd.concat(parts).query("value > 0").assign(normalizer=_SAMPLES)
