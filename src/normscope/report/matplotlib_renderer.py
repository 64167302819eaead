"""A figure specification as a still picture, for paper and slides."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any, Literal

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from normscope.report import matplotlib_raster
from normscope.report.specification import Figure, HeatMap, LineFigure, Panel, RasterFigure, Series
from normscope.report.style import BAND_OPACITY, DASHES, EDGE_COLOR, LINE_WIDTH, THEORY, Marker, Style, styles
from normscope.report.tables import heat_map_text

PNG_DPI = 150

_MAX_COLUMNS = 4  # of panels
_POINTS_PER_PIXEL = 0.75  # a CSS pixel is 1/96 inch, a typographic point 1/72
_MARKERS_PER_LINE = 8
_MARKERS: dict[Marker, str] = {
    "circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "triangle-down": "v",
    "x": "X", "star": "*", "pentagon": "p", "cross": "P", "hexagon": "h",
}  # fmt: skip
_SHORT_AXIS = 30.0  # a ratio of its ends
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_RC = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "pdf.fonttype": 42,  # TrueType: text in the PDF stays text, as journals ask
    "text.parse_math": False,  # names come from users; a $ in one is a dollar sign
}


def render(figure: Figure, format: Literal["png", "pdf"]) -> bytes:
    """Return `figure` as the bytes of a PNG (150 dpi) or PDF file; the same figure always gives the same bytes."""
    # Started from matplotlib's defaults, so that a user's matplotlibrc does not reach a report; undone on leaving.
    with matplotlib.style.context(["default", _RC]):
        canvas = _drawn(figure)
        file = io.BytesIO()
        undated: dict[str, Any] = {"CreationDate": None} if format == "pdf" else {}
        canvas.savefig(file, format=format, dpi=PNG_DPI, metadata=undated)
    return file.getvalue()


def _drawn(figure: Figure) -> Canvas:
    if isinstance(figure, HeatMap):
        return _heat_map(figure)
    if isinstance(figure, RasterFigure):
        canvas = _canvas(*matplotlib_raster.size(figure), figure.title)
        matplotlib_raster.draw(canvas, figure)
        return canvas
    return _line_figure(figure)


def _canvas(width: float, height: float, title: str) -> Canvas:
    canvas = Canvas(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06))  # inches
    FigureCanvasAgg(canvas)
    canvas.suptitle(title, fontsize=11, fontweight="bold")
    return canvas


def _line_figure(figure: LineFigure) -> Canvas:
    looks = styles(figure.normalizers)
    count = len(figure.panels)
    columns = min(count, _MAX_COLUMNS)
    rows = math.ceil(count / columns)
    canvas = _canvas(1.9 + (4.6 if count == 1 else 3.6 * columns), 0.9 + 3.0 * rows, figure.title)
    axes = canvas.subplots(rows, columns, squeeze=False).ravel()
    for ax, panel in zip(axes, figure.panels, strict=False):
        _panel(ax, panel, looks)
    for ax in axes[count:]:
        ax.remove()
    _legend(canvas, looks | ({figure.theory: THEORY} if figure.has_theory else {}))
    return canvas


def _legend(canvas: Canvas, looks: Mapping[str, Style]) -> None:
    handles = [Line2D([], [], **_stroke(look)) for look in looks.values()]
    # Texts are set afterwards: matplotlib leaves out of a legend every label that begins with "_".
    legend = canvas.legend(handles, [""] * len(handles), loc="outside right center", handlelength=3.6)
    for text, label in zip(legend.get_texts(), looks, strict=True):
        text.set_text(label)


def _panel(ax: Axes, panel: Panel, looks: Mapping[str, Style]) -> None:
    ax.set_title(panel.title)
    ax.set_xlabel(panel.x.label)
    ax.set_ylabel(panel.y.label)
    _scale_x(ax, panel)
    ax.set_yscale("log" if panel.y.log else "linear")
    for position, line in enumerate(panel.series):
        _line(ax, line, position, looks)
    if panel.view:
        ax.set_ylim(panel.view)
    if panel.marks:
        ax.set_xticks(panel.marks, [f"{mark:,.0f}" for mark in panel.marks])
    elif panel.x.log:
        _log_ticks(ax.xaxis)
    if panel.y.log:
        _log_ticks(ax.yaxis)


def _scale_x(ax: Axes, panel: Panel) -> None:
    shift = panel.x.shift
    if not shift:
        ax.set_xscale("log" if panel.x.log else "linear")
        return

    def place(x: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore", divide="ignore"):  # the layout asks where empty bands lie
            return np.log10(x + shift)

    ax.set_xscale("function", functions=(place, lambda at: 10**at - shift))


def _line(ax: Axes, line: Series, position: int, looks: Mapping[str, Style]) -> None:
    if line.kind == "theory":
        ax.plot(line.x, line.y, zorder=3.5, **_stroke(THEORY, thin=True))
        return
    look = looks[line.normalizer]
    every = max(1, len(line.x) // _MARKERS_PER_LINE)
    # Staggered, so that the markers of lines that coincide lie side by side.
    ax.plot(line.x, line.y, markevery=(position % every, every), zorder=3, **_stroke(look))
    ax.fill_between(line.x, line.lo, line.hi, color=look.color, alpha=BAND_OPACITY, linewidth=0, zorder=2)


def _stroke(look: Style, *, thin: bool = False) -> dict[str, Any]:
    width = LINE_WIDTH * _POINTS_PER_PIXEL * (0.7 if thin else 1)
    # matplotlib counts dashes in line widths, the table in pixels.
    dashes = tuple(length * _POINTS_PER_PIXEL / width for length in DASHES[look.dash])
    return {
        "color": look.color,
        "linewidth": width,
        "linestyle": (0, dashes) if dashes else "solid",
        "marker": _MARKERS[look.marker] if look.marker else None,
        "markersize": 6.5 if look.marker == "star" else 4.5,
        "markeredgewidth": 0,
    }


def _log_ticks(axis: Axis) -> None:
    """Label powers of ten, or 1, 2, 5 in between where the axis is so short that few or none of them fall on it."""
    low, high = axis.get_view_interval()
    short = high < _SHORT_AXIS * low
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if short else (1,), numticks=9))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if short else _power_of_ten(value)))
    axis.set_minor_formatter(NullFormatter())


def _power_of_ten(value: float) -> str:
    return f"10{str(round(np.log10(value))).translate(_SUPERSCRIPTS)}"


def _heat_map(figure: HeatMap) -> Canvas:
    rows, columns = len(figure.normalizers), len(figure.rates)
    canvas = _canvas(2.9 + 1.0 * columns, 1.4 + 0.38 * rows, figure.title)
    ax = canvas.subplots()
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    ax.set_xlabel(figure.x.label)
    ax.set_xticks(range(columns), [f"{rate:g}" for rate in figure.rates])
    ax.set_yticks(range(rows), list(figure.normalizers))
    values = np.array(figure.values)
    mesh = ax.imshow(values, cmap="cividis", vmin=0, vmax=figure.color_max, aspect="auto")
    canvas.colorbar(mesh, ax=ax, label=figure.color.label)
    for i, j in np.ndindex(values.shape):
        ax.text(j, i, heat_map_text(figure, i, j), ha="center", va="center", fontsize=8, color=figure.ink(i, j))
    for i, stable in enumerate(figure.stable):
        if stable is not None and stable < columns:
            ax.plot([stable - 0.5] * 2, [i - 0.5, i + 0.5], color=EDGE_COLOR, linewidth=4, clip_on=False)
    return canvas
