"""One page for whole papers: every item with its newest run, every claim with its last verdict."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from normscope import files
from normscope.report import published, template
from normscope.report.specification import Figure
from normscope.report.tables import Table
from normscope.study import judging
from normscope.study.claims import Verdict
from normscope.study.judging import Newest, Run
from normscope.study.paper import Item, Paper


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A figure of a run as a still picture."""

    title: str
    caption: str
    png: str  # base64


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownItem:
    """An item as the page shows it; without a run, with what the paper published alone.

    Attributes:
        report: the way from the page to the run's own report; "" without one.
    """

    item: Item
    scale: str
    run: str
    report: str
    pictures: tuple[Picture, ...]
    tables: tuple[Table, ...]
    beside: tuple[published.Beside, ...]


def write_papers(page: str | os.PathLike[str], papers: Sequence[Paper], runs: Newest) -> Path:
    """Write one page about these papers from these runs, and return its path.

    Of an item's runs the one at the largest scale is shown.

    Raises:
        ValueError: the folder of the page does not exist, the page is a folder, or a run is damaged.
    """
    path = Path(page)
    if not path.absolute().parent.is_dir():
        raise ValueError(f"there is no folder {path.parent}; make it, or choose another file for the page.")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name the file that the page is written to.")
    files.write(path, render(papers, runs, place=path.absolute().parent).encode())
    return path


def render(papers: Sequence[Paper], runs: Newest, *, place: Path) -> str:
    """Return the page, which will lie in `place`; see `template.render`."""
    return template.render(
        "paper.html.j2",
        title=papers[0].title if len(papers) == 1 else "Papers as code",
        style=("report.css", "study.css"),
        drawn=None,
        papers=[(paper, _verdicts(paper, runs), _items(paper, runs, place)) for paper in papers],
    )


def _verdicts(paper: Paper, runs: Newest) -> tuple[Verdict, ...]:
    return judging.last_verdicts(paper, runs)


def _items(paper: Paper, runs: Newest, place: Path) -> list[ShownItem]:
    shown = []
    for item in paper.items:
        at = [run for scale in judging.SCALES if (run := runs.get((paper.name, item.name, scale))) is not None]
        shown.append(_with_run(item, at[-1], runs, place) if at else _without_run(item))
    return shown


def _without_run(item: Item) -> ShownItem:
    beside = published.beside(item, None)
    return ShownItem(item=item, scale="", run="", report="", pictures=(), tables=(), beside=beside)


def _with_run(item: Item, run: Run, runs: Newest, place: Path) -> ShownItem:
    frame = run.rows()
    report = run.folder.absolute() / "report.html"
    return ShownItem(
        item=item,
        scale=run.study.scale,
        run=run.name,
        report=quote(Path(os.path.relpath(report, place)).as_posix()) if report.is_file() else "",
        pictures=tuple(_picture(run, figure) for figure in item.figures(frame, run.study)),
        tables=tuple(item.tables(judging.rows_together(run, item.reads, runs), run.study)),
        beside=published.beside(item, frame),
    )


def _picture(run: Run, figure: Figure) -> Picture:
    """The picture that lies in the run folder, or else the same drawn anew."""
    from normscope.report import matplotlib_renderer  # slow to import, and only needed to draw

    drawn = run.folder / "figures" / f"{figure.name}.png"
    png = drawn.read_bytes() if drawn.is_file() else matplotlib_renderer.render(figure, "png")
    return Picture(title=figure.title, caption=figure.caption, png=base64.b64encode(png).decode())
