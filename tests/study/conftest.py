"""A comparison small enough to run many times, and one unbroken run of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from normscope.study import InlineEngine, Options, Recipe, compare, load

TINY = Options(
    model="mlp",
    depth=2,
    width=8,
    norms=("batchnorm", "regnorm"),
    lrs=(0.1, 1.0),
    seeds=1,
    steps=4,
    batch_size=8,
    max_train=48,
    max_eval=16,
    scale="smoke",
)


def no_report(folder: Path) -> Path:
    return folder


def run(recipe: Recipe, out: Path, **changes: Any) -> Path:
    given = {"engine": InlineEngine(), "command": "test", "write_report": no_report} | changes
    return compare(recipe, out=out, **given)


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    return TINY.resolve()


@pytest.fixture(scope="session")
def unbroken(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run folder. Tests must not change it."""
    return run(recipe, tmp_path_factory.mktemp("unbroken"))


@pytest.fixture(scope="session")
def same_numbers(unbroken: Path) -> Callable[[Path], None]:
    """Assert that a run folder holds the unbroken run's rows, bit for bit."""
    expected = load(unbroken)

    def check(folder: Path) -> None:
        pd.testing.assert_frame_equal(load(folder), expected, check_exact=True)
        for path in sorted((unbroken / "trials").glob("*/rows.parquet")):
            assert (folder / path.relative_to(unbroken)).read_bytes() == path.read_bytes()

    return check
