"""A figure specification as plotly.js charts: plain dictionaries, ready for JSON.

Colors of text, grid and background are not set here: the page's style sheet sets them, for light, dark and print alike.
"""

from __future__ import annotations

import functools
import html
import math
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from normscope.report import plotly_raster
from normscope.report.specification import Axis, Figure, HeatMap, Panel, RasterFigure, Series
from normscope.report.style import BAND_OPACITY, DASHES, EDGE_COLOR, LINE_WIDTH, THEORY, Style, styles
from normscope.report.tables import heat_map_text

Json = dict[str, Any]

_FONT = {"family": "system-ui, sans-serif", "size": 13}
_CLEAR = "rgba(0,0,0,0)"


def charts(figure: Figure) -> tuple[Json, ...]:
    """Return one plotly chart, {"data": [...], "layout": {...}}, per panel of `figure`.

    A heat map adds "min_width", the CSS pixels below which its cells cannot hold their text. A trace's `meta` is the
    normalizer it belongs to, by which the page's legend shows and hides it.
    """
    if isinstance(figure, HeatMap):
        return (_heat_map(figure),)
    if isinstance(figure, RasterFigure):
        grid = functools.partial(plotly_raster.chart, layout=_layout, text=_text, numbers=_numbers)
        return tuple(grid(panel) for panel in figure.panels)
    looks = styles(figure.normalizers)
    return tuple(_chart(panel, looks) for panel in figure.panels)


def _chart(panel: Panel, looks: Mapping[str, Style]) -> Json:
    bands = [_band(line, looks[line.normalizer], panel.x) for line in panel.series if line.kind == "measured"]
    lines = [_line(line, THEORY if line.kind == "theory" else looks[line.normalizer], panel.x) for line in panel.series]
    view = {"range": _numbers(map(math.log10, panel.view) if panel.y.log else panel.view)} if panel.view else {}
    marks = {"tickvals": _places(panel.marks, panel.x), "ticktext": [f"{mark:,.0f}" for mark in panel.marks]}
    layout = _layout(_axis(panel.x) | (marks if panel.marks else {}), _axis(panel.y) | view, height=360)
    return {"data": [*filter(None, bands), *lines], "layout": layout}


def _layout(x: Json, y: Json, *, height: int) -> Json:
    return {
        "height": height,
        "margin": {"l": 62, "r": 14, "t": 10, "b": 52},
        "font": _FONT,
        "paper_bgcolor": _CLEAR,
        "plot_bgcolor": _CLEAR,
        "showlegend": False,
        "hovermode": "closest",
        "hoverlabel": {"font": _FONT | {"color": "#ffffff"}, "bgcolor": "#1b1f24", "align": "left"},
        "xaxis": x,
        "yaxis": y,
    }


def _axis(axis: Axis) -> Json:
    log = {"type": "log", "exponentformat": "power"} if axis.log else {"type": "linear"}
    return log | {"title": {"text": _text(axis.label), "standoff": 8}, "zeroline": False, "automargin": True}


def _line(line: Series, look: Style, x: Axis) -> Json:
    thin = 0.7 if look.marker is None else 1
    seeds = [value for _, value in line.seeds]
    true_x = {"text": _numbers(line.x)} if x.shift else {}
    return true_x | {
        "type": "scatter",
        "mode": "lines+markers" if look.marker else "lines",
        "name": _text(line.normalizer),
        "meta": line.normalizer,
        "x": _places(line.x, x),
        "y": _numbers(line.y),
        "customdata": [_numbers(point) for point in zip(line.lo, line.hi, *seeds, strict=True)],
        "hovertemplate": _hover(line, x),
        "hoverlabel": {"bordercolor": look.color},
        "line": {"color": look.color, "width": LINE_WIDTH * thin, "dash": _dash(look)},
        "marker": {"symbol": look.marker or "circle", "size": 7, "maxdisplayed": 12},
    }


def _hover(line: Series, x: Axis) -> str:
    theory = " (theory)" if line.kind == "theory" else ""
    seeds = "<br>".join(f"seed {seed}: %{{customdata[{i + 2}]:.4~g}}" for i, (seed, _) in enumerate(line.seeds))
    interval = "<br>95 %: %{customdata[0]:.4~g} to %{customdata[1]:.4~g}" if len(line.seeds) > 1 else ""
    place = f"{_text(x.label)}: %{{{'text' if x.shift else 'x'}}}<br>mean: %{{y:.4~g}}"
    return f"<b>{_text(line.normalizer)}</b>{theory}<br>{place}{interval}<br>{seeds}<extra></extra>"


def _band(line: Series, look: Style, axis: Axis) -> Json | None:
    """Return the interval as filled outlines, one per unbroken stretch of it; None where there is none."""
    x: list[float] = []
    y: list[float] = []
    points = zip(line.x, line.lo, line.hi, strict=True)
    for broken, stretch in groupby(points, key=lambda point: any(map(math.isnan, point))):
        if not broken:
            at, lo, hi = zip(*stretch, strict=True)
            x += [*at, *reversed(at), math.nan]
            y += [*hi, *reversed(lo), math.nan]
    if not x:
        return None
    return {
        "type": "scatter",
        "mode": "lines",
        "meta": line.normalizer,
        "x": _places(x, axis),
        "y": _numbers(y),
        "fill": "toself",
        "fillcolor": look.color,
        "opacity": BAND_OPACITY,
        "line": {"width": 0},
        "hoverinfo": "skip",
    }


def _heat_map(figure: HeatMap) -> Json:
    rows, columns = range(len(figure.normalizers)), range(len(figure.rates))
    trace = {
        "type": "heatmap",
        "x": list(columns),
        "y": list(rows),
        "z": [_numbers(row) for row in figure.values],
        "text": [[_lines_of(figure, i, j) for j in columns] for i in rows],
        "customdata": [
            [f"{_text(figure.normalizers[i])} at {figure.rates[j]:g}, {figure.trials[i][j]} trials" for j in columns]
            for i in rows
        ],
        "hovertemplate": "%{customdata}<br>%{text}<extra></extra>",
        "hoverongaps": False,
        "colorscale": "Cividis",
        "zmin": 0,
        "zmax": figure.color_max,
        "xgap": 2,
        "ygap": 2,
        "showscale": False,  # every cell says its value
    }
    x, y = _categories(map("{:g}".format, figure.rates)), _categories(figure.normalizers)
    x["title"], y["autorange"] = {"text": _text(figure.x.label)}, "reversed"
    layout = _layout(x, y, height=110 + 40 * len(rows))
    layout["annotations"] = [
        {"x": j, "y": i, "text": _lines_of(figure, i, j), "showarrow": False,
         "font": {"size": 11, "color": figure.ink(i, j)}}
        for i in rows for j in columns
    ]  # fmt: skip
    layout["shapes"] = [
        {"type": "line", "x0": stable - 0.5, "x1": stable - 0.5, "y0": i - 0.5, "y1": i + 0.5,
         "line": {"color": EDGE_COLOR, "width": 5}}
        for i, stable in enumerate(figure.stable) if stable is not None and stable < len(columns)
    ]  # fmt: skip
    return {"data": [trace], "layout": layout, "min_width": 110 + 76 * len(columns)}


def _lines_of(figure: HeatMap, row: int, column: int) -> str:
    return heat_map_text(figure, row, column).replace("\n", "<br>")


def _categories(names: Iterable[str]) -> Json:
    # Ticks on a linear axis rather than a category axis: there a rate "0.1" could be read as the number 0.1.
    labels = [_text(name) for name in names]
    return {"tickvals": list(range(len(labels))), "ticktext": labels, "ticks": "", "showgrid": False, "zeroline": False,
            "automargin": True}  # fmt: skip


def _dash(look: Style) -> str:
    return ",".join(f"{length:g}px" for length in DASHES[look.dash]) or "solid"


def _text(text: str) -> str:
    """Escape what plotly would read as its own markup (it takes <b>, <a> and entities in every label)."""
    return html.escape(text, quote=False)


def _places(values: Iterable[float], axis: Axis) -> list[float | int | None]:
    """Where values stand on an axis that plotly knows as a plain logarithm."""
    return _numbers(value + axis.shift for value in values)


def _numbers(values: Iterable[float]) -> list[float | int | None]:
    """Six significant digits, whole numbers as such, and null (JSON has no NaN or infinity) where not finite."""
    return [_number(float(f"{value:.6g}")) if math.isfinite(value) else None for value in values]


def _number(value: float) -> float | int:
    return int(value) if value.is_integer() and abs(value) < 1e6 else value
