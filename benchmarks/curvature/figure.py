"""Error against products, drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.curvature.problems import OUTLIERS
from benchmarks.curvature.tools import TITLES

PANELS = (
    ("density", "wasserstein", "wasserstein", "density (Wasserstein-1 / range)"),
    ("trace", "error", "trace", "trace (relative)"),
    ("top", "error", "top", "top ten (worst, relative)"),
)
TICKS = (20, 40, 80, 160, 320)


def draw(record: dict[str, Any], path: Path) -> None:
    """Three panels, one line a tool; nothing where no curve was measured. The same JSON gives the same bytes."""
    cells = record["cells"]
    found = {tool: cells.get(f"curves/{OUTLIERS.name}/{tool}", {}).get("value") for tool in TITLES}
    with mpl.rc_context({"svg.hashsalt": "normscope", "font.size": 9}):
        figure = Figure(figsize=(11, 3.6), layout="constrained")
        for axes, (quantity, error, together, title) in zip(figure.subplots(1, 3), PANELS, strict=True):
            for tool, value in found.items():
                if value is not None:
                    line(axes, value["rows"], quantity, error, TITLES[tool], "o-")
                    line(axes, value["rows"], "together", together, f"{TITLES[tool]}, together", "s--")
            axes.set(xscale="log", yscale="log", xlabel="Hessian products", title=title)
            axes.set_xticks(TICKS, labels=map(str, TICKS))
            axes.minorticks_off()
            axes.grid(alpha=0.3)
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
        figure.savefig(path, metadata={"Date": None})


def line(axes: Any, rows: list[dict[str, Any]], quantity: str, error: str, label: str, style: str) -> None:
    values = [row[quantity]["value"] for row in rows if "value" in row[quantity]]
    if values:
        axes.plot([v["products"] for v in values], [v[error] for v in values], style, label=label, markersize=3)
