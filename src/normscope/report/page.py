"""The report as one HTML page that opens without a network."""

from __future__ import annotations

import base64
import functools
import hashlib
import shlex
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import pandas as pd
from markupsafe import Markup

from normscope.report import plotly_renderer, summary, tables, words
from normscope.report.specification import Figure, HeatMap
from normscope.report.style import DASHES, LINE_WIDTH, THEORY, styles
from normscope.study import records

STATIC = Path(__file__).parent / "static"

Record = Mapping[str, Any]


def render(
    frame: pd.DataFrame, recipe: Record, provenance: Record, data: Record, figures: Sequence[Figure], *, title: str
) -> str:
    """Return the page: figures, tables, script and style inside it, every text of the record escaped.

    The page carries a Content-Security-Policy under which nothing is loaded and only its own two scripts, known by
    their hashes, run: a name in the record that gets past the escaping still cannot act.
    """
    script, bundle = _static("report.js"), _static("plotly-cartesian.min.js")
    results = summary.results(frame, recipe)
    ended = summary.trials(frame)
    charts = {figure.name: plotly_renderer.charts(figure) for figure in figures}
    return _environment().get_template("report.html.j2").render(
        title=title,
        policy=_policy(script, bundle),
        style=Markup(_static("report.css")),
        script=Markup(script),
        bundle=_packed(bundle),
        asked=words.asked(recipe, data),
        command=_command(provenance),
        provenance=words.facts({key: value for key, value in provenance.items() if key != "command"}),
        recipe=words.facts({**recipe, "norms": records.labels(recipe)}),
        data=words.facts(data),
        results=results.to_dict("records"),
        figures=figures,
        charts=charts,
        diverged=words.divergences(ended),
        diverged_count=int(ended["diverged"].sum()),
        ended=len(ended),
        limits=words.limits(recipe, data, results),
        looks=styles(summary.normalizer_names(frame, recipe)),
        theory=THEORY,
        dashes=DASHES,
        line_width=LINE_WIDTH,
    )  # fmt: skip


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(STATIC, encoding="utf-8"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "separators": (",", ":"), "allow_nan": False}
    environment.filters |= {"short": tables.short, "tables": tables.to_tables, "csv_link": _csv_link}
    environment.tests["heat_map"] = lambda figure: isinstance(figure, HeatMap)
    return environment


@functools.cache
def _static(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


@functools.cache
def _packed(bundle: str) -> str:
    """Deflate to base64: plotly.js alone would be three quarters of the 2 MB that a page may have; so it is a third."""
    return base64.b64encode(zlib.compress(bundle.encode(), 9)).decode()


def _policy(*scripts: str) -> str:
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _csv_link(figure: Figure) -> str:
    return "data:text/csv;charset=utf-8," + quote(tables.to_csv(figure), safe=",.-+ ")


def _command(provenance: Record) -> str:
    command = provenance.get("command", "")
    return command if isinstance(command, str) else shlex.join(command)
