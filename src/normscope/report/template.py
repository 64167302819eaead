"""How every page is made: one template, its style and scripts inside it, and a policy that lets only these act."""

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
from markupsafe import Markup

from normscope.report import plotly_renderer, published, tables
from normscope.report.specification import Figure, HeatMap, LineFigure
from normscope.report.style import DASHES, LINE_WIDTH, THEORY, styles

STATIC = Path(__file__).parent / "static"

_SCRIPT, _BUNDLE = "report.js", "plotly-cartesian.min.js"
_NONE = "'none'"


def render(template: str, *, title: str, style: Sequence[str], drawn: Sequence[Figure] | None, **values: Any) -> str:
    """Return a page: figures, tables, scripts and style inside it, every text of a record escaped.

    The page carries a Content-Security-Policy under which nothing is loaded and only its own scripts, known by their
    hashes, run: a name in the record that gets past the escaping still cannot act.

    `style` names its style sheets; `drawn` are the figures that its scripts draw, None for a page without scripts.
    """
    scripts = () if drawn is None else (static(_SCRIPT), static(_BUNDLE))
    charts = None if drawn is None else {figure.name: plotly_renderer.charts(figure) for figure in drawn}
    return _environment().get_template(template).render(
        title=title,
        policy=_policy(*scripts),
        style=Markup("".join(map(static, style))),
        script=Markup(static(_SCRIPT)),
        bundle=_packed(static(_BUNDLE)),
        figures=drawn,
        charts=charts,
        theory=THEORY,
        dashes=DASHES,
        line_width=LINE_WIDTH,
        **values,
    )  # fmt: skip


@functools.cache
def static(name: str) -> str:
    """The text of a file that pages are made of."""
    return (STATIC / name).read_text(encoding="utf-8")


def command(provenance: Mapping[str, Any]) -> str:
    """What started a run, as it would be typed."""
    typed = provenance.get("command", "")
    return typed if isinstance(typed, str) else shlex.join(typed)


@functools.cache
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
    environment.filters |= {
        "short": tables.short,
        "tables": tables.to_tables,
        "csv_link": _csv_link,
        "looks": lambda figure: styles(figure.normalizers),
        "estimate": published.estimate,
    }
    environment.tests["heat_map"] = lambda figure: isinstance(figure, HeatMap)
    environment.tests["line_figure"] = lambda figure: isinstance(figure, LineFigure)
    return environment


@functools.cache
def _packed(bundle: str) -> str:
    """Deflate to base64: plotly.js alone would be three quarters of the 2 MB that a page may have; so it is a third."""
    return base64.b64encode(zlib.compress(bundle.encode(), 9)).decode()


def _policy(*scripts: str) -> str:
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts]
    return (
        f"default-src 'none'; script-src {' '.join(hashes) or _NONE}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _csv_link(figure: Figure) -> str:
    return "data:text/csv;charset=utf-8," + quote(tables.to_csv(figure), safe=",.-+ ")
