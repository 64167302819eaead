"""Read what runs left behind. Reports read records only through here; nothing imports torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from normscope.study import folder as folders
from normscope.study import recipe as recipes
from normscope.study import rows
from normscope.study.experiment import Norm, Study
from normscope.study.plan import Trial, plan, second_stage
from normscope.study.rows import COLUMNS

if TYPE_CHECKING:
    import pandas as pd

_RUN_NAME = re.compile(r"[a-z0-9-]+-[0-9a-f]{12}")  # a folder that a person renamed makes no claim about its recipe

__all__ = ["COLUMNS", "data", "finished", "labels", "load", "load_trials", "provenance", "recipe", "resolved", "trials"]


def load(path: str | Path) -> pd.DataFrame:
    """Every row of every finished trial of every run at or below `path`, in long form with the columns `COLUMNS`.

    `lr` is NaN for measurements at initialization, `stderr` where there is none; `layer` is "" and `depth` 0 where a
    number belongs to the whole network. Raises ValueError where no run is found, or where a file is damaged.
    """
    contents = []
    for folder in folders.run_folders(Path(path)):
        contents += _parquet_files(folder, trials(folder, resolved(folder)))
    return rows.frame(contents)


def trials(folder: Path, recipe: recipes.Recipe | Study) -> tuple[Trial, ...]:
    """Every trial that is known now: a study's final stage is, once its first has ended."""
    first = plan(recipe)
    if not isinstance(recipe, Study) or recipe.final is None or len(finished(folder, first)) < len(first):
        return first
    return (*first, *second_stage(recipe, _scores(load_trials(folder, first))))


def load_trials(folder: Path, trials: Iterable[Trial]) -> pd.DataFrame:
    """Rows of those of the trials that are finished."""
    return rows.frame(_parquet_files(folder, trials))


def recipe(folder: str | Path) -> dict[str, Any]:
    """The resolved recipe of a run folder, in its plain form."""
    plain: dict[str, Any] = msgspec.to_builtins(resolved(Path(folder)))
    return plain


def labels(recipe: Mapping[str, Any]) -> list[str]:
    """What the rows call each normalizer of a recipe in its plain form."""
    return [msgspec.convert(norm, Norm).label for norm in recipe["norms"]]


def resolved(folder: Path) -> recipes.Recipe | Study:
    """The resolved recipe of a run folder; ValueError where it is damaged or not the one the folder is named after."""
    path = folder / folders.RECIPE
    remedy = "put the recipe back, or move the run folder away and run the comparison again"
    try:
        found = _from_plain(folders.read_json(path))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {str(error).rstrip('.')}; {remedy}.") from None
    name = folder.resolve().name
    if _RUN_NAME.fullmatch(name) and name != found.folder_name:
        raise ValueError(f"{path} is not the recipe {name} was made with; {remedy}.")
    return found


def _from_plain(fields: dict[str, Any]) -> recipes.Recipe | Study:
    if fields.get("kind") == "study":
        try:
            return msgspec.convert(fields, Study)
        except msgspec.ValidationError as error:
            raise ValueError(f"this is not a recipe of a study: {error}.") from None
    found = recipes.from_plain(fields)
    recipes.check(found)
    return found


def _scores(rows: pd.DataFrame) -> dict[str, float]:
    """Final validation accuracy of each trial by id; 0 where it diverged."""
    outcome = rows[(rows["probe"] == "outcome") & (rows["name"] == "diverged")].set_index("trial")["value"]
    evaluated = rows[(rows["probe"] == "evaluation") & (rows["name"] == "validation_accuracy")]
    last = evaluated.sort_values("step").groupby("trial")["value"].last()
    accuracies = last.reindex(outcome.index).fillna(0.0).where(outcome == 0, 0.0)
    return {str(trial): float(value) for trial, value in accuracies.items()}


def provenance(folder: str | Path) -> dict[str, Any]:
    """With which command, versions, machine and source the run was made."""
    return folders.read_json(Path(folder) / folders.PROVENANCE)


def data(folder: str | Path) -> dict[str, Any]:
    """Which data the run saw: name, SHA-256, sizes, classes, and a note on how they were split."""
    return folders.read_json(Path(folder) / folders.DATA)


def finished(folder: Path, trials: Iterable[Trial]) -> dict[str, float]:
    """Seconds that each finished trial took, by trial id; ValueError where one's files are damaged."""
    places = {trial.id: folder / folders.TRIALS / trial.id for trial in trials}
    return {name: folders.check_trial(place) for name, place in places.items() if folders.is_sealed(place)}


def _parquet_files(folder: Path, trials: Iterable[Trial]) -> list[bytes]:
    chosen = list(trials)
    done = finished(folder, chosen)
    return [(folder / folders.TRIALS / trial.id / folders.ROWS).read_bytes() for trial in chosen if trial.id in done]
