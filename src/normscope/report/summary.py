"""What a comparison found: one row per normalizer, and one per normalizer and learning rate.

Both tables work on what has ended so far, so that they serve a live table as well as a report. A trial that diverged
has no accuracy of its own and counts as accuracy 0, in the choice of the learning rate and in the result; it is never
dropped. The learning rate is chosen on validation accuracy alone: test accuracy is read only where that choice fell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from normscope.report.intervals import t_interval
from normscope.study import records

Recipe = Mapping[str, Any]

_TRIAL = ["normalizer", "lr", "seed"]
_ACCURACIES = ["validation_accuracy", "test_accuracy"]


def trials(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row per ended training trial: normalizer, lr, seed, step, diverged, and its final accuracies.

    `step` is the last step reached. Accuracies are those of the last evaluation; 0 where the trial diverged.
    """
    train = frame[frame["kind"] == "train"]
    ended = train[(train["probe"] == "outcome") & (train["name"] == "diverged")]
    ended = ended[[*_TRIAL, "step"]].assign(diverged=ended["value"].astype(bool))
    evaluations = train[(train["probe"] == "evaluation") & train["name"].isin(_ACCURACIES)].sort_values("step")
    for name in _ACCURACIES:
        final = evaluations[evaluations["name"] == name].drop_duplicates(_TRIAL, keep="last")
        final = final[[*_TRIAL, "value"]].rename(columns={"value": name})
        ended = ended.merge(final, on=_TRIAL, how="left", validate="one_to_one")
        ended.loc[ended["diverged"], name] = 0.0
    return ended.sort_values(_TRIAL, ignore_index=True)


def normalizer_names(frame: pd.DataFrame, recipe: Recipe) -> list[str]:
    """Return every normalizer asked for, in the recipe's order, then any other that has rows."""
    return list(dict.fromkeys([*records.labels(recipe), *frame["normalizer"].unique()]))


def rates(frame: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    """Return one row per normalizer and learning rate of the grid: the numbers of the heat map.

    Columns: normalizer, lr, validation_accuracy (mean over the seeds that ended; NaN where none has), diverged, trials
    (how many have ended).
    """
    ended = trials(frame)
    grid = sorted({*map(float, recipe["lrs"]), *ended["lr"]})
    cells = pd.MultiIndex.from_product([normalizer_names(frame, recipe), grid], names=["normalizer", "lr"])
    groups = ended.groupby(["normalizer", "lr"])
    table = pd.DataFrame(
        {
            "validation_accuracy": groups["validation_accuracy"].mean(),
            "diverged": groups["diverged"].sum(),
            "trials": groups.size(),
        }
    ).reindex(cells)
    return table.fillna({"diverged": 0, "trials": 0}).astype({"diverged": int, "trials": int}).reset_index()


def results(frame: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    """Return one row per normalizer, in the recipe's order.

    Columns:
        normalizer.
        lr: the rate with the highest mean validation accuracy over seeds, a diverged trial counting as 0; of equal
            rates the smallest; NaN before a trial has ended.
        edge: "lowest" or "highest" where `lr` is an end of the grid, so that a better rate may lie outside it; "only"
            where the grid has one rate; else "".
        validation_accuracy: that highest mean.
        test_accuracy, test_low, test_high: mean and 95 % Student-t interval over the seeds at `lr`, a diverged trial
            counting as 0. The interval is NaN for fewer than two seeds, and is not clipped to [0, 1].
        seeds, seeds_diverged: trials at `lr` that ended, and those of them that diverged.
        diverged, trials, planned: trials that diverged, that ended, and that the recipe asks for, over all rates.
    """
    ended, by_rate = trials(frame), rates(frame, recipe)
    rows = [
        {"normalizer": name}
        | _result(ended[ended["normalizer"] == name], by_rate[by_rate["normalizer"] == name], recipe)
        for name in normalizer_names(frame, recipe)
    ]
    return pd.DataFrame(rows, columns=list(RESULT_COLUMNS)).astype(RESULT_COLUMNS)


RESULT_COLUMNS = {
    "normalizer": "str",
    "lr": "float64",
    "edge": "str",
    "validation_accuracy": "float64",
    "test_accuracy": "float64",
    "test_low": "float64",
    "test_high": "float64",
    "seeds": "int64",
    "seeds_diverged": "int64",
    "diverged": "int64",
    "trials": "int64",
    "planned": "int64",
}


def _result(ended: pd.DataFrame, by_rate: pd.DataFrame, recipe: Recipe) -> dict[str, Any]:
    known = by_rate.dropna(subset="validation_accuracy").sort_values("lr")
    # The first of equal maxima is the smallest rate.
    best = int(known["validation_accuracy"].to_numpy().argmax()) if len(known) else None
    lr = np.nan if best is None else float(known["lr"].iloc[best])
    chosen = ended[ended["lr"] == lr]
    mean, low, high = t_interval(chosen["test_accuracy"].to_numpy(np.float64))
    return {
        "lr": lr,
        "edge": _edge(lr, sorted(map(float, recipe["lrs"]))),
        "validation_accuracy": np.nan if best is None else float(known["validation_accuracy"].iloc[best]),
        "test_accuracy": float(mean),
        "test_low": float(low),
        "test_high": float(high),
        "seeds": len(chosen),
        "seeds_diverged": int(chosen["diverged"].sum()),
        "diverged": int(ended["diverged"].sum()),
        "trials": len(ended),
        "planned": len(recipe["lrs"]) * int(recipe["seeds"]),
    }


def _edge(lr: float, grid: list[float]) -> str:
    if len(grid) == 1:
        return "only" if lr in grid else ""
    return {grid[0]: "lowest", grid[-1]: "highest"}.get(lr, "")
