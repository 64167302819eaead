"""Write a report into the run folder it is about."""

from __future__ import annotations

import os
from pathlib import Path

from normscope import files
from normscope.report import figures, matplotlib_renderer, page, tables
from normscope.study import records


def write(run_folder: str | os.PathLike[str]) -> Path:
    """Write `report.html` and `figures/NAME.{png,pdf,csv}` into `run_folder` and return the page's path.

    Only trials that have ended are read, so a report may be written while the run goes on. The same record gives the
    same bytes. Each file is written beside its place and moved there, the page last.

    Raises:
        ValueError: `run_folder` holds no ended trial, or a damaged file (from `normscope.study.records`).
    """
    folder = Path(run_folder)
    frame, recipe = records.load(folder), records.recipe(folder)
    provenance, data = records.provenance(folder), records.data(folder)
    drawn = figures.draw(frame, recipe)
    beside = folder / "figures"
    beside.mkdir(exist_ok=True)
    for figure in drawn:
        files.write(beside / f"{figure.name}.png", matplotlib_renderer.render(figure, "png"))
        files.write(beside / f"{figure.name}.pdf", matplotlib_renderer.render(figure, "pdf"))
        files.write(beside / f"{figure.name}.csv", tables.to_csv(figure).encode())
    html = page.render(frame, recipe, provenance, data, drawn, title=folder.resolve().name)
    files.write(folder / "report.html", html.encode())
    return folder / "report.html"
