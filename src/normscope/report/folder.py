"""Write a report into the run folder it is about."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from normscope import files
from normscope.report import figures, page, study_page, tables
from normscope.report.specification import Figure
from normscope.study import judging, records
from normscope.study.experiment import Study
from normscope.study.paper import find


def write(run_folder: str | os.PathLike[str]) -> Path:
    """Write `report.html` and `figures/NAME.{png,pdf,csv}` into `run_folder` and return the page's path.

    Tables of an item lie beside its figures, as `figures/ITEM-table1.csv` and on.

    The folder is that of a comparison or of a paper's item. Only trials that have ended are read, so a report may be
    written while the run goes on. The same record gives the same bytes. Each file is written beside its place and moved
    there, the page last.

    Raises:
        ValueError: `run_folder` holds no run or a damaged file (from `normscope.study.records`), or its paper is not
            installed.
    """
    from normscope.report import (
        matplotlib_renderer,
    )  # slow to import, and only needed to draw

    folder = Path(run_folder)
    drawn, written, html = _item(folder) if records.recipe(folder)["kind"] == "study" else _comparison(folder)
    beside = folder / "figures"
    beside.mkdir(exist_ok=True)
    for figure in drawn:
        files.write(beside / f"{figure.name}.png", matplotlib_renderer.render(figure, "png"))
        files.write(beside / f"{figure.name}.pdf", matplotlib_renderer.render(figure, "pdf"))
        files.write(beside / f"{figure.name}.csv", tables.to_csv(figure).encode())
    for name, table in written.items():
        files.write(beside / f"{name}.csv", tables.table_to_csv(table).encode())
    files.write(folder / "report.html", html.encode())
    return folder / "report.html"


_Written = tuple[Sequence[Figure], Mapping[str, tables.Table], str]


def _comparison(folder: Path) -> _Written:
    frame, recipe = records.load(folder), records.recipe(folder)
    provenance, data = records.provenance(folder), records.data(folder)
    drawn = figures.draw(frame, recipe)
    return drawn, {}, page.render(frame, recipe, provenance, data, drawn, title=folder.resolve().name)


def _item(folder: Path) -> _Written:
    study = records.resolved(folder)
    assert isinstance(study, Study)
    paper, item = find(f"{study.paper}/{study.item}")
    verdicts = folder / judging.VERDICTS
    shown = study_page.Shown(
        name=folder.resolve().name,
        paper=paper,
        item=item,
        study=study,
        frame=records.load(folder),
        beside=judging.rows_beside(folder, item.reads),
        provenance=records.provenance(folder),
        data=records.data(folder),
        planned=len(records.trials(folder, study)),
        verdicts=judging.read(verdicts) if verdicts.is_file() else (),
    )
    drawn: Sequence[Figure] = item.figures(shown.frame, study)
    numbered = enumerate(item.tables(shown.beside, study), start=1)
    written = {f"{item.name}-table{number}": table for number, table in numbered}
    return drawn, written, study_page.render(shown, drawn)
