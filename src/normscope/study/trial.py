"""Run one trial and leave its rows: measure a model at initialization, or train one and measure it on the way."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import get_args

import msgspec

from normscope import files
from normscope.data import Dataset
from normscope.study import folder as folders
from normscope.study import seeds
from normscope.study.comparison import experiment_of
from normscope.study.execution import CheckpointError, execute
from normscope.study.experiment import Experiment, Study
from normscope.study.measuring import Advance, Scene
from normscope.study.plan import Trial
from normscope.study.recipe import Recipe
from normscope.study.rows import Rows


def spelled_out(trial: Trial, recipe: Recipe | Study) -> Experiment:
    """What the trial does."""
    if isinstance(recipe, Study):
        assert trial.experiment is not None
        return trial.experiment
    return experiment_of(trial, recipe)


def run(
    folder: Path,
    trial: Trial,
    recipe: Recipe | Study,
    dataset: Dataset,
    *,
    memory_limit: int | None = None,
    advance: Advance = lambda _what, _done, _total: None,
) -> float:
    """Run the trial in its own folder of the run folder, from its last checkpoint or the beginning; return the seconds.

    `memory_limit` is in bytes, for the products of the Hessian; `advance` is told of these as they are done.

    The rows go to a live file as they come, and to Parquet at the end. A training that diverges is a result like any
    other; an exception leaves the folder unfinished. A checkpoint that cannot be read is set aside, with the reason in
    a file beside it, and the trial begins anew.
    """
    started = time.perf_counter()
    experiment = spelled_out(trial, recipe)
    place = folder / folders.TRIALS / trial.id
    _clear(place)

    def attempt() -> Rows:
        folders.write_json(place / folders.TRIAL, _description(trial, experiment, dataset))
        with (place / folders.LIVE_ROWS).open("w", encoding="utf-8") as live:
            rows = Rows(folder.name, trial, live)
            scene = Scene(experiment=experiment, dataset=dataset, rows=rows, memory_limit=memory_limit, advance=advance)
            execute(scene, place / folders.CHECKPOINT)
        return rows

    try:
        rows = attempt()
    except CheckpointError as error:
        (place / folders.CHECKPOINT).unlink()
        files.write(place / folders.REFUSED, f"{error}\n".encode())
        rows = attempt()
    files.write(place / folders.ROWS, rows.to_parquet())
    for name in (folders.LIVE_ROWS, folders.CHECKPOINT):
        (place / name).unlink(missing_ok=True)
    seconds = time.perf_counter() - started
    folders.seal(place, (folders.TRIAL, folders.ROWS), seconds=seconds)
    return seconds


def _clear(place: Path) -> None:
    """Leave nothing of an earlier attempt but its checkpoint."""
    place.mkdir(parents=True, exist_ok=True)
    for path in place.iterdir():
        if path.name != folders.CHECKPOINT:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _description(trial: Trial, experiment: Experiment, dataset: Dataset) -> dict[str, object]:
    derived = {purpose: seeds.derive(trial.seed, purpose) for purpose in get_args(seeds.Purpose)}
    plain = {name: msgspec.to_builtins(getattr(trial, name)) for name in ("id", "kind", "norm", "lr", "seed")}
    device = str(dataset.train.inputs.device)
    return {**plain, "experiment": msgspec.to_builtins(experiment), "generator_seeds": derived, "device": device}
