"""Grids of colored cells as plotly.js charts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from normscope.report.specification import Axis, Raster

Json = dict[str, Any]

_TICKS = 8  # about as many on an axis
# Those of the still picture, RdBu reversed; plotly's own scale of that name has a grey middle.
_SIGNED = [[0.0, "#053061"], [0.25, "#4393c3"], [0.5, "#f7f7f7"], [0.75, "#d6604d"], [1.0, "#67001f"]]


def chart(
    panel: Raster,
    *,
    layout: Callable[..., Json],
    text: Callable[[str], str],
    numbers: Callable[[Iterable[float]], list[float | int | None]],
) -> Json:
    """One grid as a chart; `layout`, `text` and `numbers` are those of every chart."""
    low, high = panel.limits
    value = "10^(%{z:.3~f})" if panel.color.log else "%{z:.4~g}"
    hover = f"{text(panel.x.label)}: %{{x}}<br>{text(panel.y.label)}: %{{y}}<br>{text(panel.color.label)}: {value}"
    bar: Json = {"title": {"text": text(panel.color.label), "side": "right"}, "thickness": 14}
    trace = {
        "type": "heatmap",
        "x": _labels(panel.xs),
        "y": _labels(panel.ys),
        "z": [numbers(row) for row in panel.shown],
        "zmin": low,
        "zmax": high,
        "colorscale": _SIGNED if panel.signed else "Cividis",
        "hoverongaps": False,
        "hovertemplate": f"{hover}<extra></extra>",
        "colorbar": bar | (_marks(panel) if panel.marks else {}),
    }
    return {"data": [trace], "layout": layout(_axis(panel.x, text), _axis(panel.y, text), height=360)}


def _marks(panel: Raster) -> Json:
    return {"tickvals": [at for at, _ in panel.marks], "ticktext": [text for _, text in panel.marks]}


def _labels(places: Iterable[float]) -> list[str]:
    return [f"{place:.10g}" for place in places]


def _axis(axis: Axis, text: Callable[[str], str]) -> Json:
    # Categories, so that cells stand side by side; said outright, or plotly would take "0.1" for a number.
    title = {"text": text(axis.label), "standoff": 8}
    return {"type": "category", "nticks": _TICKS, "title": title, "showgrid": False, "automargin": True}
