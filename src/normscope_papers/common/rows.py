"""What claims, tables and figures read from the rows of a record: few functions from rows to numbers per seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from normscope.study import Effect

if TYPE_CHECKING:
    import pandas as pd

Table = TypeVar("Table", "pd.DataFrame", "pd.Series[float]")

Score = Literal["validation_accuracy", "validation_loss"]
_GROUP = ["run", "normalizer", "condition"]


def pick(rows: pd.DataFrame, **where: Any) -> pd.DataFrame:
    """The rows whose columns equal these values, or are among them where a value is a list.

    A frame of one item has no column `item`; asked for by item, all its rows are that item's.
    """
    for column, value in where.items():
        if column == "item" and column not in rows:
            continue
        rows = rows[rows[column].isin(value) if isinstance(value, list) else rows[column] == value]
    return rows


def at_chosen_rate(frame: pd.DataFrame, item: str, *, by: Score = "validation_accuracy") -> pd.DataFrame:
    """The rows of an item that its results are read from: each group at the learning rate that validation chose.

    A group are the trials of one run with the same normalizer and condition. Of a run with a final stage, that
    stage; of another, the trials at the rate with the best mean final score over seeds (a diverged trial counting
    as accuracy 0, or as infinite loss; of equal rates the smallest). Trials without training have no rate, and stay.
    """
    rows = pick(frame, item=item)
    final = rows["trial"].str.startswith("final-")
    staged = rows["run"].isin(rows.loc[final, "run"].unique())
    trained = rows["kind"] == "train"
    return rows[~trained | final | (trained & ~staged & _at_best_rate(rows, by))]


def _at_best_rate(rows: pd.DataFrame, by: Score) -> pd.Series[bool]:
    only = rows.groupby(_GROUP)["lr"].transform("nunique") <= 1
    if only.all():
        return only
    means = final_values(rows, by).groupby([*_GROUP, "lr"])["value"].mean().reset_index()
    ascending = by == "validation_loss"
    best = means.sort_values(["value", "lr"], ascending=[ascending, True]).drop_duplicates(_GROUP)
    chosen = rows[[*_GROUP]].merge(best, on=_GROUP, how="left")["lr"].to_numpy()
    return only | (rows["lr"] == chosen)


def final_values(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """The last value of an evaluation for each trained trial: columns run, normalizer, condition, lr, seed, value.

    A trial that diverged has accuracy 0 and an infinite loss; one that was never evaluated is not there.
    """
    import pandas as pd

    trial = [*_GROUP, "lr", "seed"]
    trained = rows[rows["kind"] == "train"]
    evaluated = pick(trained, probe="evaluation", name=name).sort_values("step").drop_duplicates(trial, keep="last")
    ended = pick(trained, probe="outcome", name="diverged")
    worst = np.inf if name.endswith("loss") else 0.0
    lost = ended[ended["value"] > 0].assign(value=worst)
    both = pd.concat([lost[[*trial, "value"]], evaluated[[*trial, "value"]]])
    return both.drop_duplicates(trial)  # what diverged comes first


def last(rows: pd.DataFrame, column: Literal["step", "depth"]) -> pd.DataFrame:
    """The rows of each trial with its largest step, or at its deepest site."""
    return rows[rows[column] == rows.groupby("trial")[column].transform("max")]


def wide(rows: pd.DataFrame, names: Sequence[str], *, along: Sequence[str] = ()) -> pd.DataFrame:
    """Mean values with one column per normalizer, and one row per seed (and per `along`); NaN where there is none."""
    means = rows.groupby(["seed", *along, "normalizer"])["value"].mean()
    table: pd.DataFrame = means.unstack("normalizer").reindex(columns=list(dict.fromkeys(names)))
    return table


def at(table: Table, step: int | None) -> Table:
    """The rows of a table by (seed, step) at a step, by seed; None for the last step that any of them has."""
    steps = table.index.get_level_values("step")
    wanted = steps.max() if step is None else step
    return table[steps == wanted].droplevel("step")


def by_seed(rows: pd.DataFrame, reduce: Callable[[pd.DataFrame], float]) -> pd.Series[float]:
    """One number for the rows of each seed, by the index `seed`; NaN where they cannot tell."""
    import pandas as pd

    found = {seed: reduce(own) for seed, own in rows.groupby("seed")}
    return pd.Series(found, dtype=float).rename_axis("seed")


def log(values: Table, *, base: float = math.e, of_zero: float = math.nan) -> Table:
    """The logarithm of each value; NaN of a negative one, and `of_zero` of 0."""

    def of(value: float) -> float:
        if value > 0:
            return math.log(value) / math.log(base)
        return of_zero if value == 0 else math.nan

    return values.map(of)


def effect(what: str, values: pd.Series[float], *, unit: str = "1") -> Effect:
    """The mean of a series by its index level `seed`; NaN for a seed that misses a value it needs."""
    means = values.groupby("seed").mean() if len(values) else values
    return Effect(what=what, unit=unit, by_seed={int(str(seed)): float(value) for seed, value in means.items()})


def nothing(what: str, *, unit: str = "1") -> Effect:
    """An effect that these rows cannot tell."""
    return Effect(what=what, unit=unit, by_seed={})
