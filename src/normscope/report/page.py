"""The report of a comparison as one HTML page that opens without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from normscope.report import summary, template, words
from normscope.report.specification import Figure
from normscope.report.style import styles
from normscope.report.template import STATIC
from normscope.study import records

Record = Mapping[str, Any]

__all__ = ["STATIC", "render"]


def render(
    frame: pd.DataFrame, recipe: Record, provenance: Record, data: Record, figures: Sequence[Figure], *, title: str
) -> str:
    """Return the page of a comparison; see `template.render`."""
    results = summary.results(frame, recipe)
    ended = summary.trials(frame)
    return template.render(
        "report.html.j2",
        title=title,
        style=("report.css",),
        drawn=figures,
        asked=words.asked(recipe, data),
        command=template.command(provenance),
        provenance=words.facts({key: value for key, value in provenance.items() if key != "command"}),
        recipe=words.facts({**recipe, "norms": records.labels(recipe)}),
        data=words.facts(data),
        results=results.to_dict("records"),
        diverged=words.divergences(ended),
        diverged_count=int(ended["diverged"].sum()),
        ended=len(ended),
        limits=words.limits(recipe, data, results),
        looks=styles(summary.normalizer_names(frame, recipe)),
    )
