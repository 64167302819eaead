"""The report of a paper's item as one HTML page that opens without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from normscope.report import published, study_words, template, words
from normscope.report.specification import Figure
from normscope.study.claims import Verdict
from normscope.study.experiment import Study
from normscope.study.paper import Item, Paper

Record = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What the page of a run shows, read from its folder.

    Attributes:
        beside: the rows of the run and of those that the item's tables read too, told apart by the column `item`.
        planned: number of trials that are known.
        verdicts: what `verdicts.json` holds.
    """

    name: str
    paper: Paper
    item: Item
    study: Study
    frame: pd.DataFrame
    beside: pd.DataFrame
    provenance: Record
    data: Record
    planned: int
    verdicts: Sequence[Verdict]


def render(shown: Shown, figures: Sequence[Figure]) -> str:
    """Return the page of an item's run; see `template.render`."""
    paper, item, study, frame = shown.paper, shown.item, shown.study, shown.frame
    ended = int(frame["trial"].nunique())
    shared, apart = study_words.recipe(study)
    judged = [verdict.claim for verdict in shown.verdicts]
    return template.render(
        "study.html.j2",
        title=f"{item.source}: {item.title}",
        style=("report.css", "study.css"),
        drawn=figures,
        item=item,
        run=shown.name,
        asked=study_words.asked(paper, item, study, shown.data),
        limits=[*study_words.limits(study, ended, shown.planned), *item.notes],
        command=template.command(shown.provenance),
        tables=item.tables(shown.beside, study),
        beside=published.beside(item, frame),
        scale=study.scale,
        verdicts=shown.verdicts,
        waiting=study_words.waiting(paper, item, judged),
        diverged=study_words.divergences(frame),
        ended=ended,
        data=words.facts(shown.data),
        shared=shared,
        apart=apart,
        provenance=words.facts({key: value for key, value in shown.provenance.items() if key != "command"}),
    )
