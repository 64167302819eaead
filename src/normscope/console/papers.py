"""Papers on the command line: the recipe of an item, what its run found, and what is known of every claim."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from normscope.console.progress import clock_time
from normscope.study import folder as folders
from normscope.study import judging, records
from normscope.study.claims import Verdict
from normscope.study.experiment import ScaleName, Study
from normscope.study.judging import Newest, Seconds
from normscope.study.paper import Paper, find, papers, study_of

_WIDTH = 118
_INDENT = 24


def study(name: str, scale: ScaleName, fields: Sequence[str]) -> Study:
    """The recipe of an item, with fields NAME=VALUE set by hand; ValueError for what it does not know."""
    paper, item = find(name)
    overrides: dict[str, str] = {}
    for field in fields:
        key, equals, text = field.partition("=")
        if not (key and equals):
            raise ValueError(f"a field of {item.name} is set by NAME=VALUE, such as data=path/to/data, got {field!r}.")
        if key in overrides:
            raise ValueError(f"{key} must be set once, got {key}={overrides[key]} and {field}.")
        overrides[key] = text
    return study_of(paper, item, scale, overrides)


def write_report(folder: Path) -> Path:
    """Judge the claims that the run decides, if it is of an item; write verdicts and report; return its page."""
    from normscope import report

    if isinstance(records.resolved(folder), Study):
        judging.write(folder / judging.VERDICTS, judging.judge_run(folder))
    return report.write(folder)


def print_item(folder: Path) -> None:
    """Print what a finished run of an item found, and where everything lies."""
    asked = records.resolved(folder)
    assert isinstance(asked, Study)
    _, item = find(f"{asked.paper}/{asked.item}")
    if not (folder / judging.VERDICTS).is_file():
        judging.write(folder / judging.VERDICTS, judging.judge_run(folder))
    print(f"\n{item.source}, scale {asked.scale}: {item.title}")
    for table in item.tables(records.load(folder), asked):
        print(f"\n{table.caption}")
        print("\n".join(_columns([table.header, *table.rows])))
    _print_verdicts(judging.read(folder / judging.VERDICTS))
    places = {"report": folders.REPORT, "figures": "figures", "verdicts": judging.VERDICTS, "record": ""}
    print("\n" + "\n".join(f"{what:<9}{folder / place}" for what, place in places.items()))


def print_papers(names: Sequence[str], runs: Sequence[Path], *, as_json: bool) -> None:
    """Print every item and every claim of these papers; `runs` are run folders, or folders of runs."""
    known = _papers(names)
    newest = _newest(runs)
    if as_json:
        print(json.dumps(_plain(known, newest), indent=2, ensure_ascii=False))
        return
    for paper in known:
        print(f"{paper.title}\n{paper.reference}\n")
        print("\n".join(_items(paper, judging.seconds(paper, newest))))
        print(f"\nnormscope run {paper.name}/ITEM --scale smoke|laptop|paper runs one.")
        _print_verdicts(judging.last_verdicts(paper, newest))
        print()


def write_page(page: Path, names: Sequence[str], runs: Sequence[Path]) -> None:
    """Write the page about these papers, and print its path."""
    from normscope import report

    print(report.write_papers(page, _papers(names), _newest(runs)))


def _papers(names: Sequence[str]) -> list[Paper]:
    """The installed papers of these names, in this order; all for none. ValueError for one that is not there."""
    known = {paper.name: paper for paper in papers()}
    for name in names:
        if name not in known:
            raise ValueError(f"there is no paper {name!r}; installed are {', '.join(known) or 'none'}.")
    return [known[name] for name in dict.fromkeys(names or known)]


def _newest(runs: Sequence[Path]) -> Newest:
    """Of what was named; of runs/ otherwise, where that holds any."""
    usual = Path("runs")
    if runs:
        return judging.newest(runs)
    return judging.newest([usual] if usual.is_dir() and any(usual.rglob(folders.RECIPE)) else [])


def _plain(known: Sequence[Paper], newest: Newest) -> dict[str, Any]:
    items, claims = [], []
    for paper in known:
        took = judging.seconds(paper, newest)
        items += [
            {
                "name": item.name,
                "paper": paper.name,
                "title": item.title,
                "source": item.source,
                "scales": list(item.fields),
                "seconds": took[item.name],
                "notes": list(item.notes),
            }
            for item in paper.items
        ]
        verdicts = judging.last_verdicts(paper, newest)
        claims += [{"paper": paper.name, **judging.plain(verdict)} for verdict in verdicts]
    return {"items": items, "claims": claims}


def _items(paper: Paper, took: Seconds) -> list[str]:
    rows = [("item", "source", "trials took", "title")]
    rows += [(item.name, item.source, _times(took[item.name].items()), item.title) for item in paper.items]
    return _columns(rows)


def _times(took: Iterable[tuple[str, float]]) -> str:
    return ", ".join(f"{scale} {clock_time(seconds)}" for scale, seconds in took) or "–"


def _print_verdicts(verdicts: Iterable[Verdict]) -> None:
    for place, verdict in enumerate(verdicts):
        if not place:
            print("\nclaims")
        print("\n".join(_verdict(verdict)))


def _verdict(verdict: Verdict) -> list[str]:
    from normscope.report.published import estimate

    head = f"{verdict.verdict:<14}{verdict.scale or '–':<{_INDENT - 14}}"
    said = _folded(f"{verdict.statement} ({verdict.source})", head)
    if verdict.verdict != "not judged":
        found = estimate(verdict.mean, verdict.low, verdict.high, verdict.seeds)
        said += _folded(f"{verdict.what}: {found}; claimed {verdict.threshold}")
    return said + (_folded(verdict.remark) if verdict.remark else [])


def _folded(text: str, head: str = "") -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=f"{head:<{_INDENT}}", subsequent_indent=" " * _INDENT)


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
