"""Run one trial and leave its rows: measure a model at initialization, or train one and probe it on the way."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import msgspec

from normscope import files
from normscope.data import Dataset
from normscope.study import folder as folders
from normscope.study import seeds
from normscope.study.curvature import Advance, CurvatureProbes, curvature_batch
from normscope.study.initialization import measure_initialization
from normscope.study.plan import Trial
from normscope.study.recipe import Recipe
from normscope.study.rows import Rows
from normscope.study.training import train


def run(
    folder: Path,
    trial: Trial,
    recipe: Recipe,
    dataset: Dataset,
    *,
    memory_limit: int | None = None,
    advance: Advance = lambda _what, _done, _total: None,
) -> float:
    """Run the trial in its own folder of the run folder, from the beginning; return the seconds it took.

    `memory_limit` is in bytes, for the products of the Hessian; `advance` is told of these as they are done.

    The rows go to a live file as they come, and to Parquet at the end. A training that diverges is a result like any
    other; an exception leaves the folder unfinished.
    """
    started = time.perf_counter()
    place = folder / folders.TRIALS / trial.id
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    folders.write_json(place / folders.TRIAL, {**_plain(trial), "device": str(dataset.train.inputs.device)})
    with (place / folders.LIVE_ROWS).open("w", encoding="utf-8") as live:
        rows = Rows(folder.name, trial, live)
        if trial.kind == "init":
            measure_initialization(trial, recipe, dataset, rows)
        else:
            train(trial, recipe, dataset, rows, _curvature(trial, recipe, dataset, rows, memory_limit, advance))
    files.write(place / folders.ROWS, rows.to_parquet())
    (place / folders.LIVE_ROWS).unlink()
    seconds = time.perf_counter() - started
    folders.seal(place, (folders.TRIAL, folders.ROWS), seconds=seconds)
    return seconds


def _curvature(
    trial: Trial, recipe: Recipe, dataset: Dataset, rows: Rows, memory_limit: int | None, advance: Advance
) -> CurvatureProbes | None:
    if not recipe.measures_curvature:
        return None
    batch = curvature_batch(recipe, dataset, seed=trial.seed)
    return CurvatureProbes(
        trial=trial, recipe=recipe, batch=batch, rows=rows, memory_limit=memory_limit, advance=advance
    )


def _plain(trial: Trial) -> dict[str, object]:
    purposes: tuple[seeds.Purpose, ...] = ("init", "data", "probe")
    derived = {purpose: seeds.derive(trial.seed, purpose) for purpose in purposes}
    return {**msgspec.to_builtins(trial), "generator_seeds": derived}
