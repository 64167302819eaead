"""The driver of a comparison or study: from a recipe to a finished run folder, from wherever an attempt stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from normscope import files
from normscope.study import folder as folders
from normscope.study import records
from normscope.study.engine import Advanced, Engine, Failed, Finished, Started, TrialEvent
from normscope.study.experiment import Study
from normscope.study.plan import Trial
from normscope.study.recipe import Recipe, check

if TYPE_CHECKING:
    from normscope.study.cost import Cost


@dataclass(frozen=True, slots=True)
class Planned:
    """The run folder stands, and these trials are to do; `finished` has the seconds of those done before, by id.

    Told again where a study's first stage has decided what its final one is.

    `cost` says what products with the Hessian will take, where there are any.
    """

    folder: Path
    recipe: Recipe | Study
    trials: tuple[Trial, ...]
    finished: dict[str, float]
    cost: Cost | None = None


@dataclass(frozen=True, slots=True)
class Reporting:
    """Every trial is done; the report is being written."""

    folder: Path


Event: TypeAlias = Planned | TrialEvent | Reporting

__all__ = [
    "Advanced",
    "Event",
    "Failed",
    "Finished",
    "Planned",
    "Reporting",
    "Started",
    "TrialsFailedError",
    "compare",
    "run_folder",
]


class TrialsFailedError(RuntimeError):
    """Some trials ended without a result; the others are kept, and the same command tries the failed ones again."""


def run_folder(recipe: Recipe | Study, out: Path) -> Path:
    """Where the comparison lies under `out`."""
    return out / recipe.folder_name


def compare(
    recipe: Recipe | Study,
    *,
    out: Path,
    engine: Engine,
    command: str,
    write_report: Callable[[Path], object],
    listen: Callable[[Event], None] = lambda _event: None,
) -> Path:
    """Run whatever of the comparison is not yet done, and write its report; return the run folder.

    A comparison that is finished costs nothing but the check of its files. One that was stopped goes on where it was:
    finished trials are kept and the others run again from their beginning, with the same numbers bit for bit.

    Args:
        recipe: what to compare, or to run.
        out: folder of run folders; made where it is missing, after everything else was found right.
        engine: where the trials run.
        command: what started this, as it would be typed; kept as provenance.
        write_report: makes figures and report from the rows of the folder once all trials are done, such as
            `normscope.report.write`.
        listen: told what happens, as it happens.

    Raises:
        ValueError: bad input, a damaged or foreign file in the run folder, or another process at work in it.
        OSError: the disk is full or cannot be written to; what is finished is kept.
        TrialsFailedError: some trials ended by an exception or with their process; the others are finished.
    """
    if isinstance(recipe, Recipe):
        check(recipe)
    if folders.is_run_folder(out):
        raise ValueError(f"{out} is itself a run folder; name the folder above it, or another one, with --out.")
    folder = run_folder(recipe, out)
    if is_finished(folder, recipe):
        return folder
    folders.refuse_driven(folder)
    prepared = _prepare(recipe, folder, engine, command) if _unfinished(folder, recipe) else None
    with folders.driving(folder):
        if prepared is not None:
            _write_head(folder, recipe, prepared)
        known = 0
        while len(trials := records.trials(folder, recipe)) > known:  # a study's first stage decides on its final one
            known = len(trials)
            finished = records.finished(folder, trials)
            listen(Planned(folder, recipe, trials, finished, None if prepared is None else prepared.cost))
            _run(engine, folder, [trial for trial in trials if trial.id not in finished], listen)
        listen(Reporting(folder))
        write_report(folder)
        folders.seal(folder, (folders.RECIPE, folders.PROVENANCE, folders.DATA), seconds=_seconds(folder, trials))
    return folder


def is_finished(folder: Path, recipe: Recipe | Study) -> bool:
    """Whether the folder holds this comparison, finished and undamaged.

    Raises:
        ValueError: it holds another recipe, or a file of it is damaged; the file and the remedy are named.
    """
    if not folders.is_run_folder(folder):
        return False
    if records.resolved(folder) != recipe:
        raise ValueError(f"{folder / folders.RECIPE} is another recipe; move its folder away, or choose another --out.")
    trials = records.trials(folder, recipe)
    done = records.finished(folder, trials)
    if not folders.is_sealed(folder):
        return False
    folders.check_run(folder)
    return len(done) == len(trials)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Head of a run folder, ready to be written: which data, how this session was started, and what it will cost."""

    data: dict[str, Any]
    provenance: dict[str, Any]
    cost: Cost | None


def _prepare(recipe: Recipe | Study, folder: Path, engine: Engine, command: str) -> _Prepared:
    """Try out everything the recipe names, before a folder is made or a trial begun."""
    from normscope.study import cost, preparation, provenance

    if isinstance(recipe, Study):
        datasets = preparation.try_out_study(recipe)
        description = preparation.describe_all(datasets)
    else:
        datasets = {recipe.dataset: preparation.try_out(recipe)}
        description = preparation.describe(datasets[recipe.dataset])
    if folders.is_run_folder(folder) and records.data(folder)["sha256"] != description["sha256"]:
        raise ValueError(
            f"the data set {description['name']} is not the one {folder} was begun with (its SHA-256 differs); "
            "bring the old data back, or choose another --out."
        )
    means = engine.describe()
    made_with = provenance.describe(command=command, device=preparation.device_name(), engine=means)
    expected = cost.estimate(recipe, datasets, engine) if recipe.measures_curvature else None
    return _Prepared(description, made_with, expected)


def _write_head(folder: Path, recipe: Recipe | Study, prepared: _Prepared) -> None:
    """Write data, provenance and, last, the recipe, which makes it a run folder; later sessions add themselves."""
    if folders.is_run_folder(folder):
        first = records.provenance(folder)
        resumed = [*first.get("resumed", []), prepared.provenance]
        folders.write_json(folder / folders.PROVENANCE, {**first, "resumed": resumed})
        return
    folders.write_json(folder / folders.DATA, prepared.data)
    folders.write_json(folder / folders.PROVENANCE, prepared.provenance)
    files.write(folder / folders.RECIPE, recipe.to_json())


def _run(engine: Engine, folder: Path, trials: Sequence[Trial], listen: Callable[[Event], None]) -> None:
    """Run the trials to the last, whatever becomes of some of them; a full disk alone stops the rest."""
    failures: list[Failed] = []
    with closing(engine.run(folder, trials)) as events:
        for event in events:
            listen(event)
            if isinstance(event, Failed):
                failures.append(event)
                if event.fatal:
                    raise OSError(f"{event.trial}: {event.reason}")
    if failures:
        first = failures[0]
        raise TrialsFailedError(
            f"{len(failures)} of {len(trials)} trials failed, first {first.trial}: {first.reason}; tracebacks are in "
            f"{folder / folders.TRIALS}/*/{folders.ERROR}, and the same command tries these trials again."
        )


def _unfinished(folder: Path, recipe: Recipe | Study) -> bool:
    if not folders.is_run_folder(folder):
        return True
    trials = records.trials(folder, recipe)
    return len(records.finished(folder, trials)) < len(trials)


def _seconds(folder: Path, trials: Sequence[Trial]) -> float:
    return sum(records.finished(folder, trials).values())
