"""Grids of colored cells as still pictures."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from normscope.report.specification import Raster, RasterFigure

_MAX_COLUMNS = 3  # of panels
_TICKS = 8  # at most, of one axis
_SIGNED, _ONE_SIGN = "RdBu_r", "cividis"
_NOTHING = "#bbbbbb"  # a cell without a finite value


def size(figure: RasterFigure) -> tuple[float, float]:
    """Width and height in inches."""
    rows, columns = _shape(figure)
    return 0.6 + 4.0 * columns, 0.7 + 3.0 * rows


def draw(canvas: Canvas, figure: RasterFigure) -> None:
    """Draw every panel, each with its color bar."""
    rows, columns = _shape(figure)
    axes = canvas.subplots(rows, columns, squeeze=False).ravel()
    for ax, panel in zip(axes, figure.panels, strict=False):
        _panel(canvas, ax, panel)
    for ax in axes[len(figure.panels) :]:
        ax.remove()


def _shape(figure: RasterFigure) -> tuple[int, int]:
    columns = min(len(figure.panels), _MAX_COLUMNS)
    return math.ceil(len(figure.panels) / columns), columns


def _panel(canvas: Canvas, ax: Axes, panel: Raster) -> None:
    low, high = panel.limits
    ax.grid(visible=False)
    ax.set_facecolor(_NOTHING)
    mesh = ax.imshow(
        np.ma.masked_invalid(np.array(panel.shown, dtype=np.float64)),
        cmap=_SIGNED if panel.signed else _ONE_SIGN,
        vmin=low,
        vmax=high,
        aspect="auto",
        origin="lower",
        interpolation="nearest",
    )
    ax.set_title(panel.title)
    ax.set_xlabel(panel.x.label)
    ax.set_ylabel(panel.y.label)
    _ticks(ax, panel)
    bar = canvas.colorbar(mesh, ax=ax, label=panel.color.label)
    if panel.marks:
        bar.set_ticks([at for at, _ in panel.marks], labels=[text for _, text in panel.marks])


def _ticks(ax: Axes, panel: Raster) -> None:
    for places, put in ((panel.xs, ax.set_xticks), (panel.ys, ax.set_yticks)):
        chosen = range(0, len(places), max(1, math.ceil(len(places) / _TICKS)))
        put(list(chosen), [f"{places[i]:g}" for i in chosen])
