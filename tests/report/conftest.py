"""A comparison that never ran, written down as a run folder would hold it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from normscope import report
from normscope.report import figures, folder
from report import synthetic


@pytest.fixture(scope="session")
def recipe() -> dict:
    return synthetic.recipe()


@pytest.fixture(scope="session")
def frame(recipe) -> pd.DataFrame:
    """The default comparison; `none` diverges at every seed of 0.3, `layernorm` at one, nothing else does."""
    return synthetic.comparison(recipe, diverges=lambda norm, lr, seed: lr == 0.3 and (norm, seed) in DIVERGED)


DIVERGED = {("none", 0), ("none", 1), ("none", 2), ("layernorm", 1)}


@pytest.fixture(scope="session")
def drawn(frame, recipe):
    return {figure.name: figure for figure in figures.draw(frame, recipe)}


@pytest.fixture(scope="module")
def page(frame, recipe, tmp_path_factory) -> Iterator[Path]:
    """A written report; while it is used, the reader finds this comparison in any folder."""
    run = tmp_path_factory.mktemp("runs") / "compare-0123456789ab"
    run.mkdir()
    record = {"load": frame, "recipe": recipe, "provenance": synthetic.PROVENANCE, "data": synthetic.DATA}
    with pytest.MonkeyPatch.context() as patch:
        for name, content in record.items():
            patch.setattr(folder.records, name, lambda _folder, content=content: content)
        yield report.write(run)
