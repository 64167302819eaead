"""Rows of runs that never were, in the schema of a real record."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

from normscope.study import COLUMNS

_INTEGERS, _FLOATS = ("seed", "step", "depth"), ("lr", "value", "stderr")

Row = dict[str, Any]


def row(item: str, norm: str, probe: str, name: str, value: float, **more: Any) -> Row:
    """One number; by default of a training at rate 0.1, seed 0, step 0, condition ""."""
    blank = {"kind": "train", "condition": "", "seed": 0, "step": 0, "layer": "", "depth": 0, "stderr": math.nan}
    filled = blank | {"lr": 0.1 if more.get("kind", "train") == "train" else math.nan} | more
    given = {"item": item, "run": f"run-{item}", "normalizer": norm, "probe": probe, "name": name, "value": value}
    parts = (item, filled["condition"], norm, filled["kind"], filled["lr"], filled["seed"])
    trial = "-".join(map(str, parts))
    return {"trial": trial, "unit": "1"} | filled | given


def frame(rows: Iterable[Row]) -> pd.DataFrame:
    """The rows as `ns.load` gives them, with the column `item` that claims see."""
    made = pd.DataFrame(list(rows), columns=[*COLUMNS, "item"])
    kinds = dict.fromkeys(_INTEGERS, "int64") | dict.fromkeys(_FLOATS, "float64")
    return made.astype({name: kinds.get(name, "str") for name in made.columns})


def ended(item: str, norm: str, accuracy: float, *, step: int = 10, validation: float = 0.5, **more: Any) -> list[Row]:
    """A training that ended: its final accuracies, and that it did not diverge."""
    return [
        row(item, norm, "evaluation", "validation_accuracy", validation, step=step, **more),
        row(item, norm, "evaluation", "test_accuracy", accuracy, step=step, **more),
        row(item, norm, "outcome", "diverged", 0.0, step=step, **more),
    ]
